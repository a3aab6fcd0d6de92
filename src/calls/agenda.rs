//! What is to be done when: keys with a time each, worked off some at a time.
//!
//! Invariants: a key is worked off by one job at a time; one that becomes due sooner meanwhile is worked off again at
//! that time; a job that panics takes no other one with it, and its key comes again.

use std::{
    collections::{BTreeSet, HashMap},
    future::{Future, pending},
    hash::Hash,
    panic::AssertUnwindSafe,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use tokio::sync::Notify;
use wick_core::{Clock, Monotonic};

/// When a key whose job panicked comes again.
const AFTER_PANIC: Duration = Duration::from_secs(2);

/// Keys with the time at which each is due.
pub(crate) struct Agenda<K> {
    state: Mutex<State<K>>,
    /// Notified when something may be due sooner than it was.
    sooner: Notify,
}

struct State<K> {
    entries: HashMap<K, Entry>,
    due: BTreeSet<(Monotonic, K)>,
}

enum Entry {
    /// It is due then.
    Due(Monotonic),
    /// A job works on it; it is due again at this time, if there is one.
    Taken(Option<Monotonic>),
}

impl<K> Default for Agenda<K> {
    fn default() -> Self {
        let state = State { entries: HashMap::new(), due: BTreeSet::new() };
        Self { state: Mutex::new(state), sooner: Notify::new() }
    }
}

impl<K: Clone + Hash + Ord> Agenda<K> {
    /// Makes a key due at a time, unless it is due sooner.
    pub(crate) fn add(&self, key: K, at: Monotonic) {
        self.state().add(key, at);
        self.sooner.notify_one();
    }

    /// Works off what is due, `most` at a time, until it is dropped. A job returns when its key is due again, if it is.
    /// `task` names it in logs and metrics.
    pub(crate) async fn work_off<J>(
        &self,
        clock: &dyn Clock,
        (task, most): (&'static str, usize),
        job: impl Fn(K) -> J,
    ) where
        J: Future<Output = Option<Monotonic>>,
    {
        self.state().resume(clock.monotonic());
        let mut jobs = FuturesUnordered::new();
        loop {
            let sooner = self.sooner.notified();
            while jobs.len() < most
                && let Some(key) = self.state().take(clock.monotonic())
            {
                let result = AssertUnwindSafe(job(key.clone())).catch_unwind();
                jobs.push(async move { (key, result.await) });
            }
            let due = if jobs.len() < most { self.state().next() } else { None };
            let until_due = async {
                match due {
                    Some(due) => clock.sleep_until(due).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                Some((key, result)) = jobs.next(), if !jobs.is_empty() => {
                    let again = result.unwrap_or_else(|_| {
                        tracing::error!(task, "a job panicked and will be tried again");
                        metrics::counter!("wick_task_panics_total", "task" => task).increment(1);
                        Some(clock.monotonic() + AFTER_PANIC)
                    });
                    self.state().finish(key, again);
                }
                () = until_due => {}
                () = sooner => {}
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State<K>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Clone + Hash + Ord> State<K> {
    fn add(&mut self, key: K, at: Monotonic) {
        match self.entries.get_mut(&key) {
            Some(Entry::Taken(again)) => *again = Some(again.map_or(at, |before| before.min(at))),
            Some(Entry::Due(before)) if *before <= at => {}
            Some(Entry::Due(before)) => {
                self.due.remove(&(*before, key.clone()));
                *before = at;
                self.due.insert((at, key));
            }
            None => {
                self.entries.insert(key.clone(), Entry::Due(at));
                self.due.insert((at, key));
            }
        }
    }

    fn take(&mut self, now: Monotonic) -> Option<K> {
        self.due.first().filter(|(due, _)| *due <= now)?;
        let (_, key) = self.due.pop_first()?;
        self.entries.insert(key.clone(), Entry::Taken(None));
        Some(key)
    }

    fn next(&self) -> Option<Monotonic> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Ends the work on a key, which is due again then, or sooner if it was made due meanwhile.
    fn finish(&mut self, key: K, then: Option<Monotonic>) {
        let Some(Entry::Taken(meanwhile)) = self.entries.remove(&key) else { return };
        if let Some(at) = then.into_iter().chain(meanwhile).min() {
            self.add(key, at);
        }
    }

    /// Makes everything due whose job broke off.
    fn resume(&mut self, now: Monotonic) {
        let taken = |(key, entry): (&K, &Entry)| match entry {
            Entry::Taken(_) => Some(key.clone()),
            Entry::Due(_) => None,
        };
        let taken: Vec<_> = self.entries.iter().filter_map(taken).collect();
        for key in taken {
            self.finish(key, Some(now));
        }
    }
}

#[cfg(test)]
mod tests {
    use wick_core::clock::ManualClock;

    use super::*;

    fn at(seconds: u64) -> Monotonic {
        Monotonic(Duration::from_secs(seconds))
    }

    #[test]
    fn a_key_is_taken_once_and_comes_again_at_the_soonest_time() {
        let agenda = Agenda::<&str>::default();
        agenda.add("a", at(5));
        agenda.add("a", at(3));
        agenda.add("a", at(9));
        assert_eq!(agenda.state().take(at(2)), None);
        assert_eq!(agenda.state().take(at(3)), Some("a"));
        agenda.add("a", at(3));
        assert_eq!(agenda.state().take(at(9)), None, "a job works on it");
        agenda.state().finish("a", Some(at(60)));
        assert_eq!(agenda.state().take(at(9)), Some("a"), "there was news meanwhile");
        agenda.state().finish("a", None);
        assert_eq!(agenda.state().next(), None);
    }

    #[test]
    fn what_broke_off_is_due_at_once() {
        let agenda = Agenda::<&str>::default();
        agenda.add("a", at(0));
        assert_eq!(agenda.state().take(at(0)), Some("a"));
        agenda.state().resume(at(1));
        assert_eq!(agenda.state().take(at(1)), Some("a"));
    }

    #[tokio::test]
    async fn a_job_that_panics_stops_no_other_one_and_comes_again() {
        let clock = ManualClock::without_sleep();
        let agenda = Agenda::<&str>::default();
        agenda.add("bad", at(0));
        agenda.add("good", at(0));
        let done = Notify::new();
        let job = |key| {
            let done = &done;
            async move {
                assert_ne!(key, "bad", "it panics");
                done.notify_one();
                None
            }
        };
        tokio::select! {
            () = agenda.work_off(&clock, ("test", 1), job) => {}
            () = done.notified() => {}
        }
        assert_eq!(agenda.state().take(Monotonic(AFTER_PANIC)), Some("bad"));
    }
}
