//! Delayed events when a commit fails or the process crashes at it: each is sent once or not at all, and what
//! was answered counts.

use std::{sync::atomic::Ordering, time::Duration};

use http::StatusCode;
use serde_json::json;

use super::later::{By, CONFLICT, FORMS, Later, Told, delay_id, ok};
use crate::{
    expiry::call::{Call, errcode, seconds},
    struck::{Struck, at_each_commit, at_firing, on_a_moody_disk},
};

/// A message and a piece of state that are due in 10 s.
struct Pair {
    message: String,
    state: String,
}

async fn pair(call: &Call) -> Pair {
    let message = call.delay("message").await;
    let state = call.put_off(&Later::state("seat", "state")).await;
    Pair { message, state }
}

impl Struck<Pair> {
    /// Both end as they are to, and each is sent once at the most.
    async fn over(&self, [message, state]: [bool; 2]) {
        self.call.server.clock.advance(seconds(30)).await;
        let pair = &self.running;
        for (id, body, sent) in [(&pair.message, "message", message), (&pair.state, "state", state)]
        {
            let seen = self.call.until_over(id).await;
            assert!(seen.get("error").is_none(), "{:?}: {seen}", self.fate);
            let said = self.call.saying(body);
            assert_eq!(said.len(), usize::from(sent), "{:?}: {said:?}", self.fate);
            assert_eq!(said.first().map(|event| &event["event_id"]), seen.get("event_id"));
            let (again, otherwise) = if sent { ("send", "cancel") } else { ("cancel", "send") };
            ok(&self.call.act(id, again).await);
            assert_eq!(errcode(&self.call.act(id, otherwise).await), CONFLICT);
        }
        assert_eq!(self.call.running(), 0);
        let said = self.call.said();
        self.call.server.clock.advance(seconds(300)).await;
        assert_eq!(self.call.said(), said);
        self.sound();
    }
}

#[tokio::test]
async fn what_is_due_is_sent_once_through_a_failure_at_any_commit() {
    // The two are due at once and go in one batch.
    at_firing(pair, seconds(10), async |struck| struck.over([true, true]).await).await;
}

#[tokio::test]
async fn what_cannot_be_sent_is_finalised_once_through_a_failure_at_any_commit() {
    let leave = async |call: &Call| {
        let bob = call.join("bob").await;
        let id = delay_id(&call.later(&bob, By::Path, &Later::message("bob")).await);
        assert_eq!(call.post(&bob, "leave", json!({})).await.0, 200);
        (bob, id)
    };
    at_firing(leave, seconds(10), async |struck| {
        struck.call.server.clock.advance(seconds(10)).await;
        let (bob, id) = &struck.running;
        let seen = struck.call.until_over_of(bob, id).await;
        assert_eq!(seen["error"]["errcode"], "M_FORBIDDEN", "{:?}", struck.fate);
        assert_eq!(struck.call.running(), 0);
        struck.sound();
    })
    .await;
}

/// Schedules with a transaction id, and finds one scheduled however often it is asked.
async fn scheduled_once(by: By, later: &Later<'_>) {
    let request = async |struck: &Struck<Pair>| -> Told {
        struck.call.later(&struck.call.alice, by, later).await
    };
    at_each_commit(pair, request, async |struck, _, again| {
        let id = delay_id(&again);
        let third = struck.call.later(&struck.call.alice, by, later).await;
        assert_eq!(delay_id(&third), id);
        assert_eq!(struck.call.running(), 3);
        struck.sound();
        ok(&struck.call.act(&id, "restart").await);
        struck.over([true, true]).await;
        assert_eq!(struck.call.saying("once").len(), 1, "{:?}", struck.fate);
    })
    .await;
}

#[tokio::test]
async fn a_message_is_scheduled_once_with_one_delay_id() {
    for by in FORMS {
        scheduled_once(by, &Later::message("once")).await;
    }
}

#[tokio::test]
async fn state_is_scheduled_once_with_one_delay_id_if_it_has_a_transaction() {
    for by in [By::Path, By::UnstablePath] {
        scheduled_once(by, &Later::state("another", "once")).await;
    }
}

#[tokio::test]
async fn state_without_a_transaction_is_sent_as_often_as_it_was_answered_or_once_more() {
    let later = Later::state("another", "once");
    let request = async |struck: &Struck<Pair>| -> Told {
        struck.call.later(&struck.call.alice, By::Query, &later).await
    };
    at_each_commit(pair, request, async |struck, done, again| {
        let id = delay_id(&again);
        let orphans = usize::from(done);
        assert_eq!(struck.call.running(), 3 + orphans, "{:?}", struck.fate);
        ok(&struck.call.act(&id, "cancel").await);
        struck.over([true, true]).await;
        assert_eq!(struck.call.saying("once").len(), orphans, "{:?}", struck.fate);
    })
    .await;
}

#[tokio::test]
async fn a_restart_counts_once_it_was_answered() {
    let restart =
        async |struck: &Struck<Pair>| struck.call.act(&struck.running.message, "restart").await;
    at_each_commit(pair, restart, async |struck, _, again| {
        ok(&again);
        struck.call.server.clock.advance(seconds(9)).await;
        ok(&struck.call.act(&struck.running.message, "restart").await);
        struck.call.server.clock.advance(seconds(9)).await;
        struck.call.until_said("state").await;
        assert!(struck.call.saying("message").is_empty());
        struck.over([true, true]).await;
    })
    .await;
}

#[tokio::test]
async fn what_is_sent_by_hand_is_sent_once_however_often_it_is_tried() {
    for state in [false, true] {
        let send = async |struck: &Struck<Pair>| {
            let Pair { message, state: seat } = &struck.running;
            struck.call.act(if state { seat } else { message }, "send").await
        };
        at_each_commit(pair, send, async |struck, _, again| {
            ok(&again);
            let body = if state { "state" } else { "message" };
            assert_eq!(struck.call.saying(body).len(), 1, "{:?}", struck.fate);
            struck.over([true, true]).await;
        })
        .await;
    }
}

#[tokio::test]
async fn what_is_cancelled_is_cancelled_however_often_it_is_tried() {
    let cancel =
        async |struck: &Struck<Pair>| struck.call.act(&struck.running.state, "cancel").await;
    at_each_commit(pair, cancel, async |struck, _, again| {
        ok(&again);
        struck.over([true, false]).await;
    })
    .await;
}

#[tokio::test]
async fn what_is_scheduled_in_a_room_that_is_forgotten_is_cancelled_however_often_it_is_tried() {
    let leave = async |call: &Call| {
        let bob = call.join("bob").await;
        for later in [Later::message("bob"), Later::state("seat", "bob")] {
            delay_id(&call.later(&bob, By::Path, &later).await);
        }
        assert_eq!(call.post(&bob, "leave", json!({})).await.0, 200);
        bob
    };
    let forget =
        async |struck: &Struck<_>| struck.call.post(&struck.running, "forget", json!({})).await;
    at_each_commit(leave, forget, async |struck, _, again| {
        ok(&again);
        assert_eq!(struck.call.running(), 0, "{:?}", struck.fate);
        assert_eq!(struck.call.post(&struck.running, "join", json!({})).await.0, 200);
        struck.call.server.clock.advance(seconds(30)).await;
        assert!(struck.call.said().is_empty(), "{:?}", struck.fate);
        struck.sound();
    })
    .await;
}

#[tokio::test]
async fn a_panic_while_what_is_due_is_sent_loses_none_of_it() {
    let (call, moody) = on_a_moody_disk().await;
    let first = call.delay("first").await;
    call.put_off(&Later::message("later").after(&seconds(20))).await;
    moody.panics.store(true, Ordering::Relaxed);
    call.server.clock.advance(seconds(10)).await;
    assert!(call.seen(&call.alice, &first).await.1.get("finalised_ts").is_none());
    call.server.clock.advance(seconds(2)).await;
    call.until_said("first").await;
    call.server.clock.advance(seconds(8)).await;
    call.until_said("later").await;
}

#[tokio::test]
async fn what_may_not_survive_is_not_answered_however_often_it_is_asked() {
    let (mut call, moody) = on_a_moody_disk().await;
    let (sent, cancelled) = (call.delay("sent").await, call.delay("cancelled").await);
    moody.forgets.store(true, Ordering::Relaxed);
    for _ in 0..2 {
        for by in FORMS {
            let name = format!("{by:?}");
            for later in [Later::message(&name), Later::state("k", &name)] {
                let (status, body) = call.later(&call.alice, by, &later).await;
                assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR, "{by:?}: {body}");
            }
        }
        for (id, action) in [(&sent, "send"), (&cancelled, "cancel")] {
            let (status, body) = call.act(id, action).await;
            assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR, "{action}: {body}");
        }
    }
    call.server.crash().await;
    ok(&call.act(&sent, "send").await);
    ok(&call.act(&cancelled, "cancel").await);
    for by in FORMS {
        delay_id(&call.later(&call.alice, by, &Later::message(&format!("{by:?}"))).await);
    }
    assert_eq!(call.saying("sent").len(), 1);
    call.server.clock.advance(seconds(30)).await;
    assert_eq!(call.saying("cancelled").len(), 0);
}

#[tokio::test]
async fn row_8_what_fails_is_tried_again_later_each_time_and_nothing_is_lost() {
    let waits = [1, 2, 4, 8, 16, 32, 64, 64];
    for failures in 1..=waits.len() {
        let (call, moody) = on_a_moody_disk().await;
        let ids = [call.delay("one").await, call.put_off(&Later::state("k", "two")).await];
        moody.is_full.store(true, Ordering::Relaxed);
        call.server.clock.advance(seconds(10)).await;
        for wait in &waits[..failures - 1] {
            call.server.clock.advance(seconds(*wait)).await;
        }
        assert_eq!(call.listed(&call.alice).await, ids);
        moody.is_full.store(false, Ordering::Relaxed);
        let wait = seconds(waits[failures - 1]);
        call.server.clock.advance(wait - Duration::from_millis(1)).await;
        assert_eq!(call.running(), 2, "the next try is after {wait:?}");
        call.server.clock.advance(Duration::from_millis(1)).await;
        call.until_said("one").await;
        call.until_said("two").await;
        assert_eq!(call.said(), ["one", "two"]);
        assert_eq!(call.running(), 0);
    }
}

#[tokio::test]
async fn row_8_what_waits_for_the_next_try_can_be_managed_meanwhile() {
    let (call, moody) = on_a_moody_disk().await;
    let [restarted, sent, cancelled] =
        [call.delay("restarted").await, call.delay("sent").await, call.delay("cancelled").await];
    moody.is_full.store(true, Ordering::Relaxed);
    call.server.clock.advance(seconds(13)).await;
    for id in [&restarted, &sent, &cancelled] {
        for action in ["restart", "send", "cancel"] {
            let (status, body) = call.act(id, action).await;
            assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR, "{action}: {body}");
        }
    }
    moody.is_full.store(false, Ordering::Relaxed);
    ok(&call.act(&restarted, "restart").await);
    ok(&call.act(&sent, "send").await);
    ok(&call.act(&cancelled, "cancel").await);
    assert_eq!(call.said(), ["sent"]);
    call.server.clock.advance(seconds(9)).await;
    assert_eq!(call.said(), ["sent"]);
    // The restart was for 10 s, and the next try may be later than that.
    call.server.clock.advance(seconds(64)).await;
    call.until_said("restarted").await;
    assert_eq!(call.said(), ["sent", "restarted"]);
}
