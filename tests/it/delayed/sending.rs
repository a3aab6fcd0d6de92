//! What is due is sent: once, never early, in order, and what comes of it if it cannot be.

use std::time::Duration;

use serde_json::json;
use wick_core::TimerId;
use wick_database::{
    Durability, Read,
    schema::timer::{TIMER_BY_ID, TimerRow},
};

use super::later::{By, FORMS, Later, delay_id, ok};
use crate::expiry::call::{Call, errcode, seconds};

#[tokio::test]
async fn row_2_it_is_sent_when_it_is_due_never_early_and_once() {
    let mut call = Call::new().await;
    for by in FORMS {
        let (message, state) = (format!("{by:?}-message"), format!("{by:?}-state"));
        delay_id(&call.later(&call.alice, by, &Later::message(&message)).await);
        delay_id(&call.later(&call.alice, by, &Later::state(&state, &state)).await);
        call.server.clock.advance(Duration::from_millis(9_999)).await;
        assert_eq!(call.running(), 2);
        assert!(call.saying(&message).is_empty() && call.saying(&state).is_empty());
        call.server.clock.advance(Duration::from_millis(1)).await;
        let sent = call.until_said(&message).await;
        assert_eq!(sent["sender"], json!(call.alice.user_id));
        assert_eq!(sent["type"], "m.room.message");
        assert_eq!(sent["content"], json!({ "msgtype": "m.text", "body": message }));
        assert_eq!(sent["origin_server_ts"], call.now());
        assert!(sent.get("state_key").is_none());
        let sent = call.until_said(&state).await;
        assert_eq!(sent["state_key"], json!(state));
        let current = call.state("org.example.presence", &state);
        assert_eq!(current.as_deref(), sent["event_id"].as_str());
        assert_eq!(call.running(), 0);
    }
    let said = call.said();
    call.server.crash().await;
    call.server.clock.advance(seconds(100)).await;
    assert_eq!(call.said(), said);
}

#[tokio::test]
async fn row_2_a_jump_of_the_wall_clock_sends_nothing_early_and_its_time_is_that_of_sending() {
    let mut call = Call::new().await;
    call.delay("first").await;
    call.server.clock.jump(3_600_000);
    call.server.clock.advance(seconds(9)).await;
    assert!(call.saying("first").is_empty());
    call.server.clock.jump(-7_200_000);
    call.server.clock.advance(seconds(1)).await;
    let sent = call.until_said("first").await;
    assert_eq!(sent["origin_server_ts"], call.now());

    call.put_off(&Later::message("second").after(&seconds(3_000))).await;
    call.server.stop().await;
    call.server.clock.jump(3_600_000);
    call.server.restart().await;
    call.server.clock.advance(seconds(1)).await;
    call.until_said("second").await;
}

#[tokio::test]
async fn row_3_what_was_due_while_the_server_was_down_is_sent_at_start_in_order() {
    let mut call = Call::with(|config| config.timers.overdue_per_second = 20).await;
    let names: Vec<_> = (0..10_u64).map(|number| format!("t{number}")).collect();
    for (number, name) in (0..10_u64).zip(&names) {
        let delay = seconds(20 - number);
        if number % 2 == 0 {
            call.put_off(&Later::message(name).after(&delay)).await;
        } else {
            call.put_off(&Later::state("one", name).after(&delay)).await;
        }
    }
    call.server.stop().await;
    call.server.clock.advance(seconds(60)).await;
    call.server.restart().await;
    // One every 50 ms: not all at once.
    call.server.clock.advance(Duration::from_millis(100)).await;
    assert!(call.running() >= 6, "{} still run", call.running());
    call.server.clock.advance(seconds(2)).await;
    for name in &names {
        let sent = call.until_said(name).await;
        assert!(call.now() - sent["origin_server_ts"].as_u64().unwrap() <= 2_100);
    }
    let expected: Vec<_> = names.iter().rev().cloned().collect();
    assert_eq!(call.said(), expected);
}

#[tokio::test]
async fn row_3_what_is_overdue_can_be_managed_before_its_turn_comes() {
    let mut call = Call::with(|config| config.timers.overdue_per_second = 20).await;
    call.put_off(&Later::message("first").after(&seconds(10))).await;
    let restarted = call.put_off(&Later::message("restarted").after(&seconds(20))).await;
    let cancelled = call.put_off(&Later::message("cancelled").after(&seconds(20))).await;
    let sent = call.put_off(&Later::message("sent").after(&seconds(20))).await;
    call.server.stop().await;
    call.server.clock.advance(seconds(60)).await;
    call.server.restart().await;
    call.server.clock.advance(Duration::from_millis(1)).await;
    call.until_said("first").await;
    ok(&call.act(&restarted, "restart").await);
    ok(&call.act(&cancelled, "cancel").await);
    ok(&call.act(&sent, "send").await);
    call.server.clock.advance(seconds(19)).await;
    assert_eq!(call.said(), ["first", "sent"]);
    call.server.clock.advance(seconds(1)).await;
    call.until_said("restarted").await;
    assert_eq!(call.said(), ["first", "sent", "restarted"]);
}

#[tokio::test]
async fn row_7_what_the_rooms_rules_refuse_when_it_is_due_is_finalised_with_the_error() {
    let mut call = Call::new().await;
    let bob = call.join("bob").await;
    let carol = call.join("carol").await;
    let mut ids = Vec::new();
    for by in FORMS {
        let (message, state) = (format!("{by:?}-message"), format!("{by:?}-state"));
        ids.push(delay_id(&call.later(&bob, by, &Later::message(&message)).await));
        ids.push(delay_id(&call.later(&bob, by, &Later::state("seat", &state)).await));
    }
    delay_id(&call.later(&carol, By::Query, &Later::message("carol")).await);
    let kick = json!({ "user_id": bob.user_id });
    assert_eq!(call.post(&call.alice, "kick", kick).await.0, 200);
    call.server.clock.advance(seconds(10)).await;
    // What cannot be sent keeps nothing else from it.
    call.until_said("carol").await;
    assert_eq!(call.said(), ["carol"]);
    assert_eq!(call.running(), 0);
    let at = call.now();
    for _ in 0..2 {
        for id in &ids {
            let (status, seen) = call.seen(&bob, id).await;
            assert_eq!(status, 200, "{seen}");
            assert_eq!(seen["error"]["errcode"], "M_FORBIDDEN");
            assert!(seen["error"]["error"].is_string());
            assert_eq!(seen["finalised_ts"], at);
            assert_eq!(seen["finalised"]["error"], seen["error"]);
            assert!(seen.get("event_id").is_none());
            assert_eq!(errcode(&call.seen(&call.alice, id).await), (404, "M_NOT_FOUND"));
        }
        assert!(call.listed(&bob).await.is_empty());
        call.server.restart().await;
    }
    // Back in the room, it is still not sent.
    assert_eq!(call.post(&bob, "join", json!({})).await.0, 200);
    call.server.clock.advance(seconds(100)).await;
    assert_eq!(call.said(), ["carol"]);
}

#[tokio::test]
async fn row_8_one_that_cannot_be_sent_keeps_no_other_from_it() {
    let mut call = Call::new().await;
    let names = ["a", "b", "c"];
    for name in names {
        call.delay(name).await;
    }
    // One in the same room that cannot fire: what it is to send is not there.
    let database = call.server.services().database.clone();
    let row = database.latest().get(&TIMER_BY_ID, &call.last_timer()).unwrap().unwrap();
    let mut batch = database.batch();
    batch.put(&TIMER_BY_ID, &TimerId(999_999), &TimerRow { nonce: row.nonce + 1, ..row });
    database.commit(batch, Durability::Synced).await.unwrap();
    drop(database);
    let elsewhere = call.server.room(&call.alice, "shared").await;
    let failing = std::mem::replace(&mut call.room, elsewhere.id);
    call.delay("elsewhere").await;
    call.server.stop().await;
    call.server.clock.advance(seconds(10)).await;
    call.server.restart().await;
    call.server.clock.advance(seconds(1)).await;
    call.until_said("elsewhere").await;
    call.room = failing;
    for name in names {
        call.until_said(name).await;
    }
    assert_eq!(call.said(), names);
    assert_eq!(call.running(), 1, "it stays scheduled");
}

#[tokio::test]
async fn row_24_several_for_one_state_key_are_each_sent_in_order_and_the_last_stands() {
    let call = Call::new().await;
    for (name, delay) in [("third", 30), ("first", 10), ("second", 20)] {
        call.put_off(&Later::state("seat", name).after(&seconds(delay))).await;
    }
    for name in ["first", "second", "third"] {
        call.server.clock.advance(seconds(10)).await;
        let sent = call.until_said(name).await;
        assert_eq!(
            call.state("org.example.presence", "seat").as_deref(),
            sent["event_id"].as_str()
        );
    }

    // All of them in one batch, each after the one that was scheduled before it.
    let names: Vec<_> = (0..40).map(|number| format!("at-once-{number}")).collect();
    for (number, name) in names.iter().enumerate() {
        let by = if number % 2 == 0 { By::Query } else { By::Path };
        delay_id(&call.later(&call.alice, by, &Later::state("seat", name)).await);
    }
    call.server.clock.advance(seconds(10)).await;
    call.until_said("at-once-39").await;
    let said = call.said();
    assert_eq!(said[3..], names);
    let last = call.saying("at-once-39")[0]["event_id"].clone();
    assert_eq!(call.state("org.example.presence", "seat").as_deref(), last.as_str());
}

#[tokio::test]
async fn row_24_those_that_are_due_later_are_sent_later_however_many_are_due() {
    let call = Call::new().await;
    let mut expected = Vec::new();
    for number in 0..50_u64 {
        let delay = 50 - number % 10;
        let name = format!("t{number:02}");
        call.put_off(&Later::message(&name).after(&seconds(delay))).await;
        expected.push((delay, name));
    }
    expected.sort();
    call.server.clock.advance(seconds(120)).await;
    for (_, name) in &expected {
        call.until_said(name).await;
    }
    let expected: Vec<_> = expected.into_iter().map(|(_, name)| name).collect();
    assert_eq!(call.said(), expected);
}
