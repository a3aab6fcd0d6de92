//! Timers over restarts, crashes and jumps of the clock.

use http::StatusCode;
use serde_json::json;
use wick_core::{ShortEventId, TimerId};
use wick_database::{
    Durability, Range, Read,
    schema::timer::{TIMER_BY_EVENT, TIMER_BY_ID, TimerKind, TimerRow},
};

use super::call::{Call, errcode, seconds};

#[tokio::test]
async fn row_23_no_timer_is_lost_by_a_restart_and_answered_refreshes_count() {
    let mut call = Call::new().await;
    let overdue = call.arm("overdue", 10).await;
    let refreshed = call.arm("refreshed", 20).await;
    call.server.clock.advance(seconds(9)).await;
    assert_eq!(call.refresh(&refreshed.token).await.0, StatusCode::OK);
    call.server.stop().await;
    call.server.clock.advance(seconds(15)).await;
    call.server.restart().await;

    call.server.clock.advance(seconds(1)).await;
    call.until(&overdue.event_id, "expired").await;
    // At 25 s now; refreshed at 9 s for 20 s.
    assert_eq!(call.status(&refreshed.event_id)["status"], "running");
    assert_eq!(call.refresh(&refreshed.token).await.0, StatusCode::OK);
    call.server.clock.advance(seconds(20)).await;
    call.until(&refreshed.event_id, "expired").await;
    assert_eq!(call.terminals(&overdue.event_id).len(), 1);
    assert_eq!(call.terminals(&refreshed.event_id).len(), 1);
}

#[tokio::test]
async fn row_23_a_crash_loses_no_timer_and_fires_none_twice() {
    let mut call = Call::new().await;
    let first = call.arm("first", 10).await;
    let second = call.arm("second", 30).await;
    call.server.clock.advance(seconds(10)).await;
    call.until(&first.event_id, "expired").await;
    call.server.crash().await;
    assert_eq!(call.running(), 1);
    call.server.clock.advance(seconds(20)).await;
    call.until(&second.event_id, "expired").await;
    assert_eq!(call.terminals(&first.event_id).len(), 1);
    assert_eq!(call.terminals(&second.event_id).len(), 1);
}

#[tokio::test]
async fn row_23_overdue_timers_fire_in_deadline_order_at_a_bounded_rate() {
    let mut call = Call::with(|config| config.timers.overdue_per_second = 20).await;
    let mut armed = Vec::new();
    for number in 0..10_u64 {
        armed.push(call.arm(&format!("t{number}"), 20 - number).await);
    }
    call.server.stop().await;
    call.server.clock.advance(seconds(60)).await;
    call.server.restart().await;
    // One every 50 ms: not all at once.
    call.server.clock.advance(std::time::Duration::from_millis(100)).await;
    assert!(call.running() >= 6, "{} still run", call.running());
    call.server.clock.advance(seconds(2)).await;
    for event in &armed {
        call.until(&event.event_id, "expired").await;
    }
    let order: Vec<_> = call
        .timeline()
        .iter()
        .filter_map(|event| event["content"]["m.relates_to"]["event_id"].as_str())
        .map(ToOwned::to_owned)
        .collect();
    let expected: Vec<_> = armed.iter().rev().map(|armed| armed.event_id.clone()).collect();
    assert_eq!(order, expected);
}

#[tokio::test]
async fn row_23_only_what_was_overdue_is_fired_at_a_bounded_rate() {
    let mut call = Call::with(|config| config.timers.overdue_per_second = 20).await;
    let first = call.arm("first", 58).await;
    let refreshed = call.arm("refreshed", 59).await;
    let ended = call.arm("ended", 60).await;
    call.server.stop().await;
    call.server.clock.advance(seconds(61)).await;
    call.server.restart().await;
    // The first portion is the first one alone; the others leave the queue without having fired.
    call.server.clock.advance(std::time::Duration::from_millis(1)).await;
    call.until(&first.event_id, "expired").await;
    assert_eq!(call.refresh(&refreshed.token).await.0, StatusCode::OK);
    assert_eq!(call.end(&ended.token).await.0, StatusCode::OK);
    call.server.clock.advance(seconds(5)).await;

    let mut armed = Vec::new();
    for number in 0..10 {
        armed.push(call.arm(&format!("t{number}"), 10).await);
    }
    // All at once: the clock stands still while they fire.
    call.server.clock.advance(seconds(10)).await;
    for event in &armed {
        call.until(&event.event_id, "expired").await;
    }
}

#[tokio::test]
async fn a_timer_that_cannot_fire_keeps_no_other_of_its_room_from_it() {
    let mut call = Call::new().await;
    let armed = call.arm("t", 10).await;
    let database = call.server.services().database.clone();
    let (_, row) = database.latest().last(&TIMER_BY_ID, Range::all()).unwrap().unwrap();
    let nowhere = ShortEventId(u64::MAX / 2);
    let mut batch = database.batch();
    batch.put(&TIMER_BY_ID, &TimerId(999), &TimerRow { kind: TimerKind::Expire(nowhere), ..row });
    batch.put(&TIMER_BY_EVENT, &nowhere, &TimerId(999));
    database.commit(batch, Durability::Synced).await.unwrap();
    drop(database);
    call.server.stop().await;
    call.server.clock.advance(seconds(10)).await;
    call.server.restart().await;
    call.server.clock.advance(seconds(1)).await;
    call.until(&armed.event_id, "expired").await;
    assert_eq!(call.running(), 1);
}

#[tokio::test]
async fn row_7_the_token_of_a_repeated_request_is_the_same_after_a_restart() {
    let mut call = Call::new().await;
    let armed = call.arm("t", 60).await;
    call.server.restart().await;
    let again = call.arm("t", 60).await;
    assert_eq!((armed.event_id, &armed.token), (again.event_id, &again.token));
    assert_eq!(call.refresh(&again.token).await.0, StatusCode::OK);
}

#[tokio::test]
async fn row_11_a_second_end_is_forgiven_after_a_restart_too() {
    let mut call = Call::new().await;
    let armed = call.arm("t", 60).await;
    assert_eq!(call.end(&armed.token).await.0, StatusCode::OK);
    call.server.restart().await;
    assert_eq!(call.end(&armed.token).await, (StatusCode::OK, json!({})));
    assert_eq!(errcode(&call.refresh(&armed.token).await), (404, "M_NOT_FOUND"));
    assert_eq!(call.terminals(&armed.event_id).len(), 1);
}

#[tokio::test]
async fn row_24_a_running_server_does_not_care_how_the_wall_clock_jumps() {
    let call = Call::new().await;
    let armed = call.arm("t", 10).await;
    for jump in [3_600_000, -7_200_000] {
        call.server.clock.jump(jump);
        call.server.clock.advance(seconds(4)).await;
        assert_eq!(call.status(&armed.event_id)["status"], "running");
    }
    call.server.clock.advance(seconds(2)).await;
    call.until(&armed.event_id, "expired").await;
}

#[tokio::test]
async fn row_24_after_a_start_the_wall_clock_counts() {
    let mut call = Call::new().await;
    let armed = call.arm("t", 3_000).await;
    call.server.stop().await;
    call.server.clock.jump(3_600_000);
    call.server.restart().await;
    call.server.clock.advance(seconds(1)).await;
    call.until(&armed.event_id, "expired").await;
}

#[tokio::test]
async fn row_24_a_clock_that_was_set_back_before_a_start_makes_no_timer_longer_than_its_duration() {
    let mut call = Call::new().await;
    let armed = call.arm("armed", 10).await;
    call.server.stop().await;
    call.server.clock.jump(-3 * 3_600_000);
    call.server.restart().await;
    call.server.clock.advance(seconds(9)).await;
    assert_eq!(call.status(&armed.event_id)["status"], "running");
    call.server.clock.advance(seconds(1)).await;
    call.until(&armed.event_id, "expired").await;
}
