//! Creating rooms, sending messages, setting and reading state.

use http::{Method, StatusCode};
use serde_json::{Value, json};
use wick_harness::{TestServer, User};

const V3: &str = "/_matrix/client/v3";

fn errcode(body: &Value) -> &str {
    body["errcode"].as_str().unwrap_or_default()
}

pub(crate) fn text(body: &Value, key: &str) -> String {
    body.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

pub(crate) async fn create(server: &TestServer, user: &User, body: Value) -> String {
    let (status, answer) = server.post(&format!("{V3}/createRoom"), &user.token, body).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    text(&answer, "room_id")
}

pub(crate) async fn state(server: &TestServer, user: &User, room: &str, path: &str) -> Value {
    let path = format!("{V3}/rooms/{room}/state/{path}");
    let (status, body) = server.get(&path, &user.token).await;
    assert_eq!(status, StatusCode::OK, "{path}: {body}");
    body
}

pub(crate) async fn set_state(
    server: &TestServer,
    user: &User,
    (room, path): (&str, &str),
    content: Value,
) -> (u16, Value) {
    let path = format!("{V3}/rooms/{room}/state/{path}");
    let (status, body) = server.put(&path, &user.token, content).await;
    (status.as_u16(), body)
}

pub(crate) async fn say(server: &TestServer, user: &User, room: &str, what: &str) -> String {
    let path = format!("{V3}/rooms/{room}/send/m.room.message/{what}");
    let content = json!({ "msgtype": "m.text", "body": what });
    let (status, body) = server.put(&path, &user.token, content).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    text(&body, "event_id")
}

pub(crate) async fn act(
    server: &TestServer,
    user: &User,
    (room, what): (&str, &str),
    body: Value,
) -> (u16, Value) {
    let path = format!("{V3}/rooms/{room}/{what}");
    let (status, body) = server.post(&path, &user.token, body).await;
    (status.as_u16(), body)
}

#[tokio::test]
async fn a_preset_decides_who_may_join() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    for (body, join_rule, guests) in [
        (json!({}), "invite", Some("can_join")),
        (json!({ "visibility": "public" }), "public", None),
        (json!({ "preset": "private_chat" }), "invite", Some("can_join")),
        (json!({ "preset": "trusted_private_chat" }), "invite", Some("can_join")),
        (json!({ "preset": "public_chat" }), "public", None),
        (json!({ "preset": "private_chat", "visibility": "public" }), "invite", Some("can_join")),
    ] {
        let room = create(&server, &alice, body).await;
        let content = state(&server, &alice, &room, "m.room.join_rules").await;
        assert_eq!(content["join_rule"], join_rule);
        let path = format!("{V3}/rooms/{room}/state/m.room.guest_access/");
        let (_, content) = server.get(&path, &alice.token).await;
        assert_eq!(content["guest_access"].as_str(), guests);
        let content = state(&server, &alice, &room, "m.room.history_visibility").await;
        assert_eq!(content["history_visibility"], "shared");
    }
}

#[tokio::test]
async fn a_room_begins_with_everything_it_was_asked_for() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    server.register("bob").await;
    let body = json!({
        "name": "A name", "topic": "A topic", "room_alias_name": "here", "visibility": "public",
        "invite": ["@bob:localhost"], "is_direct": true, "room_version": "11",
        "creation_content": { "m.federate": false, "type": "m.space", "room_version": "1",
                              "creator": "@bob:localhost", "org.example": 1 },
        "initial_state": [
            { "type": "m.room.topic", "content": { "topic": "overridden" } },
            { "type": "m.room.join_rules", "state_key": "", "content": { "join_rule": "knock" } },
            { "type": "org.example.any", "state_key": "key", "content": { "any": "thing" } },
        ],
        "power_level_content_override": { "invite": 7 },
    });
    let room = create(&server, &alice, body).await;
    let content = state(&server, &alice, &room, "m.room.create").await;
    let expected =
        json!({ "room_version": "11", "m.federate": false, "type": "m.space", "org.example": 1 });
    assert_eq!(content, expected);
    assert_eq!(state(&server, &alice, &room, "m.room.name").await, json!({ "name": "A name" }));
    let topic = state(&server, &alice, &room, "m.room.topic").await;
    assert_eq!(topic["topic"], "A topic");
    assert_eq!(topic["m.topic"]["m.text"][0]["body"], "A topic");
    let rules = state(&server, &alice, &room, "m.room.join_rules").await;
    assert_eq!(rules["join_rule"], "knock");
    let any = state(&server, &alice, &room, "org.example.any/key").await;
    assert_eq!(any, json!({ "any": "thing" }));
    let alias = state(&server, &alice, &room, "m.room.canonical_alias").await;
    assert_eq!(alias["alias"], "#here:localhost");
    let levels = state(&server, &alice, &room, "m.room.power_levels").await;
    assert_eq!((&levels["invite"], &levels["users"]["@alice:localhost"]), (&json!(7), &json!(100)));
    let bob = state(&server, &alice, &room, "m.room.member/@bob:localhost").await;
    let expected = json!({ "membership": "invite", "displayname": "bob", "is_direct": true });
    assert_eq!(bob, expected);
}

#[tokio::test]
async fn what_makes_no_room_is_refused_and_leaves_nothing() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    create(&server, &alice, json!({ "room_alias_name": "taken" })).await;
    let invited = json!({ "room_alias_name": "free", "invite": ["@bob:elsewhere.test"] });
    for (body, expected) in [
        (json!({ "room_version": 1 }), (400, "M_BAD_JSON")),
        (json!({ "room_version": "99" }), (400, "M_UNSUPPORTED_ROOM_VERSION")),
        (json!({ "room_alias_name": "taken" }), (400, "M_ROOM_IN_USE")),
        (json!({ "room_alias_name": "a:b" }), (400, "M_INVALID_PARAM")),
        (json!({ "room_alias_name": "" }), (400, "M_INVALID_PARAM")),
        (json!({ "preset": "nonsense" }), (400, "M_INVALID_PARAM")),
        (json!({ "name": 1 }), (400, "M_BAD_JSON")),
        (json!({ "name": "x".repeat(70_000) }), (413, "M_TOO_LARGE")),
        (json!({ "creation_content": { "type": 1 } }), (400, "M_BAD_JSON")),
        (json!({ "creation_content": { "additional_creators": "@a:b" } }), (400, "M_BAD_JSON")),
        (json!({ "creation_content": { "additional_creators": ["a"] } }), (400, "M_BAD_JSON")),
        (
            json!({ "room_version": "12", "power_level_content_override": { "users": { "@alice:localhost": 1 } } }),
            (400, "M_BAD_JSON"),
        ),
        (
            json!({ "room_version": "11", "power_level_content_override": { "users": {} } }),
            (400, "M_BAD_JSON"),
        ),
        (json!({ "power_level_content_override": { "ban": "50" } }), (400, "M_BAD_JSON")),
        (
            json!({ "initial_state": [{ "type": "m.room.create", "content": {} }] }),
            (400, "M_INVALID_PARAM"),
        ),
        (json!({ "initial_state": [{ "type": "org.example" }] }), (400, "M_BAD_JSON")),
        (
            json!({ "initial_state": [{ "type": "a", "content": { "a": 0.5 } }] }),
            (400, "M_BAD_JSON"),
        ),
        (invited, (403, "M_FORBIDDEN")),
    ] {
        let (status, answer) =
            server.post(&format!("{V3}/createRoom"), &alice.token, body.clone()).await;
        assert_eq!((status.as_u16(), errcode(&answer)), expected, "{body}: {answer}");
    }
    create(&server, &alice, json!({ "room_alias_name": "free" })).await;
}

#[tokio::test]
async fn in_version_12_creators_stand_above_power_levels() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let (bob, _) = (server.register("bob").await, server.register("carol").await);
    let body = json!({
        "preset": "trusted_private_chat", "invite": ["@bob:localhost"], "room_version": "12",
        "creation_content": { "additional_creators": ["@carol:localhost", "@alice:localhost"] },
    });
    let room = create(&server, &alice, body).await;
    let content = state(&server, &alice, &room, "m.room.create").await;
    assert_eq!(content["additional_creators"], json!(["@carol:localhost", "@bob:localhost"]));
    let event = state(&server, &alice, &room, "m.room.create?format=event").await;
    assert_eq!(event["room_id"], room);
    assert_eq!(text(&event, "event_id").strip_prefix('$'), room.strip_prefix('!'));
    let levels = state(&server, &alice, &room, "m.room.power_levels").await;
    assert_eq!(levels["users"], json!({}));
    assert_eq!(levels["events"]["m.room.tombstone"], 150);

    assert_eq!(act(&server, &bob, (&room, "join"), json!({})).await.0, 200);
    let named = set_state(&server, &bob, (&room, "m.room.name"), json!({ "name": "x" })).await;
    assert_eq!(named.0, 200, "{}", named.1);
    let levels = json!({ "users": { "@bob:localhost": 100 } });
    let (status, body) = set_state(&server, &alice, (&room, "m.room.power_levels"), levels).await;
    assert_eq!((status, errcode(&body)), (400, "M_BAD_JSON"));
}

#[tokio::test]
async fn every_supported_version_makes_a_room() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    for version in ["6", "7", "8", "9", "10", "11", "12"] {
        let room = create(&server, &alice, json!({ "room_version": version })).await;
        let content = state(&server, &alice, &room, "m.room.create").await;
        assert_eq!(content["room_version"], version);
        assert_eq!(content.get("creator").is_some(), version.parse::<u8>().unwrap() < 11);
        say(&server, &alice, &room, "hello").await;
    }
}

#[tokio::test]
async fn rooms_that_are_alike_and_made_at_the_same_moment_are_two() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let body = json!({ "room_version": "12" });
    let room = create(&server, &alice, body.clone()).await;
    assert_ne!(create(&server, &alice, body).await, room);
}

#[tokio::test]
async fn a_transaction_is_one_event_whatever_comes_with_it() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let other = server.log_in(&alice).await;
    let room = create(&server, &alice, json!({})).await;
    let another_room = create(&server, &alice, json!({})).await;
    let send = async |user: &User, version: &str, room: &str, event_type: &str, body: Value| {
        let path = format!("/_matrix/client/{version}/rooms/{room}/send/{event_type}/txn");
        let (status, answer) = server.put(&path, &user.token, body).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        answer["event_id"].as_str().unwrap().to_owned()
    };
    let first = send(&alice, "v3", &room, "m.room.message", json!({ "body": "1" })).await;
    for body in [json!({ "body": "1" }), json!({ "body": "2" }), json!({ "a": 0.5 })] {
        assert_eq!(send(&alice, "v3", &room, "m.room.message", body.clone()).await, first);
        assert_eq!(send(&alice, "r0", &room, "m.room.message", body).await, first);
    }
    let body = json!({ "body": "1" });
    assert_ne!(send(&other, "v3", &room, "m.room.message", body.clone()).await, first);
    assert_ne!(send(&alice, "v3", &another_room, "m.room.message", body.clone()).await, first);
    assert_ne!(send(&alice, "v3", &room, "org.example", body.clone()).await, first);
    act(&server, &alice, (&room, "leave"), json!({})).await;
    assert_eq!(send(&alice, "v3", &room, "m.room.message", body).await, first);
}

#[tokio::test]
async fn what_is_no_event_is_refused() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let room = create(&server, &alice, json!({ "room_version": "6" })).await;
    let path = |txn: &str| format!("{V3}/rooms/{room}/send/m.room.message/{txn}");
    for (txn, body, expected) in [
        ("1", "[]", (400, "M_BAD_JSON")),
        ("2", "{\"a\":1.5}", (400, "M_BAD_JSON")),
        ("3", "{\"a\":9007199254740992}", (400, "M_BAD_JSON")),
        ("4", "{\"a\":NaN}", (400, "M_NOT_JSON")),
        ("5", "{\"a\":", (400, "M_NOT_JSON")),
    ] {
        let request = http::Request::builder()
            .method(Method::PUT)
            .uri(path(txn))
            .header("authorization", format!("Bearer {}", alice.token))
            .body(body.to_owned().into());
        let answer = server.send(request.unwrap()).await;
        assert_eq!((answer.status.as_u16(), errcode(&answer.body)), expected, "{body}");
    }
    let request = http::Request::builder()
        .method(Method::PUT)
        .uri(path("7"))
        .header("authorization", format!("Bearer {}", alice.token))
        .body(b"{\"a\":\"\xff\"}".to_vec().into());
    let answer = server.send(request.unwrap()).await;
    assert_eq!((answer.status.as_u16(), errcode(&answer.body)), (400, "M_NOT_JSON"));

    let big = json!({ "body": "x".repeat(65_000) });
    let (status, body) = server.put(&path("8"), &alice.token, big.clone()).await;
    assert_eq!((status.as_u16(), errcode(&body)), (413, "M_TOO_LARGE"));
    let (status, body) = set_state(&server, &alice, (&room, "org.example"), big).await;
    assert_eq!((status, errcode(&body)), (413, "M_TOO_LARGE"));
    let key = "k".repeat(256);
    let tuple = format!("org.example/{key}");
    let (status, body) = set_state(&server, &alice, (&room, &tuple), json!({})).await;
    assert_eq!((status, errcode(&body)), (413, "M_TOO_LARGE"));
    let (status, body) = set_state(&server, &alice, (&room, "m.room.create"), json!({})).await;
    assert_eq!((status, errcode(&body)), (400, "M_INVALID_PARAM"));

    for room in [&*room, "!unknown:localhost"] {
        let path = format!("{V3}/rooms/{room}/send/m.room.message/1");
        let (status, body) = server.put(&path, &bob.token, json!({ "body": "" })).await;
        assert_eq!((status.as_u16(), errcode(&body)), (403, "M_FORBIDDEN"));
        let (status, body) = set_state(&server, &bob, (room, "m.room.name"), json!({})).await;
        assert_eq!((status, errcode(&body)), (403, "M_FORBIDDEN"));
        for path in ["state", "state/m.room.create"] {
            let path = format!("{V3}/rooms/{room}/{path}");
            let (status, body) = server.get(&path, &bob.token).await;
            assert_eq!((status.as_u16(), errcode(&body)), (403, "M_FORBIDDEN"));
        }
    }
}

#[tokio::test]
async fn saying_what_is_already_the_case_is_the_same_event() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let room = create(&server, &alice, json!({})).await;
    let set = async |content: Value| {
        let (status, body) = set_state(&server, &alice, (&room, "org.example/key"), content).await;
        assert_eq!(status, 200, "{body}");
        body["event_id"].clone()
    };
    let first = set(json!({ "b": 1, "a": [1] })).await;
    assert_eq!(set(json!({ "a": [1], "b": 1 })).await, first);
    let second = set(json!({ "a": [2] })).await;
    assert_ne!(second, first);
    let event = state(&server, &alice, &room, "org.example/key?format=event").await;
    assert_eq!(event["event_id"], second);
    assert_eq!(event["state_key"], "key");
    assert_eq!(event["content"], json!({ "a": [2] }));
}

#[tokio::test]
async fn the_same_reaction_is_given_once() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let room = create(&server, &alice, json!({ "preset": "public_chat" })).await;
    act(&server, &bob, (&room, "join"), json!({})).await;
    let event = say(&server, &alice, &room, "hello").await;
    let react = async |user: &User, txn: &str, key: &str| {
        let path = format!("{V3}/rooms/{room}/send/m.reaction/{txn}");
        let relation = json!({ "rel_type": "m.annotation", "event_id": event, "key": key });
        let (status, body) =
            server.put(&path, &user.token, json!({ "m.relates_to": relation })).await;
        (status.as_u16(), errcode(&body).to_owned())
    };
    assert_eq!(react(&alice, "1", "+").await.0, 200);
    assert_eq!(react(&alice, "1", "+").await.0, 200);
    assert_eq!(react(&alice, "2", "+").await, (400, "M_DUPLICATE_ANNOTATION".to_owned()));
    assert_eq!(react(&alice, "3", "-").await.0, 200);
    assert_eq!(react(&bob, "4", "+").await.0, 200);
}

#[tokio::test]
async fn power_levels_make_sense() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    for (version, levels, expected) in [
        ("9", json!({ "ban": "50", "users": { "@alice:localhost": 100 } }), 200),
        ("10", json!({ "ban": "50", "users": { "@alice:localhost": 100 } }), 400),
        ("10", json!({ "users": { "@alice:localhost": true } }), 400),
        ("10", json!({ "users": [] }), 400),
        ("10", json!({ "users": { "alice": 100 } }), 400),
        ("10", json!({ "users_default": 100, "users": { "@alice:localhost": 100 } }), 200),
        ("10", json!({ "users": { "@alice:localhost": 101 } }), 403),
    ] {
        let room = create(&server, &alice, json!({ "room_version": version })).await;
        let (status, body) =
            set_state(&server, &alice, (&room, "m.room.power_levels"), levels.clone()).await;
        assert_eq!(status, expected, "{version} {levels}: {body}");
    }
}

#[tokio::test]
async fn a_thread_begins_at_an_event_that_relates_to_nothing() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let room = create(&server, &alice, json!({})).await;
    let root = say(&server, &alice, &room, "root").await;
    let answer = async |txn: &str, to: &str| {
        let path = format!("{V3}/rooms/{room}/send/m.room.message/{txn}");
        let relation = json!({ "rel_type": "m.thread", "event_id": to });
        let content = json!({ "msgtype": "m.text", "body": txn, "m.relates_to": relation });
        let (status, body) = server.put(&path, &alice.token, content).await;
        (status.as_u16(), text(&body, "event_id"), text(&body, "errcode"))
    };
    let (status, in_thread, _) = answer("1", &root).await;
    assert_eq!(status, 200);
    let (status, _, error) = answer("2", &in_thread).await;
    assert_eq!((status, error.as_str()), (400, "M_UNKNOWN"));
    assert_eq!(answer("3", &root).await.0, 200);
    assert_eq!(answer("4", "$unknown").await.0, 200);
}

#[tokio::test]
async fn of_two_requests_at_once_one_is_the_other_or_the_first() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let path = format!("{V3}/createRoom");
    for _ in 0..10 {
        let body = json!({ "room_alias_name": "wanted", "preset": "public_chat" });
        let (first, second) = tokio::join!(
            server.post(&path, &alice.token, body.clone()),
            server.post(&path, &bob.token, body),
        );
        let mut answers = [(&alice, first), (&bob, second)];
        answers.sort_by_key(|(_, answer)| answer.0);
        let [(winner, (status, won)), (_, (lost_status, lost))] = answers;
        assert_eq!((status.as_u16(), lost_status.as_u16()), (200, 400), "{lost}");
        assert_eq!(errcode(&lost), "M_ROOM_IN_USE");

        let room = text(&won, "room_id");
        let (first, second) = tokio::join!(
            say(&server, winner, &room, "twice"),
            say(&server, winner, &room, "twice"),
        );
        assert_eq!(first, second);
        let alias = format!("{V3}/directory/room/%23wanted:localhost");
        server.request(Method::DELETE, &alias, &winner.token, Value::Null).await;
    }
}

#[tokio::test]
async fn a_content_nested_too_deep_to_be_shown_is_refused_and_harms_nobody() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let room = create(&server, &alice, json!({ "preset": "public_chat" })).await;
    assert_eq!(act(&server, &bob, (&room, "join"), json!({})).await.0, 200);
    let root = say(&server, &bob, &room, "hello").await;
    let nested = |levels: usize| {
        let deep = format!("{}{}", "[".repeat(levels - 1), "]".repeat(levels - 1));
        let relation = json!({ "rel_type": "m.thread", "event_id": root });
        format!(r#"{{"body":"bob","deep":{deep},"m.relates_to":{relation}}}"#)
    };
    for (levels, expected) in [(100, 200), (101, 400), (127, 400), (128, 400), (10_000, 400)] {
        let path = format!("{V3}/rooms/{room}/send/m.room.message/{levels}");
        let request = http::Request::put(path)
            .header("authorization", format!("Bearer {}", alice.token))
            .body(axum::body::Body::from(nested(levels)))
            .unwrap();
        let answer = server.send(request).await;
        assert_eq!(answer.status, expected, "{levels}: {}", answer.body);
    }
    let (status, sync) = server.get(&format!("{V3}/sync"), &bob.token).await;
    assert_eq!(status, StatusCode::OK, "{sync}");
    let path = format!("{V3}/rooms/{room}/event/{root}");
    let (status, shown) = server.get(&path, &bob.token).await;
    assert_eq!(status, StatusCode::OK, "{shown}");
    assert_eq!(shown["unsigned"]["m.relations"]["m.thread"]["count"], 1);
}

#[tokio::test]
async fn a_request_without_its_body_is_refused() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let room = create(&server, &alice, json!({})).await;
    let v3 = "/_matrix/client/v3";
    for (method, path) in [
        (Method::POST, format!("{v3}/createRoom")),
        (Method::PUT, format!("{v3}/rooms/{room}/send/m.room.message/1")),
        (Method::PUT, format!("{v3}/rooms/{room}/state/m.room.topic/")),
        (Method::PUT, format!("{v3}/rooms/{room}/send/a/2?org.matrix.msc4140.delay=10")),
        (Method::PUT, format!("{v3}/rooms/{room}/state/a/?org.matrix.msc4140.delay=10")),
    ] {
        let (status, body) = server.request(method, &path, &alice.token, Value::Null).await;
        assert_eq!((status.as_u16(), errcode(&body)), (400, "M_NOT_JSON"), "{path}");
    }
}
