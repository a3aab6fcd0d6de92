//! A blow to one commit, chosen when the server is already at work.
//!
//! Invariant: it strikes once; until it is aimed, and after it has struck, commits succeed as usual.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use wick_database::{Fault, FaultAction};

/// Everything that can happen to a commit besides success.
pub const FATES: [FaultAction; 3] =
    [FaultAction::Fail, FaultAction::StopBefore, FaultAction::StopAfter];

/// Counts commits and strikes at one of them.
#[derive(Default)]
pub struct Strike {
    aim: Mutex<Aim>,
    struck: Notify,
}

#[derive(Default)]
struct Aim {
    commits: u64,
    at: Option<(u64, FaultAction)>,
}

impl Strike {
    /// One that is not aimed at anything.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// How many commits there were.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.aim().commits
    }

    /// Strikes at the `number`-th commit from now, counted from 1.
    pub fn at(&self, number: u64, fate: FaultAction) {
        let mut aim = self.aim();
        aim.at = Some((aim.commits + number, fate));
    }

    /// Whether it has struck since it was aimed.
    #[must_use]
    pub fn has_struck(&self) -> bool {
        self.aim().at.is_none()
    }

    /// Waits until it has struck.
    pub async fn struck(&self) {
        loop {
            let struck = self.struck.notified();
            if self.has_struck() {
                return;
            }
            struck.await;
        }
    }

    fn aim(&self) -> MutexGuard<'_, Aim> {
        self.aim.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Fault for Strike {
    fn before_commit(&self, _number: u64) -> FaultAction {
        let mut aim = self.aim();
        aim.commits += 1;
        match aim.at {
            Some((at, fate)) if at == aim.commits => {
                aim.at = None;
                self.struck.notify_waiters();
                fate
            }
            _ => FaultAction::Proceed,
        }
    }
}
