//! Timers when a commit fails or the process dies at it: exactly one thing ends each, once, and what was
//! answered counts.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::StatusCode;
use serde_json::{Value, json};
use wick_database::{Fault, FaultAction};
use wick_harness::{FATES, Options, Strike, TestServer};
use wick_room::invariants;

use super::call::{Armed, Call, errcode, seconds};

type Told = (StatusCode, Value);

/// How long a test waits for what must come, on however busy a machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A call on a server that will suffer.
struct Struck {
    call: Call,
    strike: Arc<Strike>,
    running: Armed,
    state: Armed,
    fate: FaultAction,
}

impl Struck {
    /// A message and a state event that run for 10 s.
    async fn make(fate: FaultAction) -> Self {
        let strike = Strike::new();
        let options = Options { fault: Some(Arc::clone(&strike) as _), ..Options::lenient() };
        let call = Call::on(TestServer::start_from(options).await).await;
        let running = call.arm("running", 10).await;
        let state = call.arm_state("alice", 10).await;
        Self { call, strike, running, state, fate }
    }

    /// What the fate leaves behind.
    async fn aftermath(&mut self) {
        if self.fate != FaultAction::Fail {
            self.call.server.crash().await;
        }
        self.sound();
    }

    fn sound(&self) {
        let read = self.call.server.services().database.published();
        assert_eq!(
            invariants::check(&read).expect("everything can be read"),
            [],
            "{:?}",
            self.fate
        );
    }

    /// Both timers end as they are to, once each, and no token is good for anything afterwards.
    async fn over(&self, [running, state]: [&str; 2]) {
        self.call.server.clock.advance(seconds(30)).await;
        for (event, outcome) in [(&self.running, running), (&self.state, state)] {
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

/// Lets a request suffer each fate at each of its commits, and makes it again.
async fn at_each_commit(
    request: impl AsyncFn(&Struck) -> Told,
    verify: impl AsyncFn(&mut Struck, bool, Told),
) {
    let struck = Struck::make(FaultAction::Proceed).await;
    let before = struck.strike.commits();
    assert_eq!(request(&struck).await.0, StatusCode::OK);
    let commits = struck.strike.commits() - before;
    assert!(commits > 0, "the request writes nothing");
    for fate in FATES {
        for commit in 1..=commits {
            let mut struck = Struck::make(fate).await;
            struck.strike.at(commit, fate);
            let (status, body) = request(&struck).await;
            assert!(struck.strike.has_struck(), "commit {commit} never came");
            assert!(!status.is_success(), "{fate:?} at {commit}: {body}");
            struck.aftermath().await;
            let again = request(&struck).await;
            let done = fate == FaultAction::StopAfter && commit == commits;
            verify(&mut struck, done, again).await;
        }
    }
}

fn ok((status, body): &Told) {
    assert_eq!(*status, StatusCode::OK, "{body}");
}

#[tokio::test]
async fn a_timer_fires_once_through_a_failure_at_any_commit() {
    // The two are due at once and end in one batch.
    for fate in FATES {
        let mut struck = Struck::make(fate).await;
        struck.strike.at(1, fate);
        struck.call.server.clock.advance(seconds(10)).await;
        let strike = Arc::clone(&struck.strike);
        tokio::time::timeout(PATIENCE, strike.struck()).await.expect("the timers fire");
        struck.aftermath().await;
        struck.over(["expired", "expired"]).await;
    }
}

#[tokio::test]
async fn a_timer_is_armed_once_with_one_token() {
    let arm = async |struck: &Struck| {
        let content = json!({ "body": "here", "m.will_expire": 10 });
        struck.call.send(&struck.call.alice, "once", content).await
    };
    at_each_commit(arm, async |struck, _, again| {
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
    let refresh = async |struck: &Struck| struck.call.refresh(&struck.running.token).await;
    at_each_commit(refresh, async |struck, _, again| {
        ok(&again);
        struck.call.server.clock.advance(seconds(9)).await;
        ok(&struck.call.refresh(&struck.running.token).await);
        struck.call.server.clock.advance(seconds(9)).await;
        struck.call.until(&struck.state.event_id, "expired").await;
        assert_eq!(struck.call.status(&struck.running.event_id)["status"], "running");
        struck.over(["expired", "expired"]).await;
    })
    .await;
}

#[tokio::test]
async fn a_timer_ends_once_however_often_it_is_tried() {
    let end = async |struck: &Struck| struck.call.end(&struck.running.token).await;
    at_each_commit(end, async |struck, _, again| {
        ok(&again);
        ok(&struck.call.end(&struck.running.token).await);
        assert_eq!(struck.call.terminals(&struck.running.event_id).len(), 1);
        struck.over(["ended", "expired"]).await;
    })
    .await;
}

#[tokio::test]
async fn a_newer_state_event_stops_the_timer_with_its_own_commit() {
    let replace = async |struck: &Struck| {
        struck.call.set(&struck.call.alice, "alice", json!({ "body": "there" })).await
    };
    at_each_commit(replace, async |struck, _, again| {
        ok(&again);
        struck.over(["expired", "superseded"]).await;
    })
    .await;
}

#[tokio::test]
async fn a_redaction_stops_the_timer_with_its_own_commit() {
    let redact = async |struck: &Struck| {
        let (room, event) = (&struck.call.room, &struck.running.event_id);
        let path = format!("/_matrix/client/v3/rooms/{room}/redact/{event}/once");
        struck.call.server.put(&path, &struck.call.alice.token, json!({})).await
    };
    at_each_commit(redact, async |struck, _, again| {
        ok(&again);
        struck.over(["redacted", "expired"]).await;
    })
    .await;
}

/// A disk that has its bad moments.
#[derive(Default)]
struct Moody {
    panics: AtomicBool,
    forgets: AtomicBool,
}

impl Fault for Moody {
    fn before_commit(&self, _number: u64) -> FaultAction {
        assert!(!self.panics.swap(false, Ordering::Relaxed), "a panic that a test asked for");
        FaultAction::Proceed
    }

    fn before_sync(&self) -> bool {
        !self.forgets.load(Ordering::Relaxed)
    }
}

async fn on_a_moody_disk() -> (Call, Arc<Moody>) {
    let moody = Arc::new(Moody::default());
    let options = Options { fault: Some(Arc::clone(&moody) as _), ..Options::lenient() };
    (Call::on(TestServer::start_from(options).await).await, moody)
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
