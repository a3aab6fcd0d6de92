//! Timers when a commit fails or the process crashes at it: exactly one thing ends each, once, and what was
//! answered counts.

use std::sync::atomic::Ordering;

use http::StatusCode;
use serde_json::{Value, json};

use super::call::{Armed, Call, errcode, seconds};
use crate::struck::{Struck, at_each_commit, at_firing, on_a_moody_disk};

type Told = (StatusCode, Value);

/// A message and a state event that run for 10 s.
struct Pair {
    message: Armed,
    state: Armed,
}

async fn pair(call: &Call) -> Pair {
    Pair { message: call.arm("running", 10).await, state: call.arm_state("alice", 10).await }
}

impl Struck<Pair> {
    /// Both timers end as they are to, once each, and no token is good for anything afterwards.
    async fn over(&self, [message, state]: [&str; 2]) {
        self.call.server.clock.advance(seconds(30)).await;
        for (event, outcome) in [(&self.running.message, message), (&self.running.state, state)] {
            let terminals = self.call.terminals(&event.event_id);
            if matches!(outcome, "expired" | "ended") {
                self.call.until(&event.event_id, outcome).await;
                let terminals = self.call.terminals(&event.event_id);
                assert_eq!(terminals.len(), 1, "{:?}: {terminals:?}", self.fate);
                let said =
                    terminals.first().and_then(|event| event.pointer("/content/m.will_expire"));
                assert_eq!(said, Some(&json!(outcome)));
            } else {
                assert_eq!(terminals, [] as [Value; 0], "{:?}", self.fate);
            }
            let refreshed = self.call.refresh(&event.token).await;
            assert_eq!(errcode(&refreshed), (404, "M_NOT_FOUND"), "{:?}", self.fate);
        }
        assert_eq!(self.call.running(), 0);
        self.sound();
    }
}

fn ok((status, body): &Told) {
    assert_eq!(*status, StatusCode::OK, "{body}");
}

#[tokio::test]
async fn a_timer_fires_once_through_a_failure_at_any_commit() {
    // The two are due at once and end in one batch.
    at_firing(pair, seconds(10), async |struck| struck.over(["expired", "expired"]).await).await;
}

#[tokio::test]
async fn a_timer_is_armed_once_with_one_token() {
    let arm = async |struck: &Struck<Pair>| {
        let content = json!({ "body": "here", "m.will_expire": 10 });
        struck.call.send(&struck.call.alice, "once", content).await
    };
    at_each_commit(pair, arm, async |struck, _, again| {
        let armed = Armed::from_answer(&again);
        let third = struck.call.arm("once", 10).await;
        assert_eq!((&armed.event_id, &armed.token), (&third.event_id, &third.token));
        assert_eq!(struck.call.running(), 3);
        ok(&struck.call.refresh(&armed.token).await);
        struck.over(["expired", "expired"]).await;
        struck.call.until(&armed.event_id, "expired").await;
        assert_eq!(struck.call.terminals(&armed.event_id).len(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_refresh_counts_once_it_was_answered() {
    let refresh =
        async |struck: &Struck<Pair>| struck.call.refresh(&struck.running.message.token).await;
    at_each_commit(pair, refresh, async |struck, _, again| {
        ok(&again);
        struck.call.server.clock.advance(seconds(9)).await;
        ok(&struck.call.refresh(&struck.running.message.token).await);
        struck.call.server.clock.advance(seconds(9)).await;
        struck.call.until(&struck.running.state.event_id, "expired").await;
        assert_eq!(struck.call.status(&struck.running.message.event_id)["status"], "running");
        struck.over(["expired", "expired"]).await;
    })
    .await;
}

#[tokio::test]
async fn a_timer_ends_once_however_often_it_is_tried() {
    let end = async |struck: &Struck<Pair>| struck.call.end(&struck.running.message.token).await;
    at_each_commit(pair, end, async |struck, _, again| {
        ok(&again);
        ok(&struck.call.end(&struck.running.message.token).await);
        assert_eq!(struck.call.terminals(&struck.running.message.event_id).len(), 1);
        struck.over(["ended", "expired"]).await;
    })
    .await;
}

#[tokio::test]
async fn a_newer_state_event_stops_the_timer_with_its_own_commit() {
    let replace = async |struck: &Struck<Pair>| {
        struck.call.set(&struck.call.alice, "alice", json!({ "body": "there" })).await
    };
    at_each_commit(pair, replace, async |struck, _, again| {
        ok(&again);
        struck.over(["expired", "superseded"]).await;
    })
    .await;
}

#[tokio::test]
async fn a_redaction_stops_the_timer_with_its_own_commit() {
    let redact = async |struck: &Struck<Pair>| {
        let (room, event) = (&struck.call.room, &struck.running.message.event_id);
        let path = format!("/_matrix/client/v3/rooms/{room}/redact/{event}/once");
        struck.call.server.put(&path, &struck.call.alice.token, json!({})).await
    };
    at_each_commit(pair, redact, async |struck, _, again| {
        ok(&again);
        struck.over(["redacted", "expired"]).await;
    })
    .await;
}

#[tokio::test]
async fn a_panic_while_a_rooms_timers_fire_loses_none_of_them() {
    let (call, moody) = on_a_moody_disk().await;
    let first = call.arm("first", 10).await;
    let later = call.arm("later", 20).await;
    moody.panics.store(true, Ordering::Relaxed);
    call.server.clock.advance(seconds(10)).await;
    assert_eq!(call.status(&first.event_id)["status"], "running");
    call.server.clock.advance(seconds(2)).await;
    call.until(&first.event_id, "expired").await;
    call.server.clock.advance(seconds(8)).await;
    call.until(&later.event_id, "expired").await;
}

#[tokio::test]
async fn an_end_that_may_not_survive_is_not_answered_however_often_it_is_asked() {
    let (mut call, moody) = on_a_moody_disk().await;
    let armed = call.arm("t", 10).await;
    moody.forgets.store(true, Ordering::Relaxed);
    for _ in 0..2 {
        let (status, body) = call.end(&armed.token).await;
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR, "{body}");
    }
    call.server.crash().await;
    ok(&call.end(&armed.token).await);
    assert_eq!(call.terminals(&armed.event_id).len(), 1);
}
