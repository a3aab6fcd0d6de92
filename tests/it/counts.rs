//! Notification counts in `/sync`: rules, receipts, threads, events that expire.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    reason = "the helpers of tests, which clippy does not take for tests"
)]

use std::time::Duration;

use ruma::{EventId, RoomId};
use serde_json::{Value, json};
use wick_harness::{TestServer, User};

use crate::talk::{filter, joined, member, room, say, send, set, sync, sync_since};

async fn two_in_a_room(server: &TestServer) -> (User, User, ruma::OwnedRoomId) {
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room_id = room(server, &alice).await;
    say(server, &room_id, &alice, "before bob came").await;
    member(server, &room_id, &bob, &bob, "join").await;
    (alice, bob, room_id)
}

async fn read(server: &TestServer, room_id: &RoomId, user: &User, at: &EventId, body: Value) {
    let path = format!("/_matrix/client/v3/rooms/{room_id}/receipt/m.read/{at}");
    let (status, body) = server.post(&path, &user.token, body).await;
    assert_eq!(status.as_u16(), 200, "{body}");
}

fn with_bob(body: &str) -> Value {
    json!({ "msgtype": "m.text", "body": body, "m.mentions": { "user_ids": ["@bob:localhost"] } })
}

fn counts(unread: &Value) -> (u64, u64) {
    let count = |key: &str| unread.get(key).and_then(Value::as_u64).unwrap_or(u64::MAX);
    (count("notification_count"), count("highlight_count"))
}

#[tokio::test]
async fn what_others_say_counts_until_it_is_read() {
    let server = TestServer::start().await;
    let (alice, bob, room_id) = two_in_a_room(&server).await;
    let unread = |told: &Value| counts(&joined(told, &room_id)["unread_notifications"]);
    let first = sync(&server, &bob, "").await;
    assert_eq!(unread(&first), (0, 0));
    say(&server, &room_id, &alice, "hello").await;
    let second = sync_since(&server, &bob, &first, "").await;
    assert_eq!(unread(&second), (1, 0));
    let mention = send(&server, &room_id, &alice, with_bob("hello bob")).await;
    let third = sync_since(&server, &bob, &second, "").await;
    assert_eq!(unread(&third), (2, 1));
    assert_eq!(unread(&sync(&server, &bob, "").await), (2, 1));
    read(&server, &room_id, &bob, &mention, json!({})).await;
    assert_eq!(unread(&sync_since(&server, &bob, &third, "").await), (0, 0));
    say(&server, &room_id, &alice, "again").await;
    assert_eq!(unread(&sync_since(&server, &bob, &third, "").await), (1, 0));
    set(&server, &room_id, &alice, ("m.room.topic", ""), json!({ "topic": "quiet" })).await;
    assert_eq!(unread(&sync(&server, &bob, "").await), (1, 0));
}

#[tokio::test]
async fn a_name_in_the_text_is_a_mention_if_the_event_does_not_say_whom_it_mentions() {
    let server = TestServer::start().await;
    let (alice, bob, room_id) = two_in_a_room(&server).await;
    let unread = |told: &Value| counts(&joined(told, &room_id)["unread_notifications"]);
    say(&server, &room_id, &alice, "hello @bob:localhost").await;
    assert_eq!(unread(&sync(&server, &bob, "").await), (1, 1));
    say(&server, &room_id, &alice, "wake up @room").await;
    assert_eq!(unread(&sync(&server, &bob, "").await), (2, 2));
    let nobody = json!({ "msgtype": "m.text", "body": "not bob @room", "m.mentions": {} });
    send(&server, &room_id, &alice, nobody).await;
    assert_eq!(unread(&sync(&server, &bob, "").await), (3, 2));
}

#[tokio::test]
async fn counts_are_the_same_after_a_restart() {
    let mut server = TestServer::start().await;
    let (alice, bob, room_id) = two_in_a_room(&server).await;
    let read_one = say(&server, &room_id, &alice, "one").await;
    say(&server, &room_id, &alice, "two").await;
    read(&server, &room_id, &bob, &read_one, json!({})).await;
    let unread = |told: &Value| counts(&joined(told, &room_id)["unread_notifications"]);
    assert_eq!(unread(&sync(&server, &bob, "").await), (1, 0));
    server.restart().await;
    assert_eq!(unread(&sync(&server, &bob, "").await), (1, 0));
}

/// Sends a mention of bob that expires after ten seconds.
async fn mention_for_a_while(server: &TestServer, room_id: &RoomId, by: &User) -> Value {
    let mut content = with_bob("hello");
    content["m.will_expire"] = json!(10);
    let path = format!("/_matrix/client/v3/rooms/{room_id}/send/m.room.message/while");
    let (status, sent) = server.put(&path, &by.token, content).await;
    assert_eq!(status.as_u16(), 200, "{sent}");
    sent
}

/// Syncs until the copy has come, and returns that answer.
async fn sync_with_copy(server: &TestServer, user: &User, since: &Value, status: &str) -> Value {
    for _ in 0..100 {
        let told = sync(server, user, "").await;
        if told["rooms"]["join"].to_string().contains(&format!("\"m.will_expire\":\"{status}\"")) {
            return told;
        }
        sync_since(server, user, since, "&timeout=0").await;
    }
    panic!("no copy with status {status} has come");
}

#[tokio::test]
async fn the_copy_that_says_that_an_event_ended_does_not_count() {
    for status in ["expired", "ended"] {
        let server = TestServer::start().await;
        let (alice, bob, room_id) = two_in_a_room(&server).await;
        let sent = mention_for_a_while(&server, &room_id, &alice).await;
        let before = sync(&server, &bob, "").await;
        assert_eq!(counts(&joined(&before, &room_id)["unread_notifications"]), (1, 1));
        if status == "expired" {
            server.clock.advance(Duration::from_secs(10)).await;
        } else {
            let token = json!({ "expire_refresh_token": sent["expire_refresh_token"] });
            let end = "/_matrix/client/v3/expiration/end";
            assert_eq!(server.put(end, "", token).await.0.as_u16(), 200);
        }
        let told = sync_with_copy(&server, &bob, &before, status).await;
        assert_eq!(counts(&joined(&told, &room_id)["unread_notifications"]), (1, 1), "{status}");
    }
}

#[tokio::test]
async fn threads_are_counted_and_read_by_themselves() {
    let server = TestServer::start().await;
    let (alice, bob, room_id) = two_in_a_room(&server).await;
    let in_thread = |root: &EventId, mut content: Value| {
        content["m.relates_to"] = json!({ "rel_type": "m.thread", "event_id": root });
        content
    };
    let root = say(&server, &room_id, &alice, "root").await;
    let one = send(
        &server,
        &room_id,
        &alice,
        in_thread(&root, json!({ "msgtype": "m.text", "body": "one" })),
    )
    .await;
    let two = send(&server, &room_id, &alice, in_thread(&root, with_bob("two"))).await;
    let reply = json!({
        "msgtype": "m.text", "body": "about one",
        "m.relates_to": { "rel_type": "m.reference", "event_id": one },
    });
    send(&server, &room_id, &alice, reply).await;
    let main = send(&server, &room_id, &alice, with_bob("main")).await;

    let by_thread = json!({ "room": { "timeline": { "unread_thread_notifications": true } } });
    let by_thread = format!("?{}", filter(&by_thread));
    let check = async |total: (u64, u64), in_main: (u64, u64), in_thread: Option<(u64, u64)>| {
        let told = sync(&server, &bob, "").await;
        let told = joined(&told, &room_id);
        assert_eq!(counts(&told["unread_notifications"]), total);
        assert!(told["unread_thread_notifications"].is_null());
        let told = sync(&server, &bob, &by_thread).await;
        let told = joined(&told, &room_id);
        assert_eq!(counts(&told["unread_notifications"]), in_main);
        let thread = &told["unread_thread_notifications"][root.as_str()];
        assert_eq!((!thread.is_null()).then(|| counts(thread)), in_thread);
    };
    check((5, 2), (2, 1), Some((3, 1))).await;
    read(&server, &room_id, &bob, &root, json!({ "thread_id": "main" })).await;
    check((4, 2), (1, 1), Some((3, 1))).await;
    read(&server, &room_id, &bob, &two, json!({ "thread_id": root })).await;
    check((2, 1), (1, 1), Some((1, 0))).await;
    read(&server, &room_id, &bob, &main, json!({})).await;
    check((0, 0), (0, 0), None).await;
}

#[tokio::test]
async fn a_muted_room_counts_nothing() {
    let server = TestServer::start().await;
    let (alice, bob, room_id) = two_in_a_room(&server).await;
    let path = format!("/_matrix/client/v3/pushrules/global/room/{room_id}");
    let (status, _) = server.put(&path, &bob.token, json!({ "actions": [] })).await;
    assert_eq!(status.as_u16(), 200);
    say(&server, &room_id, &alice, "quiet").await;
    let told = sync(&server, &bob, "").await;
    assert_eq!(counts(&joined(&told, &room_id)["unread_notifications"]), (0, 0));
}

#[tokio::test]
async fn a_message_of_ones_own_reads_what_came_before_and_a_profile_change_does_not() {
    let mut server = TestServer::start().await;
    let (alice, bob, room_id) = two_in_a_room(&server).await;
    let unread = |told: &Value| counts(&joined(told, &room_id)["unread_notifications"]);
    let first = sync(&server, &bob, "").await;
    say(&server, &room_id, &alice, "before").await;
    let second = sync_since(&server, &bob, &first, "").await;
    assert_eq!(unread(&second), (1, 0));
    let named = json!({ "membership": "join", "displayname": "Bobby" });
    set(&server, &room_id, &bob, ("m.room.member", "@bob:localhost"), named).await;
    let third = sync_since(&server, &bob, &second, "").await;
    assert_eq!(unread(&third), (1, 0));
    say(&server, &room_id, &bob, "an answer").await;
    say(&server, &room_id, &alice, "after").await;
    assert_eq!(unread(&sync_since(&server, &bob, &third, "").await), (1, 0));
    server.restart().await;
    assert_eq!(unread(&sync(&server, &bob, "").await), (1, 0));
}

#[tokio::test]
async fn an_answer_in_a_thread_reads_that_thread_alone() {
    let server = TestServer::start().await;
    let (alice, bob, room_id) = two_in_a_room(&server).await;
    let root = say(&server, &room_id, &alice, "root").await;
    let in_thread = |body: &str| {
        json!({
            "msgtype": "m.text", "body": body,
            "m.relates_to": { "rel_type": "m.thread", "event_id": root },
        })
    };
    send(&server, &room_id, &alice, in_thread("in the thread")).await;
    send(&server, &room_id, &bob, in_thread("an answer")).await;
    let by_thread = json!({ "room": { "timeline": { "unread_thread_notifications": true } } });
    let told = sync(&server, &bob, &format!("?{}", filter(&by_thread))).await;
    let told = joined(&told, &room_id);
    assert_eq!(counts(&told["unread_notifications"]), (1, 0));
    assert!(told["unread_thread_notifications"].is_null(), "{told}");
}

#[tokio::test]
async fn what_is_redacted_does_not_count_any_more() {
    let server = TestServer::start().await;
    let (alice, bob, room_id) = two_in_a_room(&server).await;
    let unread = |told: &Value| counts(&joined(told, &room_id)["unread_notifications"]);
    let mut sent = Vec::new();
    for body in ["one", "two", "three"] {
        sent.push(send(&server, &room_id, &alice, with_bob(body)).await);
    }
    let mut last = sync(&server, &bob, "").await;
    assert_eq!(unread(&last), (3, 3));
    for (number, event_id) in sent.iter().enumerate() {
        let path = format!("/_matrix/client/v3/rooms/{room_id}/redact/{event_id}/{number}");
        assert_eq!(server.put(&path, &alice.token, json!({})).await.0, 200);
        last = sync_since(&server, &bob, &last, "").await;
        let left = 2 - u64::try_from(number).unwrap_or(u64::MAX);
        assert_eq!(unread(&last), (left, left));
    }
}

#[tokio::test]
async fn what_people_say_who_are_ignored_later_does_not_count_any_more() {
    let server = TestServer::start().await;
    let (alice, bob, room_id) = two_in_a_room(&server).await;
    let unread = |told: &Value| counts(&joined(told, &room_id)["unread_notifications"]);
    say(&server, &room_id, &alice, "hello").await;
    assert_eq!(unread(&sync(&server, &bob, "").await), (1, 0));
    let path = "/_matrix/client/v3/user/@bob:localhost/account_data/m.ignored_user_list";
    for (ignored, expected) in [(json!({ "@alice:localhost": {} }), 0), (json!({}), 1)] {
        let list = json!({ "ignored_users": ignored });
        assert_eq!(server.put(path, &bob.token, list).await.0, 200);
        assert_eq!(unread(&sync(&server, &bob, "").await), (expected, 0));
    }
}

#[tokio::test]
async fn a_display_name_is_no_pattern() {
    let server = TestServer::start().await;
    let (alice, bob, room_id) = two_in_a_room(&server).await;
    let unread = |told: &Value| counts(&joined(told, &room_id)["unread_notifications"]);
    for (name, body, highlights) in [
        ("*", "hello", 0),
        ("Who?", "whom do you mean", 0),
        ("Who?", "is it Who? or not", 1),
        ("b*b", "hello b*b", 1),
    ] {
        let named = json!({ "membership": "join", "displayname": name });
        set(&server, &room_id, &bob, ("m.room.member", "@bob:localhost"), named).await;
        say(&server, &room_id, &bob, "read up to here").await;
        say(&server, &room_id, &alice, body).await;
        assert_eq!(unread(&sync(&server, &bob, "").await), (1, highlights), "{name}: {body}");
    }
}
