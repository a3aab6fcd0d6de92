//! Typing, receipts and presence, to other servers and from them.

use std::time::Duration;

use ruma::{OwnedRoomId, UserId, server_name};
use serde_json::{Value, json, value::to_raw_value};
use wick_harness::{TestNetwork, TestServer, User};

use super::receiver::{Receiver, bodies, shared_room, with_two_others};
use crate::talk::{ephemeral, member, say, set, sync, sync_since};

const V3: &str = "/_matrix/client/v3";

/// Has `server` take in an EDU of `b.test`.
async fn receive(server: &TestServer, edu_type: &str, content: Value) {
    let edu = json!({ "edu_type": edu_type, "content": content });
    let edu = ruma::serde::Raw::from_json(to_raw_value(&edu).unwrap());
    server.services().receive_edu(server_name!("b.test"), &edu).await.unwrap();
}

async fn put(server: &TestServer, alice: &User, path: &str, body: Value) {
    let (status, body) = server.put(&format!("{V3}/{path}"), &alice.token, body).await;
    assert_eq!(status, 200, "{body}");
}

async fn type_in(server: &TestServer, alice: &User, room: &OwnedRoomId, typing: bool) {
    let path = format!("rooms/{room}/typing/{}", alice.user_id);
    put(server, alice, &path, json!({ "typing": typing, "timeout": 20000 })).await;
}

#[tokio::test]
async fn typing_is_sent_until_it_stops_or_times_out() {
    let network = TestNetwork::new();
    let server = TestServer::start_from(network.options("a.test")).await;
    let mut b = Receiver::join(&network, "b.test").await;
    let alice = server.register("alice").await;
    let room = shared_room(&server, &alice, &[&b]).await;
    let typing = |typing| json!({ "room_id": room, "user_id": alice.user_id, "typing": typing });
    type_in(&server, &alice, &room, true).await;
    assert_eq!(b.edu("m.typing").await, typing(true));
    type_in(&server, &alice, &room, false).await;
    assert_eq!(b.edu("m.typing").await, typing(false));
    type_in(&server, &alice, &room, true).await;
    assert_eq!(b.edu("m.typing").await, typing(true));
    server.clock.advance(Duration::from_secs(21)).await;
    assert_eq!(b.edu("m.typing").await, typing(false));
}

#[tokio::test]
async fn public_receipts_are_sent_with_their_threads_and_private_ones_are_not() {
    let network = TestNetwork::new();
    let server = TestServer::start_from(network.options("a.test")).await;
    let mut b = Receiver::join(&network, "b.test").await;
    let alice = server.register("alice").await;
    let room = shared_room(&server, &alice, &[&b]).await;
    let said = say(&server, &room, &b.user, "read this").await;
    let next = say(&server, &room, &b.user, "and this").await;
    for (kind, event, thread) in
        [("m.read.private", &next, "main"), ("m.read", &said, "main"), ("m.read", &next, "")]
    {
        let body = if thread.is_empty() { json!({}) } else { json!({ "thread_id": thread }) };
        let path = format!("{V3}/rooms/{room}/receipt/{kind}/{event}");
        assert_eq!(server.post(&path, &alice.token, body).await.0, 200);
    }
    let threaded = b.edu("m.receipt").await[room.as_str()]["m.read"]["@alice:a.test"].clone();
    assert_eq!(threaded["event_ids"], json!([said]));
    assert_eq!(threaded["data"]["thread_id"], "main");
    let unthreaded = b.edu("m.receipt").await[room.as_str()]["m.read"]["@alice:a.test"].clone();
    assert_eq!(unthreaded["event_ids"], json!([next]));
    assert!(unthreaded["data"]["ts"].is_u64() && unthreaded["data"]["thread_id"].is_null());
}

#[tokio::test]
async fn presence_is_sent_to_servers_that_share_a_room() {
    let (_network, server, [mut b, mut c], alice) = with_two_others().await;
    let carol = server.register("carol").await;
    let _room = shared_room(&server, &alice, &[&b]).await;
    let other = shared_room(&server, &carol, &[&c]).await;
    let path = format!("presence/{}/status", alice.user_id);
    put(&server, &alice, &path, json!({ "presence": "online", "status_msg": "here" })).await;
    let update = b.edu("m.presence").await["push"][0].clone();
    assert_eq!(update["user_id"], json!(alice.user_id));
    assert_eq!((&update["presence"], &update["status_msg"]), (&json!("online"), &json!("here")));
    say(&server, &other, &carol, "marker").await;
    let transactions = c.upto("marker").await;
    assert!(transactions.iter().all(|one| one.edus.is_empty()), "{transactions:?}");
    assert_eq!(bodies(&transactions[0].pdus), ["marker"]);
}

#[tokio::test]
async fn presence_that_holds_for_long_is_sent_again() {
    let network = TestNetwork::new();
    let server = TestServer::start_from(network.options("a.test")).await;
    let mut b = Receiver::join(&network, "b.test").await;
    let alice = server.register("alice").await;
    let _room = shared_room(&server, &alice, &[&b]).await;
    // The device is present for half a minute after each sync.
    for _ in 0..76 {
        sync(&server, &alice, "?set_presence=unavailable").await;
        server.clock.advance(Duration::from_secs(20)).await;
    }
    for _ in 0..2 {
        assert_eq!(b.edu("m.presence").await["push"][0]["presence"], "unavailable");
    }
}

#[tokio::test]
async fn typing_of_another_server_is_shown_for_its_members_and_ends_by_itself() {
    let network = TestNetwork::new();
    let server = TestServer::start_from(network.options("a.test")).await;
    let b = Receiver::join(&network, "b.test").await;
    let alice = server.register("alice").await;
    let room = shared_room(&server, &alice, &[&b]).await;
    let typing = |user_id: &str| json!({ "room_id": room, "user_id": user_id, "typing": true });
    let first = sync(&server, &alice, "").await;
    for stranger in ["@alice:a.test", "@nobody:b.test", "@user:c.test"] {
        receive(&server, "m.typing", typing(stranger)).await;
    }
    assert!(sync_since(&server, &alice, &first, "").await["rooms"].is_null());
    receive(&server, "m.typing", typing("@user:b.test")).await;
    let second = sync_since(&server, &alice, &first, "").await;
    let users = |sync: &Value| ephemeral(sync, &room, "m.typing")["user_ids"].clone();
    assert_eq!(users(&second), json!(["@user:b.test"]));
    server.clock.advance(Duration::from_secs(61)).await;
    let third = sync_since(&server, &alice, &second, "").await;
    assert_eq!(users(&third), json!([]));
    let acl = json!({ "allow": ["*"], "deny": ["b.test"] });
    set(&server, &room, &alice, ("m.room.server_acl", ""), acl).await;
    let fourth = sync(&server, &alice, "").await;
    receive(&server, "m.typing", typing("@user:b.test")).await;
    assert!(sync_since(&server, &alice, &fourth, "").await["rooms"].is_null(), "the ACL denies it");
}

#[tokio::test]
async fn receipts_of_another_server_are_shown_with_their_threads() {
    let network = TestNetwork::new();
    let server = TestServer::start_from(network.options("a.test")).await;
    let b = Receiver::join(&network, "b.test").await;
    let alice = server.register("alice").await;
    let room = shared_room(&server, &alice, &[&b]).await;
    let said = say(&server, &room, &alice, "read this").await;
    let first = sync(&server, &alice, "").await;
    let receipt =
        json!({ "data": { "ts": 1, "thread_id": "main" }, "event_ids": [said, "$nothing"] });
    let read = json!({ "@user:b.test": receipt, "@user:c.test": receipt });
    receive(&server, "m.receipt", json!({ &*room: { "m.read": read } })).await;
    let second = sync_since(&server, &alice, &first, "").await;
    let shown = ephemeral(&second, &room, "m.receipt");
    let of_event = &shown[said.as_str()]["m.read"];
    assert_eq!(*of_event, json!({ "@user:b.test": { "ts": 1, "thread_id": "main" } }));
}

#[tokio::test]
async fn presence_of_another_server_is_shown_to_those_who_share_a_room_and_ends_by_itself() {
    let network = TestNetwork::new();
    let server = TestServer::start_from(network.options("a.test")).await;
    let b = Receiver::join(&network, "b.test").await;
    let alice = server.register("alice").await;
    let _room = shared_room(&server, &alice, &[&b]).await;
    let update = |user_id: &UserId| {
        json!({
            "user_id": user_id, "presence": "online", "status_msg": "here",
            "last_active_ago": 1000, "currently_active": true,
        })
    };
    receive(&server, "m.presence", json!({ "push": [update(&b.user.user_id)] })).await;
    receive(&server, "m.presence", json!({ "push": [update(&alice.user_id)] })).await;
    let path = |user: &UserId| format!("{V3}/presence/{user}/status");
    let (status, shown) = server.get(&path(&b.user.user_id), &alice.token).await;
    assert_eq!((status.as_u16(), &shown["presence"]), (200, &json!("online")), "{shown}");
    assert_eq!(shown["status_msg"], "here");
    let (_, own) = server.get(&path(&alice.user_id), &alice.token).await;
    assert_eq!(own["presence"], "offline");
    server.clock.advance(Duration::from_secs(31 * 60)).await;
    let (_, later) = server.get(&path(&b.user.user_id), &alice.token).await;
    assert_eq!(later["presence"], "offline");
}

#[tokio::test]
async fn a_server_that_joins_gets_the_presence_of_those_in_the_room_and_others_that_of_a_user_who_joins()
 {
    let (_network, server, [mut b, mut c], alice) = with_two_others().await;
    let carol = server.register("carol").await;
    for user in [&alice, &carol] {
        let path = format!("presence/{}/status", user.user_id);
        put(&server, user, &path, json!({ "presence": "online", "status_msg": "here" })).await;
    }
    let room = shared_room(&server, &alice, &[&b]).await;
    let presence = |content: Value| -> Vec<String> {
        let updates = content["push"].as_array().unwrap().iter();
        updates.map(|update| update["user_id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(presence(b.edu("m.presence").await), [alice.user_id.as_str()]);
    member(&server, &room, &carol, &carol, "join").await;
    while presence(b.edu("m.presence").await) != [carol.user_id.as_str()] {}
    member(&server, &room, &c.user, &c.user, "join").await;
    let mut both = presence(c.edu("m.presence").await);
    both.sort();
    assert_eq!(both, [alice.user_id.as_str(), carol.user_id.as_str()]);
}
