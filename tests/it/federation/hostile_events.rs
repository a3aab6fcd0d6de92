//! Events and answers that no honest server sends: nothing is stored that was not signed, and they spoil nothing beside
//! them.

use std::sync::{Arc, Mutex};

use axum::{
    Json, Router,
    extract::Path,
    response::{IntoResponse, Response},
    routing::{get, put},
};
use http::Method;
use ruma::{
    OwnedEventId, OwnedRoomId, RoomVersionId, ServerName, canonical_json::CanonicalJsonObject,
    room_version_rules::RoomVersionRules, signatures::hash_and_sign_event,
};
use serde_json::{Value, json};
use wick_database::{Range, Read, schema::room::STORED_BY_EVENT};
use wick_harness::{
    Body, TestNetwork, TestServer, User,
    room_builder::{RoomBuilder, key_of},
};
use wick_room::invariants;

use super::{
    peer::{Peer, answer, pair},
    rooms::{BOB, HERE, Rooms, V1, refusal},
};
use crate::talk;

const MALLORY: &str = "@mallory:c.test";

pub(super) fn rules_of_11() -> RoomVersionRules {
    RoomVersionId::V11.rules().unwrap()
}

/// How many events a server has stored.
pub(super) fn stored(server: &TestServer) -> usize {
    server.services().database.latest().scan(&STORED_BY_EVENT, Range::all()).count()
}

pub(super) fn ensure_sound(server: &TestServer) {
    let read = server.services().database.latest();
    assert_eq!(invariants::check(&read).unwrap(), []);
}

/// An event with hash and signature, whatever it is.
fn signed_whatever_it_is(rooms: &Rooms, event: Value) -> Value {
    let mut event: CanonicalJsonObject = serde_json::from_value(event).unwrap();
    let redaction = rules_of_11().redaction;
    hash_and_sign_event("b.test", &rooms.peer.key, &mut event, &redaction).unwrap();
    serde_json::to_value(event).unwrap()
}

/// A list in a list, so many levels deep.
fn nested(levels: usize) -> Value {
    (0..levels).fold(json!(1), |inner, _| json!([inner]))
}

type Change = Box<dyn Fn(&mut Value)>;

fn put_field(key: &'static str, value: Value) -> Change {
    Box::new(move |event: &mut Value| event[key] = value.clone())
}

/// What is wrong with an event before it is signed, and after it.
fn wrongs() -> (Vec<Change>, Vec<Change>) {
    let ids = |count: usize| {
        let id = |number: usize| format!("${number:0>43}");
        Value::from((0..count).map(id).collect::<Vec<_>>())
    };
    let before = vec![
        put_field("prev_events", ids(21)),
        put_field("prev_events", json!(["nonsense"])),
        put_field("prev_events", json!({})),
        put_field("auth_events", ids(11)),
        put_field("depth", json!(-1)),
        put_field("depth", json!("7")),
        put_field("sender", json!("bob")),
        put_field("sender", json!("@alice:a.test")),
        put_field("sender", json!(format!("@{}:b.test", "b".repeat(300)))),
        put_field("state_key", json!(7)),
        put_field("type", json!("m".repeat(256))),
        put_field("room_id", json!("!unknown:b.test")),
    ];
    let after = vec![
        put_field("signatures", json!({})),
        put_field("signatures", json!({ "b.test": { "ed25519:1": "c2ln" } })),
        put_field("signatures", json!({ "c.test": { "ed25519:1": "c2ln" } })),
        put_field("type", json!("org.example.other")),
        put_field("content", json!({ "body": "a".repeat(66_000), "msgtype": "m.text" })),
        put_field("prev_events", ids(10_000)),
        put_field("content", json!(["evil"])),
        put_field("content", json!({ "msgtype": "m.text", "body": "evil", "nested": nested(105) })),
    ];
    (before, after)
}

#[tokio::test]
async fn what_has_no_format_or_was_not_signed_is_not_stored_and_what_is_beside_it_is() {
    let rooms = Rooms::start().await;
    let room = rooms.public().await;
    rooms.join(&room).await;
    let draft = || {
        let content = json!({ "msgtype": "m.text", "body": "evil" });
        rooms.draft(&room, (BOB, "m.room.message", None), content)
    };
    let (before, after) = wrongs();
    let nested = nested(98);
    let content = json!({ "msgtype": "m.text", "body": "nested", "nested": nested });
    let nested = rooms.draft(&room, (BOB, "m.room.message", None), content);
    let mut events = vec![rooms.message(&room, "first").1, rooms.signed("11", nested).1];
    events.extend(before.iter().map(|change| {
        let mut event = draft();
        change(&mut event);
        signed_whatever_it_is(&rooms, event)
    }));
    events.extend(after.iter().map(|change| {
        let mut event = signed_whatever_it_is(&rooms, draft());
        change(&mut event);
        event
    }));
    events.push(rooms.message(&room, "last").1);
    let known = stored(&rooms.server);
    let (status, _) = rooms.transaction("1", &events, &[]).await;
    assert_eq!(status, 200);
    let mut bodies = rooms.bodies(&room).await;
    bodies.sort_unstable();
    assert_eq!(bodies, ["first", "last", "nested"]);
    assert_eq!(stored(&rooms.server), known + 3);
    ensure_sound(&rooms.server);
}

#[tokio::test]
async fn an_event_id_that_lies_is_not_the_events_id() {
    let rooms = Rooms::start().await;
    let room = rooms.public().await;
    rooms.join(&room).await;
    let of_alice = talk::say(&rooms.server, &room, &rooms.alice, "mine").await;
    let content = json!({ "msgtype": "m.text", "body": "instead" });
    let mut event = rooms.draft(&room, (BOB, "m.room.message", None), content);
    event["event_id"] = json!(of_alice);
    let (id, event) = rooms.signed("11", event);
    assert_eq!(rooms.transaction("1", &[event], &[]).await.0, 200);
    assert_eq!(rooms.bodies(&room).await, ["mine", "instead"]);
    for (id, body) in [(of_alice, "mine"), (id, "instead")] {
        let path = format!("/_matrix/client/v3/rooms/{room}/event/{id}");
        let (_, shown) = rooms.server.get(&path, &rooms.alice.token).await;
        assert_eq!((&shown["event_id"], &shown["content"]["body"]), (&json!(id), &json!(body)));
    }
}

/// An event as text in which a key is there once more before all others, or after them.
fn with_key(event: &Value, key: &str, value: &Value, is_first: bool) -> String {
    let text = event.to_string();
    let field = format!("{}:{value}", json!(key));
    match is_first {
        true => format!("{{{field},{}", text.strip_prefix('{').unwrap()),
        false => format!("{},{field}}}", text.strip_suffix('}').unwrap()),
    }
}

#[tokio::test]
async fn of_a_key_that_an_event_has_twice_only_what_was_signed_counts() {
    let rooms = Rooms::start().await;
    let (room, elsewhere) = (rooms.public().await, rooms.public().await);
    rooms.join(&room).await;
    let evil = json!({ "msgtype": "m.text", "body": "evil" });
    let mut events = Vec::new();
    for (key, value) in [
        ("content", &evil),
        ("sender", &json!("@alice:a.test")),
        ("type", &json!("org.example.other")),
        ("room_id", &json!(elsewhere)),
    ] {
        for is_first in [true, false] {
            let (_, event) = rooms.message(&room, &format!("{key} {is_first}"));
            events.push(with_key(&event, key, value, is_first));
        }
    }
    let body =
        format!(r#"{{"origin":"b.test","origin_server_ts":1,"pdus":[{}]}}"#, events.join(","));
    let path = format!("{V1}/send/1");
    let endpoint = (Method::PUT, path.as_str());
    let key = &rooms.peer.key;
    let request = rooms.peer.signed_bytes(key, endpoint, HERE, body.into_bytes());
    assert_eq!(answer(&rooms.server, request).await.0, 200);
    rooms.server.services().federated().unwrap().inbound.idle().await;
    let synced = talk::sync(&rooms.server, &rooms.alice, "").await;
    assert!(!synced.to_string().contains("evil"), "{synced}");
    for shown in [&room, &elsewhere] {
        let events = &synced["rooms"]["join"][shown.as_str()]["timeline"]["events"];
        for event in events.as_array().unwrap() {
            if event["type"] == "m.room.message" {
                assert_eq!((&event["sender"], shown), (&json!(BOB), &room));
            }
            assert_ne!(event["type"], "org.example.other");
        }
    }
    ensure_sound(&rooms.server);
}

#[tokio::test]
async fn the_greatest_depth_keeps_no_event_from_following() {
    let rooms = Rooms::start().await;
    let room = rooms.public().await;
    rooms.join(&room).await;
    let content = json!({ "msgtype": "m.text", "body": "deep" });
    let mut event = rooms.draft(&room, (BOB, "m.room.message", None), content);
    event["depth"] = json!(9_007_199_254_740_991_u64);
    let (_, event) = rooms.signed("11", event);
    assert_eq!(rooms.transaction("1", &[event], &[]).await.0, 200);
    assert_eq!(rooms.bodies(&room).await, ["deep"]);
    talk::say(&rooms.server, &room, &rooms.alice, "after it").await;
    assert_eq!(rooms.bodies(&room).await, ["deep", "after it"]);
}

/// A room of mallory's at a server that answers joins.
pub(super) struct Host {
    pub(super) network: TestNetwork,
    pub(super) server: TestServer,
    pub(super) bob: User,
    pub(super) room: OwnedRoomId,
    /// The joins that came.
    pub(super) joins: Arc<Mutex<Vec<Value>>>,
}

/// What a server drafts as a join, and what it answers to one.
pub(super) struct Answers {
    pub(super) draft: Value,
    pub(super) answer: MakeAnswer,
}

/// The draft and the answer that an honest server gives.
pub(super) fn honest(room: &RoomBuilder) -> (Value, Value) {
    let state = room.resolved(&room.tips());
    let list = |ids: &[OwnedEventId]| {
        let json = |id: &OwnedEventId| serde_json::from_str(room.event(id).json().get()).unwrap();
        Value::Array(ids.iter().map(json).collect())
    };
    let ids: Vec<_> = state.values().cloned().collect();
    let auth: Vec<_> = ["m.room.create", "m.room.power_levels", "m.room.join_rules"]
        .iter()
        .map(|kind| &state[&wick_harness::room_builder::tuple(kind, "")])
        .collect();
    let draft = json!({
        "type": "m.room.member", "room_id": room.room_id(), "depth": 20,
        "content": { "membership": "join" }, "auth_events": auth, "prev_events": room.tips(),
    });
    let answer = json!({
        "origin": "c.test", "state": list(&ids), "auth_chain": list(&room.auth_chain(&ids)),
    });
    (draft, answer)
}

impl Host {
    pub(super) async fn start(room: OwnedRoomId, Answers { draft, answer }: Answers) -> Self {
        let network = TestNetwork::new();
        let joins = Arc::new(Mutex::new(Vec::new()));
        let came = Arc::clone(&joins);
        let draft = move || {
            let draft = json!({ "room_version": "11", "event": draft.clone() });
            async move { Json(draft) }
        };
        let take = move |Path(_): Path<(String, String)>, Json(join): Json<Value>| {
            came.lock().unwrap().push(join);
            let answer = answer();
            async move { answer }
        };
        let router = Router::new()
            .route("/_matrix/federation/v1/make_join/{room}/{user}", get(draft))
            .route("/_matrix/federation/v2/send_join/{room}/{event}", put(take));
        let name = <&ServerName>::try_from("c.test").unwrap();
        Peer::join_as(&network, "c.test", key_of(name), router).await;
        let server = TestServer::start_from(network.options("b.test")).await;
        let bob = server.register("bob").await;
        Self { network, server, bob, room, joins }
    }

    pub(super) async fn join(&self) -> (u16, Value) {
        self.join_room(&self.room).await
    }

    pub(super) async fn join_room(&self, room: &OwnedRoomId) -> (u16, Value) {
        let path = format!("/_matrix/client/v3/join/{room}?via=c.test");
        let (status, body) = self.server.post(&path, &self.bob.token, json!({})).await;
        (status.as_u16(), body)
    }
}

pub(super) fn room_of_mallory() -> RoomBuilder {
    RoomBuilder::public(RoomVersionId::V11, MALLORY, &[])
}

#[tokio::test]
async fn of_a_draft_nothing_is_signed_but_the_users_own_join() {
    let room = room_of_mallory();
    let (mut draft, answer) = honest(&room);
    for (key, value) in [
        ("type", json!("m.room.power_levels")),
        ("sender", json!("@carol:b.test")),
        ("state_key", json!("")),
        ("room_id", json!("!another:b.test")),
        ("content", json!({ "membership": "ban", "users": { MALLORY: 100 }, "evil": true })),
        ("redacts", json!("$event")),
        ("origin_server_ts", json!(1)),
        ("signatures", json!({ "b.test": {} })),
    ] {
        draft[key] = value;
    }
    let answer = Arc::new(move || Json(answer.clone()).into_response());
    let host = Host::start(room.room_id(), Answers { draft, answer }).await;
    assert_eq!(host.join().await.0, 200);
    let joins = host.joins.lock().unwrap().clone();
    let [join] = joins.as_slice() else { panic!("{joins:?}") };
    assert_eq!(join["type"], "m.room.member");
    assert_eq!(join["room_id"], json!(host.room));
    assert_eq!((&join["sender"], &join["state_key"]), (&json!(host.bob.user_id), &join["sender"]));
    assert_eq!(join["content"]["membership"], "join");
    assert!(join.get("redacts").is_none() && join["content"].get("evil").is_none(), "{join}");
    assert_ne!(join["origin_server_ts"], 1);
    ensure_sound(&host.server);
    drop(host.network);
}

#[tokio::test]
async fn an_answer_to_a_join_that_is_none_makes_no_room_and_stores_nothing() {
    let room = room_of_mallory();
    let (draft, honest) = honest(&room);
    let of_another = honest_of_another();
    let unsigned = {
        let mut answer = honest.clone();
        for list in ["state", "auth_chain"] {
            for event in answer[list].as_array_mut().unwrap() {
                event["signatures"] = json!({ "c.test": { "ed25519:1": "c2ln" } });
            }
        }
        answer
    };
    let text = honest.to_string();
    let half: String = text.chars().take(text.len() / 2).collect();
    let endless = || {
        let chunks =
            futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b' '; 1 << 20]));
        Body::from_stream(chunks).into_response()
    };
    let answers: [(&str, MakeAnswer); 7] = [
        ("nothing", Arc::new(|| Json(json!({})).into_response())),
        ("a page", Arc::new(move || format!("<html>{text}").into_response())),
        ("half of it", Arc::new(move || half.clone().into_response())),
        ("of another room", Arc::new(move || Json(of_another.clone()).into_response())),
        ("not signed", Arc::new(move || Json(unsigned.clone()).into_response())),
        ("without an end", Arc::new(endless)),
        ("a refusal", Arc::new(|| http::StatusCode::IM_A_TEAPOT.into_response())),
    ];
    for (what, answer) in answers {
        let host = Host::start(room.room_id(), Answers { draft: draft.clone(), answer }).await;
        let known = stored(&host.server);
        let (status, body) = host.join().await;
        assert!(status >= 400 && status != 500, "{what}: {status} {body}");
        assert_eq!(stored(&host.server), known, "{what}");
        let seen = talk::sync(&host.server, &host.bob, "").await;
        assert!(seen["rooms"]["join"].get(host.room.as_str()).is_none(), "{what}: {seen}");
        ensure_sound(&host.server);
    }
}

/// The answer to a join to another room.
fn honest_of_another() -> Value {
    honest(&RoomBuilder::public(RoomVersionId::V12, MALLORY, &[])).1
}

/// Makes what a server answers to a join.
pub(super) type MakeAnswer = Arc<dyn Fn() -> Response + Send + Sync>;

#[tokio::test]
async fn an_event_that_is_nested_too_deep_keeps_nobody_from_joining_its_room() {
    let room = room_of_mallory();
    let (draft, mut answer) = honest(&room);
    let mut deep = answer["state"][0].clone();
    deep["type"] = json!("org.example.deep");
    deep["state_key"] = json!("");
    deep["prev_events"] = json!(room.tips());
    deep["auth_events"] = draft["auth_events"].clone();
    deep["content"] = json!({ "nested": nested(105) });
    let mut deep: CanonicalJsonObject = serde_json::from_value(deep).unwrap();
    let key = key_of(<&ServerName>::try_from("c.test").unwrap());
    hash_and_sign_event("c.test", &key, &mut deep, &rules_of_11().redaction).unwrap();
    answer["state"].as_array_mut().unwrap().push(serde_json::to_value(deep).unwrap());
    let answer = Arc::new(move || Json(answer.clone()).into_response());
    let host = Host::start(room.room_id(), Answers { draft, answer }).await;
    let (status, body) = host.join().await;
    assert_eq!(status, 200, "{body}");
    let path = format!("/_matrix/client/v3/rooms/{}/state/org.example.deep", host.room);
    assert_eq!(host.server.get(&path, &host.bob.token).await.0, 404);
    ensure_sound(&host.server);
}

#[tokio::test]
async fn a_transaction_whose_key_is_another_servers_changes_nothing() {
    let rooms = Rooms::start().await;
    let room = rooms.public().await;
    rooms.join(&room).await;
    let (_, message) = rooms.message(&room, "evil");
    let body = json!({ "origin": "b.test", "origin_server_ts": 1, "pdus": [message] });
    let path = format!("{V1}/send/1");
    let key = pair("1");
    let request = rooms.peer.signed_with(&key, (Method::PUT, &path), HERE, &body);
    assert_eq!(answer(&rooms.server, request).await.0, 401);
    assert!(rooms.bodies(&room).await.is_empty());
}

#[tokio::test]
async fn a_join_that_is_repeated_is_answered_again_unless_it_is_over() {
    let rooms = Rooms::start().await;
    let room = rooms.public().await;
    let (id, join) = rooms.make(&room, "join").await.unwrap();
    let path = format!("/_matrix/federation/v2/send_join/{room}/{id}");
    for _ in 0..2 {
        assert_eq!(rooms.ask((Method::PUT, &path), &join).await.0, 200);
    }
    let ban = format!("/_matrix/client/v3/rooms/{room}/ban");
    let banned = rooms.server.post(&ban, &rooms.alice.token, json!({ "user_id": BOB })).await;
    assert_eq!(banned.0, 200);
    let refused = rooms.ask((Method::PUT, &path), &join).await;
    assert_eq!(refusal(refused), json!([403, "M_FORBIDDEN"]));
}
