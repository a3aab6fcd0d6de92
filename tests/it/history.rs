//! Looking back in rooms: `/messages`, `/context`, `/event`, members.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "what a test asks for is there")]

use std::collections::BTreeSet;

use http::StatusCode;
use serde_json::{Value, json};
use wick_harness::{TestServer, User};

fn errcode(body: &Value) -> &str {
    body["errcode"].as_str().unwrap_or_default()
}

async fn get(server: &TestServer, path: &str, user: &User) -> Value {
    let (status, body) = server.get(path, &user.token).await;
    assert_eq!(status, StatusCode::OK, "{path}: {body}");
    body
}

async fn refused(server: &TestServer, path: &str, user: &User) -> (u16, String) {
    let (status, body) = server.get(path, &user.token).await;
    (status.as_u16(), errcode(&body).to_owned())
}

fn bodies(events: &Value) -> Vec<&str> {
    let events = events.as_array().map(Vec::as_slice).unwrap_or_default();
    events.iter().filter_map(|event| event["content"]["body"].as_str()).collect()
}

fn keys(events: &Value) -> BTreeSet<&str> {
    let events = events.as_array().unwrap();
    events.iter().map(|event| event["state_key"].as_str().unwrap()).collect()
}

/// A filter as it stands in a query.
fn query(filter: &Value) -> String {
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    filter.to_string().bytes().map(escape).collect()
}

#[tokio::test]
async fn a_timeline_is_paged_in_both_directions_without_gaps_or_repeats() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let room = server.room(&alice, "shared").await;
    let other = server.room(&alice, "shared").await;
    for n in 0..7 {
        room.say(&alice, &n.to_string()).await;
        other.say(&alice, "elsewhere").await;
    }
    for (direction, expected) in
        [("b", ["6", "5", "4", "3", "2", "1", "0"]), ("f", ["0", "1", "2", "3", "4", "5", "6"])]
    {
        let (mut seen, mut from) = (Vec::new(), String::new());
        loop {
            let path = room.path(&format!("/messages?dir={direction}&limit=3{from}"));
            let page = get(&server, &path, &alice).await;
            assert!(page["chunk"].as_array().unwrap().len() <= 3);
            seen.extend(bodies(&page["chunk"]).into_iter().map(str::to_owned));
            let Some(end) = page["end"].as_str() else { break };
            from = format!("&from={end}");
        }
        assert_eq!(seen, expected);
    }
}

#[tokio::test]
async fn a_page_begins_and_ends_at_the_tokens_of_a_sync() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let room = server.room(&alice, "shared").await;
    let sync = "/_matrix/client/v3/sync";
    room.say(&alice, "before").await;
    let first = get(&server, sync, &alice).await["next_batch"].clone();
    let first = first.as_str().unwrap();
    room.say(&alice, "between").await;
    let second = get(&server, sync, &alice).await["next_batch"].clone();
    let second = second.as_str().unwrap();
    room.say(&alice, "after").await;
    for (query, expected) in [
        (format!("dir=f&from={first}&to={second}"), vec!["between"]),
        (format!("dir=b&from={second}&to={first}"), vec!["between"]),
        (format!("dir=f&from={first}"), vec!["between", "after"]),
        (format!("dir=b&from={first}"), vec!["before"]),
        (format!("dir=b&to={second}"), vec!["after"]),
    ] {
        let page = get(&server, &room.path(&format!("/messages?limit=100&{query}")), &alice).await;
        assert_eq!(bodies(&page["chunk"]), expected, "{query}");
        assert!(page.get("end").is_none());
    }
    let path = room.path("/messages?dir=b&from=nonsense");
    assert_eq!(refused(&server, &path, &alice).await, (400, "M_INVALID_PARAM".to_owned()));
}

#[tokio::test]
async fn filters_choose_by_type_sender_url_and_relation() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let room = server.room(&alice, "shared").await;
    room.member(&bob, &bob, "join").await;
    let root = room.say(&alice, "root").await;
    room.say(&bob, "bob").await;
    room.send(&alice, "m.room.message", json!({ "body": "file", "url": "mxc://a/b" })).await;
    room.send(&alice, "m.sticker", json!({ "body": "sticker" })).await;
    room.relate(&alice, "m.thread", &root, "thread").await;
    room.relate(&alice, "m.reference", &root, "reference").await;
    for (filter, expected) in [
        (json!({ "types": ["m.sticker"] }), vec!["sticker"]),
        (json!({ "types": ["m.room.message"], "senders": ["@bob:localhost"] }), vec!["bob"]),
        (json!({ "contains_url": true }), vec!["file"]),
        (json!({ "org.matrix.msc3874.rel_types": ["m.thread"] }), vec!["thread"]),
        (json!({ "rel_types": ["m.thread", "m.reference"] }), vec!["reference", "thread"]),
        (
            json!({ "org.matrix.msc3874.not_rel_types": ["m.thread"], "types": ["m.room.message"],
                    "senders": ["@alice:localhost"], "contains_url": false }),
            vec!["reference", "root"],
        ),
    ] {
        let path = room.path(&format!("/messages?dir=b&limit=50&filter={}", query(&filter)));
        let page = get(&server, &path, &alice).await;
        assert_eq!(bodies(&page["chunk"]), expected, "{filter}");
    }
    let path = room.path("/messages?dir=b&filter=%7B");
    assert_eq!(refused(&server, &path, &alice).await.0, 400);
}

#[tokio::test]
async fn lazy_clients_get_the_members_who_spoke_and_no_others() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let room = server.room(&alice, "shared").await;
    let bob = server.register("bob").await;
    for user in [&bob, &server.register("carol").await] {
        room.member(user, user, "join").await;
    }
    let middle = room.say(&alice, "one").await;
    room.say(&bob, "two").await;
    let lazy = query(&json!({ "lazy_load_members": true, "types": ["m.room.message"] }));
    let page = get(&server, &room.path(&format!("/messages?dir=b&filter={lazy}")), &alice).await;
    assert_eq!(keys(&page["state"]), BTreeSet::from(["@alice:localhost", "@bob:localhost"]));
    let page = get(&server, &room.path("/messages?dir=b"), &alice).await;
    assert!(page.get("state").is_none());

    let lazy = query(&json!({ "lazy_load_members": true }));
    let path = room.path(&format!("/context/{middle}?limit=0&filter={lazy}"));
    let context = get(&server, &path, &alice).await;
    let state = context["state"].as_array().unwrap();
    let members = state.iter().filter(|event| event["type"] == "m.room.member");
    assert_eq!(members.map(|event| &event["state_key"]).collect::<Vec<_>>(), ["@alice:localhost"]);
    assert!(state.iter().any(|event| event["type"] == "m.room.join_rules"));
}

#[tokio::test]
async fn those_who_are_not_in_a_room_read_nothing_of_it() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let room = server.room(&alice, "shared").await;
    let event = room.say(&alice, "secret").await;
    room.member(&alice, &bob, "invite").await;
    for path in ["/messages?dir=b", "/members", "/joined_members", &format!("/context/{event}")] {
        let refusal = (403, "M_FORBIDDEN".to_owned());
        assert_eq!(refused(&server, &room.path(path), &bob).await, refusal, "{path}");
        let nowhere = format!("/_matrix/client/v3/rooms/!nowhere:localhost{path}");
        assert_eq!(refused(&server, &nowhere, &bob).await, refusal, "{nowhere}");
    }
    let path = room.path(&format!("/event/{event}"));
    assert_eq!(refused(&server, &path, &bob).await, (404, "M_NOT_FOUND".to_owned()));
    assert_eq!(get(&server, &path, &alice).await["content"]["body"], "secret");
    let path = room.path("/event/$nowhere");
    assert_eq!(refused(&server, &path, &alice).await, (404, "M_NOT_FOUND".to_owned()));
}

#[tokio::test]
async fn everybody_reads_a_room_that_is_world_readable() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let room = server.room(&alice, "world_readable").await;
    let event = room.say(&alice, "open").await;
    let page = get(&server, &room.path("/messages?dir=b"), &bob).await;
    assert_eq!(bodies(&page["chunk"]), ["open"]);
    let shown = get(&server, &room.path(&format!("/event/{event}")), &bob).await;
    assert_eq!(shown["unsigned"]["membership"], "leave");
}

#[tokio::test]
async fn history_is_visible_as_far_as_the_room_says() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    for (visibility, expected) in [
        ("world_readable", vec!["early", "invited", "joined"]),
        ("shared", vec!["early", "invited", "joined"]),
        ("invited", vec!["invited", "joined"]),
        ("joined", vec!["joined"]),
    ] {
        let room = server.room(&alice, visibility).await;
        let early = room.say(&alice, "early").await;
        room.member(&alice, &bob, "invite").await;
        room.say(&alice, "invited").await;
        room.member(&bob, &bob, "join").await;
        room.say(&alice, "joined").await;
        let page = get(&server, &room.path("/messages?dir=f&limit=50"), &bob).await;
        assert_eq!(bodies(&page["chunk"]), expected, "{visibility}");
        let (status, _) = server.get(&room.path(&format!("/event/{early}")), &bob.token).await;
        assert_eq!(status == StatusCode::OK, expected.contains(&"early"), "{visibility}");
    }
}

#[tokio::test]
async fn those_who_left_read_up_to_where_they_left_also_when_they_were_banned_afterwards() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let carol = server.register("carol").await;
    let room = server.room(&alice, "shared").await;
    room.member(&bob, &bob, "join").await;
    room.say(&alice, "before").await;
    room.member(&bob, &bob, "leave").await;
    let after = room.say(&alice, "after").await;
    room.member(&carol, &carol, "join").await;
    for banned in [false, true] {
        if banned {
            room.member(&alice, &bob, "ban").await;
        }
        for direction in ["b", "f"] {
            let path = room.path(&format!("/messages?limit=50&dir={direction}"));
            assert_eq!(bodies(&get(&server, &path, &bob).await["chunk"]), ["before"]);
        }
        let members = get(&server, &room.path("/members"), &bob).await;
        assert_eq!(keys(&members["chunk"]), BTreeSet::from(["@alice:localhost", "@bob:localhost"]));
        let left = members["chunk"].as_array().unwrap();
        let own = left.iter().find(|event| event["state_key"] == "@bob:localhost").unwrap();
        assert_eq!(own["content"]["membership"], "leave");
        let path = room.path(&format!("/event/{after}"));
        assert_eq!(refused(&server, &path, &bob).await.0, 404);
        assert_eq!(refused(&server, &room.path("/joined_members"), &bob).await.0, 403);
    }
}

#[tokio::test]
async fn context_shows_both_sides_and_tokens_that_go_on_from_there() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let room = server.room(&alice, "shared").await;
    let mut events = Vec::new();
    for n in 0..9 {
        events.push(room.say(&alice, &n.to_string()).await);
    }
    room.set(&alice, ("m.room.name", ""), json!({ "name": "later" })).await;
    let path = room.path(&format!("/context/{}?limit=4", events[4]));
    let context = get(&server, &path, &alice).await;
    assert_eq!(context["event"]["content"]["body"], "4");
    assert_eq!(bodies(&context["events_before"]), ["3", "2"]);
    assert_eq!(bodies(&context["events_after"]), ["5", "6"]);
    let state = context["state"].as_array().unwrap();
    assert_eq!(state.len(), 5, "{state:?}");
    assert!(state.iter().all(|event| event["type"] != "m.room.name"));
    for (direction, token, expected) in [("b", "start", ["1", "0"]), ("f", "end", ["7", "8"])] {
        let token = context[token].as_str().unwrap();
        let path = room.path(&format!("/messages?dir={direction}&from={token}&limit=2"));
        assert_eq!(bodies(&get(&server, &path, &alice).await["chunk"]), expected);
    }
    let alone = room.path(&format!("/context/{}?limit=0", events[4]));
    let alone = get(&server, &alone, &alice).await;
    assert!(alone.get("events_before").is_none() && alone.get("events_after").is_none());
    let nowhere = room.path("/context/$nowhere");
    assert_eq!(refused(&server, &nowhere, &alice).await, (404, "M_NOT_FOUND".to_owned()));
}

#[tokio::test]
async fn members_are_told_by_membership_and_as_of_a_token() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let carol = server.register("carol").await;
    let room = server.room(&alice, "shared").await;
    room.member(&bob, &bob, "join").await;
    let sync = get(&server, "/_matrix/client/v3/sync", &alice).await;
    let at = sync["next_batch"].as_str().unwrap();
    let timeline = &sync["rooms"]["join"][room.id.as_str()]["timeline"];
    assert_eq!(timeline["limited"], false);
    let beginning = timeline["prev_batch"].as_str().unwrap();
    room.member(&bob, &bob, "leave").await;
    room.member(&carol, &carol, "join").await;
    let (a, b, c) = ("@alice:localhost", "@bob:localhost", "@carol:localhost");
    for (query, expected) in [
        (String::new(), vec![a, b, c]),
        ("?membership=join".to_owned(), vec![a, c]),
        ("?membership=leave".to_owned(), vec![b]),
        ("?not_membership=leave".to_owned(), vec![a, c]),
        ("?membership=leave&not_membership=join".to_owned(), vec![b]),
        ("?membership=ban".to_owned(), vec![]),
        (format!("?at={at}"), vec![a, b]),
        (format!("?at={at}&membership=join"), vec![a, b]),
        (format!("?at={at}&not_membership=join"), vec![]),
        (format!("?at={beginning}"), vec![a]),
    ] {
        let members = get(&server, &room.path(&format!("/members{query}")), &alice).await;
        assert_eq!(keys(&members["chunk"]), expected.into_iter().collect(), "{query}");
    }
    let joined = get(&server, &room.path("/joined_members"), &alice).await;
    assert_eq!(
        joined["joined"],
        json!({
            a: { "display_name": "alice", "avatar_url": null },
            c: { "display_name": "carol", "avatar_url": null },
        })
    );
}

#[tokio::test]
async fn joined_rooms_are_those_one_is_in_now() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let path = "/_matrix/client/v3/joined_rooms";
    assert_eq!(get(&server, path, &bob).await, json!({ "joined_rooms": [] }));
    let (one, two) = (server.room(&alice, "shared").await, server.room(&alice, "shared").await);
    one.member(&alice, &bob, "invite").await;
    two.member(&bob, &bob, "join").await;
    assert_eq!(get(&server, path, &bob).await, json!({ "joined_rooms": [two.id] }));
    two.member(&bob, &bob, "leave").await;
    assert_eq!(get(&server, path, &bob).await, json!({ "joined_rooms": [] }));
}

#[tokio::test]
async fn a_redacted_event_is_found_without_what_it_said() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let room = server.room(&alice, "shared").await;
    let event = room.say(&alice, "regrettable").await;
    let redaction = room.redact(&alice, &event).await;
    let shown = get(&server, &room.path(&format!("/event/{event}")), &alice).await;
    assert_eq!(shown["content"], json!({}));
    assert_eq!(shown["unsigned"]["redacted_because"]["event_id"], json!(redaction));
    let page = get(&server, &room.path("/messages?dir=b"), &alice).await;
    assert!(bodies(&page["chunk"]).is_empty());
}

#[tokio::test]
async fn messages_of_ignored_users_are_left_out_and_their_state_is_not() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let room = server.room(&alice, "shared").await;
    room.member(&bob, &bob, "join").await;
    room.say(&bob, "noise").await;
    room.say(&alice, "signal").await;
    let list = "/_matrix/client/v3/user/@alice:localhost/account_data/m.ignored_user_list";
    server.put(list, &alice.token, json!({ "ignored_users": { "@bob:localhost": {} } })).await;
    let page = get(&server, &room.path("/messages?dir=b&limit=50"), &alice).await;
    assert_eq!(bodies(&page["chunk"]), ["signal"]);
    let events = page["chunk"].as_array().unwrap();
    assert!(events.iter().any(|event| event["state_key"] == "@bob:localhost"));
}

#[tokio::test]
async fn who_may_not_look_is_told_so_whatever_else_is_wrong() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room = server.room(&alice, "shared").await;
    let told = async |user: &User, query: &str| {
        let (status, body) = server.get(&room.path(query), &user.token).await;
        (status.as_u16(), body["errcode"].as_str().unwrap_or_default().to_owned())
    };
    for query in ["/messages", "/messages?dir=sideways", "/messages?dir=b&from=nonsense"] {
        assert_eq!(told(&bob, query).await, (403, "M_FORBIDDEN".to_owned()), "{query}");
    }
    // A direction is required.
    assert_eq!(told(&alice, "/messages").await, (400, "M_MISSING_PARAM".to_owned()));
}

#[tokio::test]
async fn filters_choose_rooms() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let room = server.room(&alice, "shared").await;
    room.say(&alice, "before").await;
    let event = room.say(&alice, "event").await;
    room.say(&alice, "after").await;
    for (filter, wanted) in [
        (json!({ "rooms": [room.id] }), true),
        (json!({ "rooms": ["!other:localhost"] }), false),
        (json!({ "not_rooms": [room.id] }), false),
        (json!({ "rooms": [room.id], "not_rooms": [room.id] }), false),
        (json!({ "rooms": [] }), false),
    ] {
        let query = query(&filter);
        let path = room.path(&format!("/messages?dir=b&limit=3&filter={query}"));
        let messages = get(&server, &path, &alice).await;
        assert_eq!(!bodies(&messages["chunk"]).is_empty(), wanted, "{filter}");
        assert!(wanted || messages.get("end").is_none());
        let path = room.path(&format!("/context/{event}?filter={query}"));
        let context = get(&server, &path, &alice).await;
        assert_eq!(context["event"]["content"]["body"], "event");
        for part in ["events_before", "events_after", "state"] {
            let events = context[part].as_array().map(Vec::as_slice).unwrap_or_default();
            assert_eq!(!events.is_empty(), wanted, "{part} {filter}");
        }
    }
}

#[tokio::test]
async fn events_come_with_the_fields_and_in_the_format_that_a_filter_wants() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let room = server.room(&alice, "shared").await;
    let redacted = room.say(&alice, "secret").await;
    room.redact(&alice, &redacted).await;
    room.say(&alice, "hello").await;
    let all = async |filter: Value| {
        let query = query(&filter);
        let path = room.path(&format!("/messages?dir=b&limit=3&filter={query}"));
        let messages = get(&server, &path, &alice).await["chunk"].clone();
        let sync = get(&server, &format!("/_matrix/client/v3/sync?filter={query}"), &alice).await;
        let timeline = &sync["rooms"]["join"][room.id.as_str()]["timeline"]["events"];
        let mut timeline = timeline.as_array().unwrap().clone();
        timeline.reverse();
        [messages.as_array().unwrap().clone(), timeline]
    };
    for events in all(json!({ "event_fields": ["type", "content.body"] })).await {
        let expected = json!({ "type": "m.room.message", "content": { "body": "hello" } });
        assert_eq!(events[0], expected);
        assert_eq!(events[2], json!({ "type": "m.room.message", "content": {} }));
    }
    for events in all(json!({ "event_format": "federation" })).await {
        for key in ["hashes", "signatures", "auth_events", "prev_events", "depth", "room_id"] {
            assert!(!events[0][key].is_null(), "{key} {}", events[0]);
        }
        assert_eq!(events[0]["content"]["body"], "hello");
        assert!(events[0]["unsigned"]["age"].is_number());
        assert_eq!(events[2]["content"], json!({}));
    }
    for events in all(json!({})).await {
        assert!(events[0]["hashes"].is_null() && events[0]["event_id"].is_string());
    }
}
