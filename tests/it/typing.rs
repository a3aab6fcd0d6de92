//! Typing over HTTP: who is told, and until when.

use std::time::Duration;

use ruma::RoomId;
use serde_json::{Value, json};
use wick_harness::{TestServer, User};

use crate::talk::{ephemeral, member, room, sync, sync_since};

async fn put(server: &TestServer, room_id: &RoomId, user: &User, body: Value) -> (u16, Value) {
    let path = format!("/_matrix/client/v3/rooms/{room_id}/typing/{}", user.user_id);
    let (status, body) = server.put(&path, &user.token, body).await;
    (status.as_u16(), body)
}

fn typing(sync: &Value, room_id: &RoomId) -> Value {
    ephemeral(sync, room_id, "m.typing").get("user_ids").cloned().unwrap_or_default()
}

#[tokio::test]
async fn who_types_is_told_until_they_stop() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room_id = room(&server, &alice).await;
    member(&server, &room_id, &bob, &bob, "join").await;
    let first = sync(&server, &alice, "").await;
    let waiting = sync_since(&server, &alice, &first, "&timeout=30000");
    let typing_now = put(&server, &room_id, &bob, json!({ "typing": true, "timeout": 20000 }));
    let (second, answer) = tokio::join!(waiting, typing_now);
    assert_eq!(answer, (200, json!({})));
    assert_eq!(typing(&second, &room_id), json!(["@bob:localhost"]));
    put(&server, &room_id, &bob, json!({ "typing": true })).await;
    let same = sync_since(&server, &alice, &second, "").await;
    assert!(same["rooms"].is_null(), "{same}");
    put(&server, &room_id, &bob, json!({ "typing": false })).await;
    let third = sync_since(&server, &alice, &second, "").await;
    assert_eq!(typing(&third, &room_id), json!([]));
    assert!(typing(&sync(&server, &alice, "").await, &room_id).is_null());
}

#[tokio::test]
async fn typing_is_over_after_its_time() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let room_id = room(&server, &alice).await;
    put(&server, &room_id, &alice, json!({ "typing": true, "timeout": 5000 })).await;
    let first = sync(&server, &alice, "").await;
    assert_eq!(typing(&first, &room_id), json!(["@alice:localhost"]));
    server.clock.advance(Duration::from_secs(4)).await;
    assert!(sync_since(&server, &alice, &first, "").await["rooms"].is_null());
    let waiting = sync_since(&server, &alice, &first, "&timeout=30000");
    let (second, ()) = tokio::join!(waiting, server.clock.advance(Duration::from_secs(2)));
    assert_eq!(typing(&second, &room_id), json!([]));
}

#[tokio::test]
async fn nobody_is_typing_after_a_restart_and_clients_are_told() {
    let mut server = TestServer::start().await;
    let alice = server.register("alice").await;
    let room_id = room(&server, &alice).await;
    put(&server, &room_id, &alice, json!({ "typing": true })).await;
    let first = sync(&server, &alice, "").await;
    assert_eq!(typing(&first, &room_id), json!(["@alice:localhost"]));
    server.restart().await;
    let second = sync_since(&server, &alice, &first, "").await;
    assert_eq!(typing(&second, &room_id), json!([]));
}

#[tokio::test]
async fn typing_is_for_oneself_in_a_room_one_is_in() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let (room_id, other) = (room(&server, &alice).await, room(&server, &alice).await);
    assert_eq!(put(&server, &room_id, &bob, json!({ "typing": true })).await.0, 403);
    let path = format!("/_matrix/client/v3/rooms/{room_id}/typing/{}", bob.user_id);
    let (status, _) = server.put(&path, &alice.token, json!({ "typing": true })).await;
    assert_eq!(status.as_u16(), 403);
    let bad = put(&server, &room_id, &alice, json!({ "typing": "yes" })).await;
    assert_eq!((bad.0, &bad.1["errcode"]), (400, &json!("M_BAD_JSON")));
    let first = sync(&server, &alice, "").await;
    put(&server, &room_id, &alice, json!({ "typing": true })).await;
    let second = sync_since(&server, &alice, &first, "").await;
    assert!(second["rooms"]["join"][other.as_str()].is_null());
}
