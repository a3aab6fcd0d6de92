//! Typing over HTTP: what members see, and until when.

#![expect(clippy::indexing_slicing, reason = "what a test asks for is there")]

use std::time::Duration;

use ruma::RoomId;
use serde_json::{Value, json};
use wick_database::{
    Read,
    schema::{ephemeral::TYPING_BY_ROOM, room::MEMBER_BY_USER},
};
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
async fn typing_outlives_a_restart_and_ends_when_it_would_have() {
    let mut server = TestServer::start().await;
    let alice = server.register("alice").await;
    let room_id = room(&server, &alice).await;
    put(&server, &room_id, &alice, json!({ "typing": true, "timeout": 20000 })).await;
    let first = sync(&server, &alice, "").await;
    server.clock.advance(Duration::from_secs(5)).await;
    put(&server, &room_id, &alice, json!({ "typing": true, "timeout": 20000 })).await;
    server.restart().await;
    let again = sync(&server, &alice, "").await;
    assert_eq!(typing(&again, &room_id), json!(["@alice:localhost"]));
    server.clock.advance(Duration::from_secs(19)).await;
    assert!(typing(&sync_since(&server, &alice, &first, "").await, &room_id).is_null());
    server.clock.advance(Duration::from_secs(1)).await;
    let over = sync_since(&server, &alice, &first, "").await;
    assert_eq!(typing(&over, &room_id), json!([]));
}

#[tokio::test]
async fn typing_ends_together_with_the_membership_however_it_ends() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let room_id = room(&server, &alice).await;
    let read = server.services().database.published();
    let short = server.services().graph.short(&read, &room_id).unwrap().unwrap();
    for way in ["leave", "forget", "kick", "ban", "state", "deactivate"] {
        let bob = server.register(&format!("bob_{way}")).await;
        member(&server, &room_id, &bob, &bob, "join").await;
        for user in [&alice, &bob] {
            put(&server, &room_id, user, json!({ "typing": true })).await;
        }
        let before = sync(&server, &alice, "").await;
        end_membership(&server, &room_id, (&alice, &bob), way).await;
        let after = sync_since(&server, &alice, &before, "").await;
        assert_eq!(typing(&after, &room_id), json!(["@alice:localhost"]), "{way}");
        let read = server.services().database.published();
        let user = server.services().database.intern().lookup_user(&read, &bob.user_id);
        let membership = read.get(&MEMBER_BY_USER, &(user.unwrap().unwrap(), short)).unwrap();
        let typing = read.get(&TYPING_BY_ROOM, &short).unwrap().unwrap();
        assert_eq!(typing.position, membership.unwrap().position, "one batch: {way}");
        put(&server, &room_id, &alice, json!({ "typing": false })).await;
    }
}

/// Ends the membership of the second user in one of several ways.
async fn end_membership(server: &TestServer, room_id: &RoomId, users: (&User, &User), way: &str) {
    let (alice, bob) = users;
    let v3 = "/_matrix/client/v3";
    let at_room = |what: &str| format!("{v3}/rooms/{room_id}/{what}");
    let target = json!({ "user_id": bob.user_id });
    let (status, body) = match way {
        "leave" | "forget" => server.post(&at_room("leave"), &bob.token, json!({})).await,
        "kick" | "ban" => server.post(&at_room(way), &alice.token, target).await,
        "state" => {
            let path = at_room(&format!("state/m.room.member/{}", bob.user_id));
            server.put(&path, &alice.token, json!({ "membership": "leave" })).await
        }
        _ => {
            let path = format!("{v3}/account/deactivate");
            let (_, challenge) = server.post(&path, &bob.token, json!({})).await;
            let body = json!({ "auth": {
                "type": "m.login.password", "password": "correct horse battery staple",
                "identifier": { "type": "m.id.user", "user": bob.user_id },
                "session": challenge["session"],
            }});
            server.post(&path, &bob.token, body).await
        }
    };
    assert_eq!(status.as_u16(), 200, "{way}: {body}");
    if way == "forget" {
        let (status, body) = server.post(&at_room("forget"), &bob.token, json!({})).await;
        assert_eq!(status.as_u16(), 200, "{body}");
    }
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
