//! Running timers in memory: when each is due by the clock that never jumps, and which user owns it.
//!
//! Invariants: what is on disk decides; this only holds when to look there. A refresh touches the
//! timer's entry and not the queue: an entry of the queue that comes up too early goes back in.
//! A deadline is never brought forward: the answer to a refresh guarantees it.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;
use wick_core::{BackOff, Monotonic, ShortUserId, TimerId};
use wick_database::schema::timer::Feature;

/// How long a firing that failed waits before it is tried again.
const BACK_OFF: BackOff = BackOff::new(Duration::from_secs(1), Duration::from_secs(64));

/// The clock's beginning in [`Micros`]: what was due before it has a place in the order as well.
const ORIGIN: Micros = 1 << 62;

/// How many entries of ended timers the queue may hold before they are swept out.
const SWEEP_AT: usize = 1024;

/// All running timers of the server.
#[derive(Default)]
pub struct Queue {
    state: Mutex<State>,
    /// Notified when something may be due sooner than the queue had it.
    sooner: Notify,
}

#[derive(Default)]
struct State {
    running: HashMap<TimerId, Entry>,
    /// Each owner's timers, among them those that are about to be armed and so have no entry yet.
    by_owner: HashMap<QuotaKey, HashSet<TimerId>>,
    queue: BinaryHeap<Reverse<(Micros, TimerId)>>,
}

/// Microseconds of the monotonic clock: half the size of a `Duration`, of which there are many.
type Micros = u64;

/// The limit that a timer counts against: a feature and an owner.
pub type QuotaKey = (Feature, ShortUserId);

#[derive(Clone, Copy)]
struct Entry {
    due: Micros,
    quota: QuotaKey,
    failures: u32,
}

/// The error of [`Queue::reserve`] when there is no room for one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full {
    /// When the next of the owner's timers is due, if they have any.
    pub next_due: Option<Monotonic>,
}

impl Queue {
    /// Makes room for one more timer of `quota`, which may have `most`. What is reserved is given back
    /// with [`Queue::release`], whether the timer was armed or not.
    ///
    /// # Errors
    /// [`Full`] if it has as many as it may.
    pub fn reserve(&self, timer: TimerId, quota: QuotaKey, most: usize) -> Result<(), Full> {
        let mut state = self.lock();
        let held = state.by_owner.get(&quota).map_or(0, HashSet::len);
        if held < most {
            state.by_owner.entry(quota).or_default().insert(timer);
            return Ok(());
        }
        let due = state.by_owner.get(&quota).and_then(|timers| {
            timers.iter().filter_map(|timer| state.running.get(timer)).map(|entry| entry.due).min()
        });
        Err(Full { next_due: due.map(monotonic) })
    }

    /// Gives back what [`Queue::reserve`] took, if the timer was not armed.
    pub fn release(&self, timer: TimerId, quota: QuotaKey) {
        let mut state = self.lock();
        if !state.running.contains_key(&timer) {
            state.forget(timer, quota);
        }
    }

    /// Takes in a timer that runs.
    pub fn armed(&self, timer: TimerId, quota: QuotaKey, due: Monotonic) {
        self.add(timer, quota, micros(due));
    }

    /// Takes in a timer that has been due for `overdue`, which can be longer than the clock runs.
    pub fn armed_overdue(
        &self,
        timer: TimerId,
        quota: QuotaKey,
        now: Monotonic,
        overdue: Duration,
    ) {
        let overdue = Micros::try_from(overdue.as_micros()).unwrap_or(Micros::MAX);
        self.add(timer, quota, micros(now).saturating_sub(overdue));
    }

    fn add(&self, timer: TimerId, quota: QuotaKey, due: Micros) {
        let mut state = self.lock();
        state.sweep();
        let sooner = state.queue.peek().is_none_or(|Reverse((next, _))| due < *next);
        state.running.insert(timer, Entry { due, quota, failures: 0 });
        state.by_owner.entry(quota).or_default().insert(timer);
        state.queue.push(Reverse((due, timer)));
        drop(state);
        if sooner {
            self.sooner.notify_one();
        }
    }

    /// Lets go of a timer that ended.
    pub fn stopped(&self, timer: TimerId) {
        let mut state = self.lock();
        if let Some(entry) = state.running.remove(&timer) {
            state.forget(timer, entry.quota);
        }
    }

    /// Puts off when a timer is due. Never brings it forward.
    pub fn put_off(&self, timer: TimerId, due: Monotonic) {
        if let Some(entry) = self.lock().running.get_mut(&timer) {
            entry.due = entry.due.max(micros(due));
        }
    }

    /// Puts a timer back whose firing failed, to be tried again later; if it was put off beyond that, no
    /// sooner than it is due.
    pub fn failed(&self, timer: TimerId, now: Monotonic) {
        let mut state = self.lock();
        let Some(entry) = state.running.get_mut(&timer) else { return };
        let wait = BACK_OFF.after(entry.failures);
        entry.failures = entry.failures.saturating_add(1);
        entry.due = entry.due.max(micros(now + wait));
        let due = entry.due;
        state.queue.push(Reverse((due, timer)));
        drop(state);
        self.sooner.notify_one();
    }

    /// Puts a timer back in the queue that turned out not to be due.
    pub fn requeue(&self, timer: TimerId) {
        let mut state = self.lock();
        let Some(entry) = state.running.get(&timer) else { return };
        let due = entry.due;
        state.queue.push(Reverse((due, timer)));
        drop(state);
        self.sooner.notify_one();
    }

    /// Takes at most `most` timers that are due out of the queue, in the order in which they are.
    pub fn take_due(&self, now: Monotonic, most: usize) -> Vec<(Monotonic, TimerId)> {
        let now = micros(now);
        let mut state = self.lock();
        let mut taken = Vec::new();
        while taken.len() < most
            && let Some(Reverse((at, timer))) = state.queue.peek().copied()
            && at <= now
        {
            state.queue.pop();
            match state.running.get(&timer) {
                // Refreshed since it was queued.
                Some(entry) if entry.due > at => {
                    let due = entry.due;
                    state.queue.push(Reverse((due, timer)));
                }
                Some(entry) if entry.due == at => taken.push((monotonic(at), timer)),
                // Ended, or queued a second time.
                _ => {}
            }
        }
        taken
    }

    /// When the next entry is due.
    #[must_use]
    pub fn next(&self) -> Option<Monotonic> {
        self.lock().queue.peek().map(|Reverse((at, _))| monotonic(*at))
    }

    /// Resolves when [`Queue::next`] may have become sooner.
    pub async fn sooner(&self) {
        self.sooner.notified().await;
    }

    /// When a timer is due; `None` if it does not run.
    #[must_use]
    pub fn due(&self, timer: TimerId) -> Option<Monotonic> {
        self.lock().running.get(&timer).map(|entry| monotonic(entry.due))
    }

    /// The timers of a user that run.
    #[must_use]
    pub fn of_owner(&self, quota: QuotaKey) -> Vec<TimerId> {
        let state = self.lock();
        let Some(timers) = state.by_owner.get(&quota) else { return Vec::new() };
        timers.iter().filter(|timer| state.running.contains_key(timer)).copied().collect()
    }

    /// How many timers run.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().running.len()
    }

    /// Whether none runs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Drops the entries of timers that ended long before they were due, once they are the most.
    fn sweep(&mut self) {
        if self.queue.len() > SWEEP_AT + 2 * self.running.len() {
            let Self { running, queue, .. } = self;
            queue.retain(|Reverse((_, timer))| running.contains_key(timer));
        }
    }

    fn forget(&mut self, timer: TimerId, quota: QuotaKey) {
        if let Some(timers) = self.by_owner.get_mut(&quota) {
            timers.remove(&timer);
            if timers.is_empty() {
                self.by_owner.remove(&quota);
            }
        }
    }
}

fn micros(at: Monotonic) -> Micros {
    Micros::try_from(at.0.as_micros()).unwrap_or(Micros::MAX).saturating_add(ORIGIN)
}

fn monotonic(at: Micros) -> Monotonic {
    Monotonic(Duration::from_micros(at.saturating_sub(ORIGIN)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: QuotaKey = (Feature::Expiry, ShortUserId(7));

    fn at(seconds: u64) -> Monotonic {
        Monotonic(Duration::from_secs(seconds))
    }

    #[test]
    fn timers_come_up_in_the_order_in_which_they_are_due() {
        let timers = Queue::default();
        for (timer, due) in [(1, 30), (2, 10), (3, 20)] {
            timers.armed(TimerId(timer), OWNER, at(due));
        }
        let due: Vec<_> = timers.take_due(at(25), 10).into_iter().map(|(_, t)| t.0).collect();
        assert_eq!(due, [2, 3]);
        assert_eq!(timers.next(), Some(at(30)));
    }

    #[test]
    fn a_refreshed_timer_comes_up_at_its_new_time_and_once() {
        let timers = Queue::default();
        timers.armed(TimerId(1), OWNER, at(10));
        timers.put_off(TimerId(1), at(15));
        timers.put_off(TimerId(1), at(12));
        assert!(timers.take_due(at(10), 10).is_empty());
        assert_eq!(timers.take_due(at(15), 10), [(at(15), TimerId(1))]);
        assert!(timers.take_due(at(99), 10).is_empty());
    }

    #[test]
    fn a_stopped_timer_never_comes_up() {
        let timers = Queue::default();
        timers.armed(TimerId(1), OWNER, at(10));
        timers.stopped(TimerId(1));
        assert!(timers.take_due(at(99), 10).is_empty());
        assert!(timers.is_empty());
        assert!(timers.of_owner(OWNER).is_empty());
    }

    #[test]
    fn a_failed_firing_comes_up_again_later_each_time() {
        let timers = Queue::default();
        timers.armed(TimerId(1), OWNER, at(10));
        assert_eq!(timers.take_due(at(10), 1).len(), 1);
        timers.failed(TimerId(1), at(10));
        assert_eq!(timers.next(), Some(at(11)));
        assert_eq!(timers.take_due(at(11), 1).len(), 1);
        timers.failed(TimerId(1), at(11));
        assert_eq!(timers.next(), Some(at(13)));
    }

    #[test]
    fn a_failed_firing_does_not_bring_forward_what_was_refreshed_meanwhile() {
        let timers = Queue::default();
        timers.armed(TimerId(1), OWNER, at(10));
        assert_eq!(timers.take_due(at(10), 1).len(), 1);
        timers.put_off(TimerId(1), at(20));
        timers.requeue(TimerId(1));
        timers.failed(TimerId(1), at(10));
        assert_eq!(timers.due(TimerId(1)), Some(at(20)));
        assert!(timers.take_due(at(19), 10).is_empty());
        assert!(!timers.take_due(at(20), 10).is_empty());
    }

    #[test]
    fn what_was_due_before_the_clock_began_comes_up_in_the_order_in_which_it_was() {
        let timers = Queue::default();
        timers.armed(TimerId(4), OWNER, at(1));
        for (timer, overdue) in [(1, 3_600), (2, 90_000), (3, 7_200)] {
            timers.armed_overdue(TimerId(timer), OWNER, at(1), Duration::from_secs(overdue));
        }
        let due: Vec<_> = timers.take_due(at(1), 10).into_iter().map(|(_, t)| t.0).collect();
        assert_eq!(due, [2, 3, 1, 4]);
    }

    #[test]
    fn timers_that_end_early_do_not_gather() {
        let timers = Queue::default();
        for number in 0..10_000 {
            timers.armed(TimerId(number), OWNER, at(86_400));
            timers.stopped(TimerId(number));
        }
        assert!(timers.lock().queue.len() <= SWEEP_AT + 3);
    }

    #[test]
    fn an_owner_has_no_more_than_they_may_and_is_told_when_there_is_room() {
        let timers = Queue::default();
        timers.reserve(TimerId(1), OWNER, 2).unwrap();
        timers.armed(TimerId(1), OWNER, at(10));
        // Armed and not answered yet, it counts once.
        timers.reserve(TimerId(2), OWNER, 2).unwrap();
        timers.release(TimerId(1), OWNER);
        assert_eq!(timers.reserve(TimerId(3), OWNER, 2), Err(Full { next_due: Some(at(10)) }));
        timers.release(TimerId(2), OWNER);
        timers.reserve(TimerId(3), OWNER, 2).unwrap();
        assert_eq!(timers.of_owner(OWNER), [TimerId(1)]);
        // What is for something else has a limit of its own.
        timers.reserve(TimerId(4), (Feature::Delay, OWNER.1), 1).unwrap();
    }
}
