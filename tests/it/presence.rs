//! Presence over HTTP: who sees whom, and when somebody has gone.

use std::time::Duration;

use serde_json::{Value, json};
use wick_harness::{TestServer, User};

use crate::talk::{events, filter, member, room, sync, sync_since};

async fn put(server: &TestServer, user: &User, body: Value) -> (u16, Value) {
    let path = format!("/_matrix/client/v3/presence/{}/status", user.user_id);
    let (status, body) = server.put(&path, &user.token, body).await;
    (status.as_u16(), body)
}

async fn get(server: &TestServer, by: &User, of: &str) -> (u16, Value) {
    let path = format!("/_matrix/client/v3/presence/{of}/status");
    let (status, body) = server.get(&path, &by.token).await;
    (status.as_u16(), body)
}

/// What a sync says of a user's presence; null if nothing.
fn presence(sync: &Value, of: &User) -> Value {
    let told = sync.get("presence").cloned().unwrap_or_default();
    let found = events(&told).iter().find(|event| event.get("sender") == Some(&json!(of.user_id)));
    found.and_then(|event| event.get("content").cloned()).unwrap_or_default()
}

fn state(sync: &Value, of: &User) -> Value {
    presence(sync, of).get("presence").cloned().unwrap_or_default()
}

async fn two_in_a_room(server: &TestServer) -> (User, User) {
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room_id = room(server, &alice).await;
    member(server, &room_id, &bob, &bob, "join").await;
    (alice, bob)
}

#[tokio::test]
async fn what_a_timer_says_does_not_bring_its_sender_back() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room_id = room(&server, &alice).await;
    member(&server, &room_id, &bob, &bob, "join").await;
    sync(&server, &alice, "").await;
    let path = format!(
        "/_matrix/client/v3/rooms/{room_id}/send/m.room.message/t?org.matrix.msc4140.delay=600000"
    );
    assert_eq!(server.put(&path, &alice.token, json!({ "body": "gone" })).await.0, 200);
    server.clock.advance(Duration::from_secs(599)).await;
    let before = sync(&server, &bob, "").await;
    // Who is not here is not told of at first.
    assert!(presence(&before, &alice).is_null(), "{before}");
    let waiting = sync_since(&server, &bob, &before, "&timeout=30000");
    let (after, ()) = tokio::join!(waiting, server.clock.advance(Duration::from_secs(1)));
    assert!(after.to_string().contains("gone"), "{after}");
    assert!(presence(&after, &alice).is_null(), "{after}");
}

#[tokio::test]
async fn what_a_user_says_of_themselves_is_told_to_those_in_their_rooms() {
    let server = TestServer::start().await;
    let (alice, bob) = two_in_a_room(&server).await;
    let carol = server.register("carol").await;
    let (first, first_of_carol) = (sync(&server, &bob, "").await, sync(&server, &carol, "").await);
    let waiting = sync_since(&server, &bob, &first, "&timeout=30000");
    let status = json!({ "presence": "unavailable", "status_msg": "asleep" });
    let (second, answer) = tokio::join!(waiting, put(&server, &alice, status));
    assert_eq!(answer, (200, json!({})));
    let told = presence(&second, &alice);
    assert_eq!((&told["presence"], &told["status_msg"]), (&json!("unavailable"), &json!("asleep")));
    assert_eq!(told["currently_active"], false);
    let third = sync_since(&server, &bob, &second, "").await;
    assert!(third["presence"].is_null());
    let again = json!({ "presence": "unavailable", "status_msg": "asleep" });
    assert_eq!(put(&server, &alice, again).await.0, 200);
    assert_eq!(state(&sync_since(&server, &bob, &third, "").await, &alice), "unavailable");
    let told = sync_since(&server, &carol, &first_of_carol, "").await;
    assert!(presence(&told, &alice).is_null());
    assert_eq!(state(&sync(&server, &bob, "").await, &alice), "unavailable");
    let seen = get(&server, &bob, "@alice:localhost").await;
    assert_eq!((seen.0, &seen.1["status_msg"]), (200, &json!("asleep")));
    assert_eq!(get(&server, &carol, "@alice:localhost").await.0, 403);
    assert_eq!(get(&server, &carol, "@carol:localhost").await.1["presence"], "online");
    assert_eq!(get(&server, &carol, "@nobody:localhost").await.0, 404);
}

#[tokio::test]
async fn a_sync_says_how_present_its_user_is() {
    let server = TestServer::start().await;
    let (alice, bob) = two_in_a_room(&server).await;
    server.clock.advance(Duration::from_secs(31)).await;
    let mut last = sync(&server, &bob, "").await;
    assert!(state(&last, &alice).is_null());
    for (query, expected) in [
        ("?set_presence=offline", json!(null)),
        ("?set_presence=unavailable", json!("unavailable")),
        ("", json!("online")),
        ("?set_presence=online", json!(null)),
    ] {
        sync(&server, &alice, query).await;
        last = sync_since(&server, &bob, &last, "").await;
        assert_eq!(state(&last, &alice), expected, "{query}");
    }
    let path = "/_matrix/client/v3/sync?set_presence=asleep";
    assert_eq!(server.get(path, &alice.token).await.0.as_u16(), 400);
}

#[tokio::test]
async fn a_user_is_here_while_they_wait_and_gone_some_time_after() {
    let server = TestServer::start().await;
    let (alice, bob) = two_in_a_room(&server).await;
    let (of_alice, mut last) = (sync(&server, &alice, "").await, sync(&server, &bob, "").await);
    let quietly = filter(&json!({ "presence": { "types": [] } }));
    let quietly = format!("&timeout=50000&{quietly}");
    let waiting = sync_since(&server, &alice, &of_alice, &quietly);
    let (_, ()) = tokio::join!(waiting, async {
        server.clock.advance(Duration::from_secs(40)).await;
        let path = "?set_presence=offline";
        assert_eq!(state(&sync(&server, &bob, path).await, &alice), "online");
        server.clock.advance(Duration::from_secs(11)).await;
    });
    server.clock.advance(Duration::from_secs(28)).await;
    last = sync_since(&server, &bob, &last, "").await;
    assert!(state(&last, &alice).is_null());
    let waiting = sync_since(&server, &bob, &last, "&timeout=30000");
    let (last, ()) = tokio::join!(waiting, server.clock.advance(Duration::from_secs(2)));
    assert_eq!(state(&last, &alice), "offline");
}

#[tokio::test]
async fn who_comes_into_a_room_is_told_with_their_presence_and_tells_of_those_there() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room_id = room(&server, &alice).await;
    put(&server, &bob, json!({ "presence": "online" })).await;
    let (of_alice, of_bob) = (sync(&server, &alice, "").await, sync(&server, &bob, "").await);
    member(&server, &room_id, &bob, &bob, "join").await;
    assert_eq!(state(&sync_since(&server, &alice, &of_alice, "").await, &bob), "online");
    assert_eq!(state(&sync_since(&server, &bob, &of_bob, "").await, &alice), "online");
}

#[tokio::test]
async fn nobody_is_here_after_a_restart() {
    let mut server = TestServer::start().await;
    let (alice, bob) = two_in_a_room(&server).await;
    put(&server, &alice, json!({ "presence": "online", "status_msg": "busy" })).await;
    let first = sync(&server, &bob, "").await;
    assert_eq!(state(&first, &alice), "online");
    server.restart().await;
    let told = presence(&sync_since(&server, &bob, &first, "").await, &alice);
    assert_eq!((&told["presence"], &told["status_msg"]), (&json!("offline"), &json!("busy")));
}

#[tokio::test]
async fn presence_can_be_switched_off() {
    let server = TestServer::start_with(|config| config.presence.enabled = false).await;
    let (alice, bob) = two_in_a_room(&server).await;
    assert_eq!(put(&server, &alice, json!({ "presence": "online" })).await.0, 200);
    assert!(sync(&server, &bob, "").await["presence"].is_null());
    assert_eq!(get(&server, &bob, "@alice:localhost").await.1["presence"], "offline");
}
