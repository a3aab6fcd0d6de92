//! What becomes of a [`Call`] if a commit fails or the process crashes at it.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of tests, which clippy does not take for tests"
)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::StatusCode;
use serde_json::Value;
use wick_database::{Fault, FaultAction};
use wick_harness::{FATES, Options, Strike, TestServer};
use wick_room::invariants;

use crate::expiry::call::{Call, PATIENCE};

/// A call on a server with faults, and what runs in it by then.
pub(crate) struct Struck<T> {
    pub(crate) call: Call,
    pub(crate) strike: Arc<Strike>,
    pub(crate) fate: FaultAction,
    pub(crate) running: T,
}

impl<T> Struck<T> {
    async fn make(fate: FaultAction, begin: &impl AsyncFn(&Call) -> T) -> Self {
        let strike = Strike::new();
        let options = Options { fault: Some(Arc::clone(&strike) as _), ..Options::lenient() };
        let call = Call::on(TestServer::start_from(options).await).await;
        let running = begin(&call).await;
        Self { call, strike, fate, running }
    }

    /// What the fate leaves behind.
    async fn aftermath(&mut self) {
        if self.fate != FaultAction::Fail {
            self.call.server.crash().await;
        }
        self.sound();
    }

    pub(crate) fn sound(&self) {
        let read = self.call.server.services().database.published();
        assert_eq!(invariants::check(&read).unwrap(), [], "{:?}", self.fate);
    }
}

/// Runs a request with each fault at each of its commits, and repeats it. `verify` gets the answer
/// to the second, and whether the first had been done.
pub(crate) async fn at_each_commit<T>(
    begin: impl AsyncFn(&Call) -> T,
    request: impl AsyncFn(&Struck<T>) -> (StatusCode, Value),
    verify: impl AsyncFn(&mut Struck<T>, bool, (StatusCode, Value)),
) {
    let struck = Struck::make(FaultAction::Proceed, &begin).await;
    let before = struck.strike.commits();
    let (status, body) = request(&struck).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let commits = struck.strike.commits() - before;
    assert!(commits > 0, "the request writes nothing");
    for fate in FATES {
        for commit in 1..=commits {
            let mut struck = Struck::make(fate, &begin).await;
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

/// Fires what is due with each fault at the first of its commits.
pub(crate) async fn at_firing<T>(
    begin: impl AsyncFn(&Call) -> T,
    due: Duration,
    verify: impl AsyncFn(&Struck<T>),
) {
    for fate in FATES {
        let mut struck = Struck::make(fate, &begin).await;
        struck.strike.at(1, fate);
        struck.call.server.clock.advance(due).await;
        tokio::time::timeout(PATIENCE, struck.strike.struck()).await.unwrap();
        struck.aftermath().await;
        verify(&struck).await;
    }
}

/// A disk that has its bad moments.
#[derive(Default)]
pub(crate) struct Moody {
    /// The next commit panics.
    pub(crate) panics: AtomicBool,
    /// No sync succeeds.
    pub(crate) forgets: AtomicBool,
    /// No commit succeeds.
    pub(crate) is_full: AtomicBool,
}

impl Fault for Moody {
    fn before_commit(&self, _number: u64) -> FaultAction {
        assert!(!self.panics.swap(false, Ordering::Relaxed), "a panic that a test asked for");
        if self.is_full.load(Ordering::Relaxed) {
            return FaultAction::Fail;
        }
        FaultAction::Proceed
    }

    fn before_sync(&self) -> bool {
        !self.forgets.load(Ordering::Relaxed)
    }
}

pub(crate) async fn on_a_moody_disk() -> (Call, Arc<Moody>) {
    let moody = Arc::new(Moody::default());
    let options = Options { fault: Some(Arc::clone(&moody) as _), ..Options::lenient() };
    (Call::on(TestServer::start_from(options).await).await, moody)
}
