//! A clock for the tests of single modules. Those of the whole server have one that also lets tasks run.
//!
//! Invariant: time passes only when a test advances it.

use std::{
    future::Future,
    sync::{Mutex, MutexGuard, PoisonError},
    task::Poll,
    time::Duration,
};

use super::{Clock, Monotonic, Sleep, Timestamp, millis};

/// A clock that begins at zero and is moved by hand.
#[derive(Debug, Default)]
pub struct ManualClock {
    state: Mutex<State>,
    ends_sleeps: bool,
}

#[derive(Debug, Default)]
struct State {
    passed: Duration,
    slept_until: Vec<Duration>,
}

impl ManualClock {
    /// A clock on which every sleep ends at once, although no time passes.
    #[must_use]
    pub fn without_sleep() -> Self {
        Self { ends_sleeps: true, ..Self::default() }
    }

    /// Advances the time. Sleeps that are not over continue.
    pub fn advance(&self, time: Duration) {
        let mut state = self.state();
        state.passed = state.passed.saturating_add(time);
    }

    /// The deadlines of all sleeps so far.
    #[must_use]
    pub fn slept_until(&self) -> Vec<Duration> {
        self.state().slept_until.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(millis(self.state().passed))
    }

    fn monotonic(&self) -> Monotonic {
        Monotonic(self.state().passed)
    }

    fn sleep_until(&self, deadline: Monotonic) -> Sleep {
        self.state().slept_until.push(deadline.0);
        if self.ends_sleeps {
            Box::pin(other_tasks_first())
        } else {
            Box::pin(std::future::pending())
        }
    }
}

/// Ready at the second poll, so that a loop of sleeps does not keep other tasks from running.
fn other_tasks_first() -> impl Future<Output = ()> + Send {
    let mut polled = false;
    std::future::poll_fn(move |context| {
        if std::mem::replace(&mut polled, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
}
