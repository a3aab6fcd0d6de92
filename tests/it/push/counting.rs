//! The unread count of notifications, and what reading does.

use std::time::Duration;

use serde_json::json;
use wick_core::config::Counted;

use super::gateway::{Reply, Two, read, set};

#[tokio::test]
async fn rooms_are_counted_unless_messages_are_wanted() {
    for (count, expected) in [(Counted::Rooms, [1, 1, 2, 2]), (Counted::Messages, [1, 2, 3, 4])] {
        let two = Two::with(|config| config.push.count = count).await;
        let rooms = [two.room().await, two.room().await];
        for (number, unread) in expected.into_iter().enumerate() {
            rooms[number / 2].say(&two.alice, "hello").await;
            assert_eq!(two.gateway.next().await["counts"], json!({ "unread": unread }));
        }
    }
}

#[tokio::test]
async fn reading_sends_the_count_if_and_only_if_it_changed() {
    let two = Two::new().await;
    let (one, other) = (two.room().await, two.room().await);
    let mut said = Vec::new();
    for (room, unread) in [(&one, 1), (&one, 1), (&other, 2)] {
        said.push(room.say(&two.alice, "hello").await);
        assert_eq!(two.gateway.next().await["counts"]["unread"], unread);
    }
    let [first, second, third] = &said[..] else { unreachable!("three were said") };
    read(&two.server, &one, &two.bob, first).await;
    read(&two.server, &one, &two.bob, second).await;
    let notification = two.gateway.next().await;
    assert_eq!(notification["counts"], json!({ "unread": 1 }));
    assert_eq!(notification["devices"][0]["pushkey"], "key");
    assert_eq!(notification.get("event_id"), None);
    other.say(&two.bob, "an answer reads, too").await;
    assert_eq!(two.gateway.next().await["counts"], json!({ "unread": 0 }));
    read(&two.server, &other, &two.bob, third).await;
    let fourth = one.say(&two.alice, "four").await;
    assert_eq!(two.gateway.next_event().await, fourth);
}

#[tokio::test]
async fn redacting_an_unread_event_sends_the_lower_count() {
    let two = Two::with(|config| config.push.count = Counted::Messages).await;
    let room = two.room().await;
    room.say(&two.alice, "kept").await;
    assert_eq!(two.gateway.next().await["counts"]["unread"], 1);
    let redacted = room.say(&two.alice, "redacted").await;
    assert_eq!(two.gateway.next().await["counts"]["unread"], 2);
    room.redact(&two.alice, &redacted).await;
    let notification = two.gateway.next().await;
    assert_eq!(notification["counts"], json!({ "unread": 1 }));
    assert_eq!(notification.get("event_id"), None);
}

#[tokio::test]
async fn a_room_that_was_left_does_not_count() {
    let two = Two::new().await;
    let rooms = [two.room().await, two.room().await, two.room().await];
    for (number, room) in rooms.iter().enumerate() {
        room.say(&two.alice, "hello").await;
        assert_eq!(two.gateway.next().await["counts"]["unread"], number + 1);
    }
    rooms[0].member(&two.bob, &two.bob, "leave").await;
    assert_eq!(two.gateway.next().await["counts"]["unread"], 2);
    rooms[1].member(&two.alice, &two.bob, "leave").await;
    assert_eq!(two.gateway.next().await["counts"]["unread"], 1);
}

#[tokio::test]
async fn what_is_read_redacted_or_left_behind_before_it_is_sent_is_dropped() {
    let two = Two::new().await;
    let (room, left) = (two.room().await, two.room().await);
    two.gateway.reply([Reply::Status(502, None)]);
    let failed = room.say(&two.alice, "read").await;
    assert_eq!(two.gateway.next_event().await, failed);
    two.server.clock.awaited(Duration::from_secs(1)).await;
    let read_too = room.say(&two.alice, "read, too").await;
    let redacted = room.say(&two.alice, "redacted").await;
    left.say(&two.alice, "in a room that is left").await;
    let kept = room.say(&two.alice, "kept").await;
    read(&two.server, &room, &two.bob, &read_too).await;
    room.redact(&two.alice, &redacted).await;
    left.member(&two.bob, &two.bob, "leave").await;
    two.server.clock.advance(Duration::from_secs(1)).await;
    let notification = two.gateway.next().await;
    assert_eq!(notification["event_id"], json!(kept));
    assert_eq!(notification["counts"]["unread"], 1);
}

#[tokio::test]
async fn a_pusher_that_wants_no_count_gets_none() {
    let two = Two::new().await;
    let mut pusher = two.gateway.pusher("key");
    pusher["data"]["org.matrix.msc4076.disable_badge_count"] = json!(true);
    set(&two.server, &two.bob, pusher).await;
    let room = two.room().await;
    let said = room.say(&two.alice, "hello").await;
    let notification = two.gateway.next().await;
    assert_eq!(notification["event_id"], json!(said));
    assert_eq!(notification.get("counts"), None);
    read(&two.server, &room, &two.bob, &said).await;
    let next = room.say(&two.alice, "again").await;
    assert_eq!(two.gateway.next_event().await, next);
}
