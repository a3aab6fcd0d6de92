//! When what ends by itself is due: an index, in memory, of deadlines that are in rows.
//!
//! Invariants: a key has at most one deadline. It decides only when a row is looked at again; whether something
//! is over is decided by the row.

use std::{
    collections::{BTreeSet, HashMap},
    future::Future,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;
use wick_core::{Clock, Monotonic, Result};
use wick_runtime::Supervisor;

/// The wait until something that could not be ended is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Deadlines by key.
pub(crate) struct Deadlines<K> {
    state: Mutex<State<K>>,
    /// Notified when the first deadline may have become an earlier one.
    sooner: Notify,
}

struct State<K> {
    by_key: HashMap<K, Monotonic>,
    queue: BTreeSet<(Monotonic, K)>,
}

impl<K> Default for Deadlines<K> {
    fn default() -> Self {
        let state = State { by_key: HashMap::new(), queue: BTreeSet::new() };
        Self { state: Mutex::new(state), sooner: Notify::new() }
    }
}

impl<K: Copy + Ord + Hash + Send + 'static> Deadlines<K> {
    /// Starts a task that calls `over` with each key that is due, in the order of the deadlines. A key has
    /// no deadline any more by then; one for which `over` fails is due again a little later.
    pub(crate) fn watch<T>(
        self: &Arc<Self>,
        (supervisor, name): (&Supervisor, &'static str),
        clock: &Arc<dyn Clock>,
        over: impl Fn(K) -> T + Clone + Send + Sync + 'static,
    ) where
        T: Future<Output = Result<()>> + Send,
    {
        let (deadlines, clock) = (Arc::clone(self), Arc::clone(clock));
        let stopping = supervisor.stopping().clone();
        supervisor.spawn(name, move || {
            let (deadlines, clock) = (Arc::clone(&deadlines), Arc::clone(&clock));
            let (stopping, over) = (stopping.clone(), over.clone());
            async move {
                while let Some(key) =
                    stopping.run_until_cancelled(deadlines.next_due(&*clock)).await
                {
                    if let Err(error) = over(key).await {
                        tracing::warn!(task = name, %error, "a time-out fails and is tried again");
                        deadlines.retry(key, clock.monotonic());
                    }
                }
            }
        });
    }

    /// Replaces the deadline of a key; `None` removes it.
    pub(crate) fn set(&self, key: K, due: Option<Monotonic>) {
        let mut state = self.lock();
        let before = match due {
            Some(due) => state.by_key.insert(key, due),
            None => state.by_key.remove(&key),
        };
        if let Some(before) = before {
            state.queue.remove(&(before, key));
        }
        let Some(due) = due else { return };
        state.queue.insert((due, key));
        if state.queue.first() == Some(&(due, key)) {
            drop(state);
            self.sooner.notify_one();
        }
    }

    /// Waits until a key is due, and takes its deadline.
    async fn next_due(&self, clock: &dyn Clock) -> K {
        loop {
            if let Some(key) = self.take_due(clock.monotonic()) {
                return key;
            }
            let next = self.lock().queue.first().map(|(due, _)| *due);
            let due = async {
                match next {
                    Some(next) => clock.sleep_until(next).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.sooner.notified() => {}
                () = due => {}
            }
        }
    }

    /// Makes a key due a little later than `now`.
    pub(crate) fn retry(&self, key: K, now: Monotonic) {
        self.set(key, Some(now + RETRY_AFTER));
    }

    fn take_due(&self, now: Monotonic) -> Option<K> {
        let mut state = self.lock();
        let (due, key) = *state.queue.first()?;
        if due > now {
            return None;
        }
        state.queue.pop_first();
        state.by_key.remove(&key);
        Some(key)
    }

    fn lock(&self) -> MutexGuard<'_, State<K>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Monotonic {
        Monotonic(Duration::from_secs(seconds))
    }

    #[test]
    fn keys_come_up_in_the_order_of_their_last_deadlines_and_once() {
        let deadlines = Deadlines::default();
        for (key, due) in [(1, 30), (2, 10), (3, 20), (2, 40), (4, 5)] {
            deadlines.set(key, Some(at(due)));
        }
        deadlines.set(4, None);
        let due =
            |now| -> Vec<i32> { std::iter::from_fn(|| deadlines.take_due(at(now))).collect() };
        assert!(due(9).is_empty());
        assert_eq!(due(30), [3, 1]);
        assert_eq!(due(99), [2]);
        assert!(due(99).is_empty());
    }
}
