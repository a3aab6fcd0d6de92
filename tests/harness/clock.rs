//! A clock that stands still until a test moves it.
//!
//! Invariant: sleepers wake in the order of their deadlines, each at its own time, and what it does
//! then is done before the clock moves on, as far as it waits for nothing but other tasks.

use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use wick_core::{Clock, Monotonic, Timestamp, clock::Sleep};

/// How often other tasks get their turn after a sleeper woke.
const TURNS: usize = 64;

/// When a mock clock begins: some day in 2026.
const BEGINNING: Timestamp = Timestamp(1_790_000_000_000);

/// A clock moved by hand. Clones are the same clock.
#[derive(Clone, Default)]
pub struct MockClock {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    passed: Duration,
    // How far the wall clock is ahead of where it would be by itself, in milliseconds.
    jumped: i64,
    sleepers: BTreeMap<(Duration, u64), Waker>,
    next: u64,
}

impl MockClock {
    /// A clock at its beginning.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets `time` pass.
    pub async fn advance(&self, time: Duration) {
        let end = self.state().passed.saturating_add(time);
        settle().await;
        while let Some(wakers) = self.step(end) {
            wakers.into_iter().for_each(Waker::wake);
            settle().await;
        }
        self.state().passed = end;
        settle().await;
    }

    /// Moves the wall clock alone, as an administrator or a time server would.
    pub fn jump(&self, milliseconds: i64) {
        let mut state = self.state();
        state.jumped = state.jumped.saturating_add(milliseconds);
    }

    /// How many tasks sleep at the moment.
    #[must_use]
    pub fn sleepers(&self) -> usize {
        self.state().sleepers.len()
    }

    /// Whether a task sleeps until exactly `time` from now.
    #[must_use]
    pub fn is_awaited(&self, time: Duration) -> bool {
        let state = self.state();
        let deadline = state.passed.saturating_add(time);
        state.sleepers.range((deadline, 0)..=(deadline, u64::MAX)).next().is_some()
    }

    /// Waits until a task sleeps until exactly `time` from now.
    pub async fn awaited(&self, time: Duration) {
        while !self.is_awaited(time) {
            tokio::task::yield_now().await;
        }
    }

    /// Moves to the next deadline up to `end`, if there is one, and returns the wakers of its sleepers.
    fn step(&self, end: Duration) -> Option<Vec<Waker>> {
        let mut state = self.state();
        let (&(deadline, _), _) = state.sleepers.first_key_value()?;
        if deadline > end {
            return None;
        }
        state.passed = state.passed.max(deadline);
        let later = state.sleepers.split_off(&(deadline, u64::MAX));
        Some(std::mem::replace(&mut state.sleepers, later).into_values().collect())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for MockClock {
    fn now(&self) -> Timestamp {
        let state = self.state();
        let passed = BEGINNING.after(state.passed).0;
        Timestamp(passed.saturating_add_signed(state.jumped))
    }

    fn monotonic(&self) -> Monotonic {
        Monotonic(self.state().passed)
    }

    fn sleep_until(&self, deadline: Monotonic) -> Sleep {
        Box::pin(Sleeper { clock: self.clone(), deadline: deadline.0, id: None })
    }
}

struct Sleeper {
    clock: MockClock,
    deadline: Duration,
    id: Option<u64>,
}

impl Future for Sleeper {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let clock = self.clock.clone();
        let mut state = clock.state();
        if state.passed >= self.deadline {
            return Poll::Ready(());
        }
        let id = *self.id.get_or_insert(state.next);
        state.next = state.next.max(id + 1);
        state.sleepers.insert((self.deadline, id), context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.clock.state().sleepers.remove(&(self.deadline, id));
        }
    }
}

async fn settle() {
    for _ in 0..TURNS {
        tokio::task::yield_now().await;
    }
}
