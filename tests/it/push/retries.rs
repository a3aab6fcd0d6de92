//! Gateways that fail, are slow, or cannot be reached.

use std::time::Duration;

use serde_json::json;

use super::gateway::{Gateway, Reply, Two, pushers, set};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test]
async fn what_a_gateway_does_not_accept_is_sent_again_later_each_time_and_in_order() {
    let two = Two::new().await;
    let room = two.room().await;
    two.gateway.reply([
        Reply::Status(500, None),
        Reply::Status(400, None),
        Reply::Status(302, None),
        Reply::Garbage,
    ]);
    let (first, second) = (room.say(&two.alice, "one").await, room.say(&two.alice, "two").await);
    for wait in [1, 2, 4] {
        assert_eq!(two.gateway.next_event().await, first);
        two.server.clock.awaited(seconds(wait)).await;
        two.server.clock.advance(seconds(wait)).await;
    }
    assert_eq!(two.gateway.next_event().await, first);
    assert_eq!(two.gateway.next_event().await, second, "any body of a success is a success");
    let third = room.say(&two.alice, "three").await;
    assert_eq!(two.gateway.next_event().await, third);
}

#[tokio::test]
async fn a_gateway_says_when_to_come_back_up_to_an_hour() {
    let two = Two::new().await;
    let room = two.room().await;
    let busy = |seconds| Reply::Status(429, Some(seconds));
    two.gateway.reply([busy(30), busy(0), busy(1_000_000)]);
    let said = room.say(&two.alice, "hello").await;
    for wait in [30, 2, 3_600] {
        assert_eq!(two.gateway.next_event().await, said);
        two.server.clock.awaited(seconds(wait)).await;
        two.server.clock.advance(seconds(wait)).await;
    }
    assert_eq!(two.gateway.next_event().await, said);
}

#[tokio::test]
async fn a_notification_is_given_up_after_a_day_and_the_pusher_goes_on() {
    let two = Two::new().await;
    let room = two.room().await;
    two.gateway.reply(std::iter::repeat_n(Reply::Status(500, None), 36));
    let old = room.say(&two.alice, "old").await;
    let (mut wait, mut waited) = (1, 0);
    loop {
        assert_eq!(two.gateway.next_event().await, old);
        two.server.clock.awaited(seconds(wait)).await;
        if waited + wait >= 24 * 3_600 {
            break;
        }
        two.server.clock.advance(seconds(wait)).await;
        waited += wait;
        wait = (wait * 2).min(3_600);
    }
    let new = room.say(&two.alice, "new").await;
    two.server.clock.advance(seconds(wait)).await;
    let notification = two.gateway.next().await;
    assert_eq!(notification["event_id"], json!(new));
    assert_eq!(pushers(&two.server, &two.bob).await, 1);
}

#[tokio::test]
async fn a_gateway_that_never_answers_times_out_and_delays_no_other() {
    let two = Two::with(|config| config.push.max_requests_per_gateway = 1).await;
    let other = Gateway::start_on([127, 0, 0, 2]).await;
    let room = two.room().await;
    two.gateway.reply([Reply::Never]);
    let first = room.say(&two.alice, "one").await;
    assert_eq!(two.gateway.next_event().await, first);
    other.set(&two.server, &two.bob, "other").await;
    let second = room.say(&two.alice, "two").await;
    assert_eq!(other.next_event().await, second);
    let timeout = two.server.services().config.outbound.timeout.0;
    two.server.clock.advance(timeout).await;
    two.server.clock.awaited(seconds(1)).await;
    two.server.clock.advance(seconds(1)).await;
    assert_eq!(two.gateway.next_event().await, first);
    assert_eq!(two.gateway.next_event().await, second);
}

#[tokio::test]
async fn slow_gateways_on_many_ports_of_one_host_delay_no_other_host() {
    let two = Two::with(|config| {
        config.push.max_requests = 2;
        config.push.max_requests_per_gateway = 1;
    })
    .await;
    let slow = Gateway::start().await;
    let quick = Gateway::start_on([127, 0, 0, 2]).await;
    slow.set(&two.server, &two.bob, "slow").await;
    for gateway in [&two.gateway, &slow] {
        gateway.reply([Reply::Never]);
    }
    let room = two.room().await;
    let first = room.say(&two.alice, "one").await;
    let held = tokio::select! {
        event = two.gateway.next_event() => event,
        event = slow.next_event() => event,
    };
    assert_eq!(held, first);
    quick.set(&two.server, &two.bob, "quick").await;
    for body in ["two", "three", "four"] {
        let said = room.say(&two.alice, body).await;
        assert_eq!(quick.next_event().await, said);
    }
    assert_eq!((two.gateway.came(), slow.came()), (None, None), "the host has one request");
}

#[tokio::test]
async fn setting_a_pusher_again_ends_the_wait() {
    let two = Two::new().await;
    let dead = Gateway::start().await;
    dead.reply([Reply::Status(500, None)]);
    dead.set(&two.server, &two.bob, "key").await;
    let said = two.room().await.say(&two.alice, "hello").await;
    two.server.clock.awaited(seconds(1)).await;
    two.gateway.set(&two.server, &two.bob, "key").await;
    assert_eq!(two.gateway.next_event().await, said);
}

#[tokio::test]
async fn nothing_is_sent_to_an_address_that_is_denied() {
    let two =
        Two::with(|config| config.outbound.deny_addresses = vec!["127.0.0.2".parse().unwrap()])
            .await;
    let mut pusher = two.gateway.pusher("denied");
    let url = format!("http://127.0.0.2:{}/_matrix/push/v1/notify", two.gateway.address.port());
    pusher["data"]["url"] = json!(url);
    set(&two.server, &two.bob, pusher).await;
    two.room().await.say(&two.alice, "hello").await;
    assert_eq!(two.gateway.next().await["devices"][0]["pushkey"], "key");
    two.server.clock.awaited(seconds(1)).await;
    assert_eq!(two.gateway.came(), None);
}

#[tokio::test]
async fn what_was_not_sent_is_sent_after_a_restart() {
    let mut two = Two::new().await;
    let room = two.room().await.id.clone();
    two.gateway.reply([Reply::Status(503, None)]);
    let first = crate::talk::say(&two.server, &room, &two.alice, "one").await;
    assert_eq!(two.gateway.next_event().await, first);
    two.server.clock.awaited(seconds(1)).await;
    let second = crate::talk::say(&two.server, &room, &two.alice, "two").await;
    two.server.restart().await;
    assert_eq!(two.gateway.next_event().await, first);
    assert_eq!(two.gateway.next_event().await, second);
    two.server.restart().await;
    let third = crate::talk::say(&two.server, &room, &two.alice, "three").await;
    assert_eq!(two.gateway.next_event().await, third, "what was accepted is not sent again");
}
