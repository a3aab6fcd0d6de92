//! Presence over HTTP: what others see, and when it ends.

use std::{
    future::Future,
    pin::pin,
    task::{Context, Waker},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::time::timeout;
use wick_core::config::Rate;
use wick_database::Watch;
use wick_harness::{TestServer, User};

use crate::{
    expiry::call::PATIENCE,
    talk::{events, filter, member, room, say, sync, sync_since},
};

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

/// Waits until a user's presence is as `state`: what ends by itself does so a moment after its time.
async fn until_state(server: &TestServer, by: &User, of: &str, state: &str) {
    let met = async {
        while get(server, by, of).await.1.get("presence") != Some(&json!(state)) {
            tokio::task::yield_now().await;
        }
    };
    assert!(timeout(PATIENCE, met).await.is_ok(), "{of} does not become {state}");
}

/// A user's presence in a sync; null if absent.
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
    // An offline user is not in the first sync.
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
    assert!(sync_since(&server, &bob, &third, "").await["presence"].is_null(), "no change");
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
async fn what_a_user_does_makes_them_online_only_once_a_client_of_theirs_is_connected() {
    let server = TestServer::start().await;
    let (alice, bob) = two_in_a_room(&server).await;
    let room_id = room(&server, &alice).await;
    let first = sync(&server, &alice, "").await;
    member(&server, &room_id, &bob, &bob, "join").await;
    server.clock.advance(Duration::ZERO).await;
    let second = sync_since(&server, &alice, &first, "").await;
    assert!(presence(&second, &bob).is_null(), "{second}");
    assert_eq!(get(&server, &alice, "@bob:localhost").await.1["presence"], "offline");
    assert_eq!(put(&server, &bob, json!({ "presence": "online" })).await.0, 200);
    let third = sync_since(&server, &alice, &second, "").await;
    assert_eq!(state(&third, &bob), "online");
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
async fn a_presence_outlives_a_restart_and_ends_if_its_user_does_not_come_back() {
    let mut server = TestServer::start().await;
    let (alice, bob) = two_in_a_room(&server).await;
    put(&server, &alice, json!({ "presence": "online", "status_msg": "busy" })).await;
    let first = sync(&server, &bob, "").await;
    assert_eq!(state(&first, &alice), "online");
    server.restart().await;
    assert!(presence(&sync_since(&server, &bob, &first, "").await, &alice).is_null());
    assert_eq!(state(&sync(&server, &bob, "").await, &alice), "online");
    assert_eq!(get(&server, &bob, "@alice:localhost").await.1["presence"], "online");
    server.clock.advance(Duration::from_secs(100)).await;
    let told = presence(&sync_since(&server, &bob, &first, "").await, &alice);
    assert_eq!((&told["presence"], &told["status_msg"]), (&json!("offline"), &json!("busy")));
}

/// Syncs of a client that asks every 20 seconds, for as long as this.
async fn poll_for(server: &TestServer, user: &User, seconds: u64) {
    for _ in 0..seconds / 20 {
        sync(server, user, "").await;
        server.clock.advance(Duration::from_secs(20)).await;
    }
}

#[tokio::test]
async fn a_user_idles_after_five_minutes_without_activity_also_through_a_restart() {
    let mut server = TestServer::start().await;
    let (alice, bob) = two_in_a_room(&server).await;
    let room_id = room(&server, &alice).await;
    let of_alice = "@alice:localhost";
    poll_for(&server, &alice, 280).await;
    assert_eq!(get(&server, &bob, of_alice).await.1["presence"], "online");
    server.restart().await;
    poll_for(&server, &alice, 40).await;
    until_state(&server, &bob, of_alice, "unavailable").await;
    poll_for(&server, &alice, 60).await;
    server.restart().await;
    poll_for(&server, &alice, 20).await;
    let state = get(&server, &bob, of_alice).await.1["presence"].clone();
    assert_eq!(state, "unavailable", "a sync is no activity");
    say(&server, &room_id, &alice, "back").await;
    poll_for(&server, &alice, 20).await;
    until_state(&server, &bob, of_alice, "online").await;
    server.clock.advance(Duration::from_secs(30)).await;
    until_state(&server, &bob, of_alice, "offline").await;
}

#[tokio::test]
async fn offline_that_a_user_set_holds_while_they_send_until_a_client_sets_another_state() {
    let mut server = TestServer::start().await;
    let (alice, bob) = two_in_a_room(&server).await;
    let room_id = room(&server, &alice).await;
    sync(&server, &alice, "").await;
    put(&server, &alice, json!({ "presence": "offline" })).await;
    for restart in [false, true] {
        if restart {
            server.restart().await;
        }
        server.clock.advance(Duration::from_secs(70)).await;
        say(&server, &room_id, &alice, "unseen").await;
        server.clock.advance(Duration::from_secs(1)).await;
        let seen = get(&server, &bob, "@alice:localhost").await.1;
        assert_eq!(
            (&seen["presence"], &seen["last_active_ago"]),
            (&json!("offline"), &json!(1000))
        );
        assert!(presence(&sync(&server, &bob, "").await, &alice).is_null());
    }
    sync(&server, &alice, "?set_presence=unavailable").await;
    assert_eq!(get(&server, &bob, "@alice:localhost").await.1["presence"], "unavailable");
    say(&server, &room_id, &alice, "here").await;
    server.clock.advance(Duration::from_secs(1)).await;
    assert_eq!(get(&server, &bob, "@alice:localhost").await.1["presence"], "online");
}

/// How many of the waits for a room ended by now.
fn woken(waits: &mut [Watch]) -> usize {
    let mut context = Context::from_waker(Waker::noop());
    let mut woken = 0;
    for wait in waits {
        woken += usize::from(pin!(wait.changed()).poll(&mut context).is_ready());
    }
    woken
}

#[tokio::test]
async fn what_others_do_not_see_of_a_presence_wakes_no_sync() {
    let server = TestServer::start().await;
    let (alice, _) = two_in_a_room(&server).await;
    sync(&server, &alice, "").await;
    server.clock.advance(Duration::ZERO).await;
    let database = &server.services().database;
    let read = database.published();
    let user = database.intern().lookup_user(&read, &alice.user_id).unwrap().unwrap();
    let graph = &server.services().graph;
    let room = graph.rooms_of(&read, user).next().unwrap().unwrap().0;
    let mut waits: Vec<_> = (0..199).map(|_| database.watch().room(room)).collect();
    let since = database.position();
    for change in ["online", "unavailable"] {
        let mut count = 0;
        for _ in 0..20 {
            put(&server, &alice, json!({ "presence": change, "status_msg": "here" })).await;
            count += woken(&mut waits);
            sync(&server, &alice, &format!("?set_presence={change}")).await;
            count += woken(&mut waits);
        }
        assert_eq!(count, 199, "woken by 20 requests and 20 syncs that ask for {change}");
    }
    // Its row is written again from time to time, as its state holds for longer.
    for _ in 0..10 {
        server.clock.advance(Duration::from_secs(20)).await;
        sync(&server, &alice, "?set_presence=unavailable").await;
    }
    assert_eq!(woken(&mut waits), 0, "woken by ten syncs in 200 seconds");
    assert!(!database.is_busy_since(room, since), "syncs would look into the room");
}

#[tokio::test]
async fn presence_can_be_switched_off() {
    let server = TestServer::start_with(|config| config.presence.enabled = false).await;
    let (alice, bob) = two_in_a_room(&server).await;
    assert_eq!(put(&server, &alice, json!({ "presence": "online" })).await.0, 200);
    assert!(sync(&server, &bob, "").await["presence"].is_null());
    assert_eq!(get(&server, &bob, "@alice:localhost").await.1["presence"], "offline");
}

#[tokio::test]
async fn changes_of_presence_are_limited_by_requests_and_by_syncs() {
    let server = TestServer::start_with(|config| {
        config.limits.enabled = true;
        config.limits.presence = Rate { per_second: 0.1, burst: 3 };
    })
    .await;
    let (alice, bob) = two_in_a_room(&server).await;
    for state in ["online", "unavailable", "online"] {
        assert_eq!(put(&server, &alice, json!({ "presence": state })).await.0, 200);
    }
    let (status, body) = put(&server, &alice, json!({ "presence": "unavailable" })).await;
    assert_eq!((status, &body["errcode"]), (429, &json!("M_LIMIT_EXCEEDED")), "{body}");
    sync(&server, &alice, "?set_presence=unavailable").await;
    assert_eq!(get(&server, &bob, "@alice:localhost").await.1["presence"], "online");
    server.clock.advance(Duration::from_secs(10)).await;
    sync(&server, &alice, "?set_presence=unavailable").await;
    assert_eq!(get(&server, &bob, "@alice:localhost").await.1["presence"], "unavailable");
}
