//! Durable timers: one table, one queue and one way of firing for events that expire and for events that
//! are sent later.
//!
//! Invariants: a timer is defined by its row; an answered keep-alive is in the row; a handle is the right
//! to a timer, and is in no log, error or metric.

mod admin;
mod fire;
mod handle;
mod queue;
mod task;

use std::{hash::Hash, sync::Arc, time::Duration};

use wick_core::{Error, Monotonic, Result, ShortUserId, TimerId};
use wick_database::{
    Batch, Durability, Latest, Range, Read,
    schema::timer::{Feature, TIMER_BY_ID, TimerRow},
};
use wick_room::{Arm, Graph, TimerChange};
use wick_runtime::{Limit, Limits, Resources};

use self::handle::Handles;

pub use self::{
    admin::RunningTimer,
    queue::{Full, Queue, QuotaKey},
};
pub use self::{
    fire::{Cause, Decided, Fired, Fires, Firing},
    handle::Shown,
};

/// How often a keep-alive is tried anew because another one came between.
const KEEP_ALIVE_ATTEMPTS: usize = 16;

/// All timers of the server.
pub struct Timers {
    resources: Resources,
    graph: Arc<Graph>,
    queue: Arc<Queue>,
    limits: Arc<Limits>,
    handles: Handles,
}

/// A place among an owner's timers that is held for one that is about to be armed.
pub struct Reservation {
    timer: TimerId,
    quota: QuotaKey,
    queue: Arc<Queue>,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.queue.release(self.timer, self.quota);
    }
}

impl Timers {
    /// On a graph whose hook is [`listener`] with the same queue.
    #[must_use]
    pub fn new(
        resources: Resources,
        graph: Arc<Graph>,
        queue: Arc<Queue>,
        limits: Arc<Limits>,
        secret: [u8; 32],
    ) -> Self {
        Self { resources, graph, queue, limits, handles: Handles::new(secret) }
    }

    /// Reads all timers, once. Their deadlines are by the wall clock, as no other clock survives a
    /// restart.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn load(&self) -> Result<()> {
        let (now, monotonic) = (self.resources.clock.now(), self.resources.clock.monotonic());
        for row in self.latest().scan(&TIMER_BY_ID, Range::all()) {
            let (timer, row) = row?;
            // What is overdue is due at once, and still in the order of its deadline.
            let overdue = now.since(row.deadline);
            if overdue.is_zero() {
                // The wall clock may have been set back since.
                let left = row.deadline.since(now).min(Duration::from_millis(row.duration));
                self.queue.armed(timer, quota(&row), monotonic + left);
            } else {
                self.queue.armed_overdue(timer, quota(&row), monotonic, overdue);
            }
        }
        let running = self.queue.len();
        if running > 0 {
            tracing::info!(running, "timers were loaded");
        }
        Ok(())
    }

    /// How many timers run.
    #[must_use]
    pub fn running_total(&self) -> usize {
        self.queue.len()
    }

    /// A timer that is about to be armed, with its place among its owner's. `most` is how many of this
    /// kind they may have.
    ///
    /// # Errors
    /// `M_LIMIT_EXCEEDED` with the time until the next of theirs is due.
    pub fn prepare(
        &self,
        (feature, owner): QuotaKey,
        most: u32,
        duration: Duration,
    ) -> Result<(Arm, Reservation)> {
        let timer = self.graph.next_timer();
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        self.queue.reserve(timer, (feature, owner), most).map_err(|full| {
            let now = self.resources.clock.monotonic();
            let wait = full.next_due.map_or(Duration::ZERO, |due| due.since(now));
            Error::limit_exceeded(wait.max(Duration::from_millis(1)))
        })?;
        let reservation =
            Reservation { timer, quota: (feature, owner), queue: Arc::clone(&self.queue) };
        let arm = Arm {
            timer,
            nonce: self.resources.random.number(),
            duration: wick_core::clock::millis(duration),
            deadline: self.resources.clock.now().after(duration),
        };
        Ok((arm, reservation))
    }

    /// The handle of a timer.
    pub fn handle(&self, feature: Feature, timer: TimerId, nonce: u64) -> String {
        self.handles.of(feature, timer, nonce)
    }

    /// A handle taken apart, if it has the form of one.
    pub fn shown(&self, feature: Feature, handle: &str) -> Option<Shown> {
        handle::parse(feature, handle)
    }

    /// Whether a handle is that of a timer with this nonce.
    pub fn is_shown(&self, shown: &Shown, nonce: u64) -> bool {
        self.handles.check(shown, nonce)
    }

    /// The timer's row, if it runs and the handle is its.
    pub fn running(&self, shown: &Shown) -> Result<Option<TimerRow>> {
        let row = self.latest().get(&TIMER_BY_ID, &shown.timer)?;
        Ok(row.filter(|row| self.handles.check(shown, row.nonce)))
    }

    /// Counts one use of a valid handle.
    pub fn count_use(&self, timer: TimerId) -> Result<()> {
        self.limits.ensure(Limit::KeepAlive, &timer)
    }

    /// The error for an unknown handle: always the same, or that there were too many of them
    /// from there.
    pub fn unknown(&self, from: &impl Hash, message: &'static str) -> Error {
        match self.limits.ensure(Limit::InvalidHandle, from) {
            Ok(()) => Error::not_found(message),
            Err(limited) => limited,
        }
    }

    /// Begins a timer's duration anew. Returns once that survives a killed process; `false` if the
    /// handle is of no timer that runs.
    ///
    /// # Errors
    /// `M_LIMIT_EXCEEDED`.
    pub async fn keep_alive(&self, shown: &Shown) -> Result<bool> {
        // In this order: whatever comes in between makes it later in memory than on disk.
        let now = self.resources.clock.now();
        let began = self.resources.clock.monotonic();
        let mut counted = false;
        for _ in 0..KEEP_ALIVE_ATTEMPTS {
            let mut batch = self.resources.database.batch();
            let row = batch.read_for_update(&TIMER_BY_ID, &shown.timer)?;
            let row = row.filter(|row| self.handles.check(shown, row.nonce));
            let Some(row) = row else { return Ok(false) };
            if !counted {
                self.count_use(shown.timer)?;
                counted = true;
            }
            let duration = Duration::from_millis(row.duration);
            // In memory first: a firing reads the row first and looks here after it, so it either sees
            // this or finds that the row has changed.
            self.queue.put_off(shown.timer, began + duration);
            let renewals = row.renewals.wrapping_add(1);
            let kind = row.kind.feature().name();
            let kept = TimerRow { deadline: now.after(duration), renewals, ..row };
            batch.put(&TIMER_BY_ID, &shown.timer, &kept);
            match self.resources.database.commit(batch, Durability::Logged).await {
                Ok(_) => {
                    metrics::counter!("wick_timers_kept_alive_total", "kind" => kind).increment(1);
                    let took = self.resources.clock.monotonic().since(began);
                    metrics::histogram!("wick_timer_keep_alive_seconds", "kind" => kind)
                        .record(took.as_secs_f64());
                    return Ok(true);
                }
                Err(error) if error.is_conflict() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::corrupt("a keep-alive found the timer changed again and again"))
    }

    /// When a timer that runs fires, by the clock that never jumps.
    #[must_use]
    pub fn due(&self, timer: TimerId) -> Option<Monotonic> {
        self.queue.due(timer)
    }

    /// The timers of one user that are for `feature`.
    pub fn of_owner(&self, feature: Feature, owner: ShortUserId) -> Vec<TimerId> {
        self.queue.of_owner((feature, owner))
    }

    /// Takes a timer that `batch` arms without a change of its room into the queue, once it is written.
    pub fn arm_in(&self, batch: &mut Batch, timer: TimerId, row: TimerRow) {
        let (resources, queue) = (self.resources.clone(), Arc::clone(&self.queue));
        let change = TimerChange::Armed(timer, row);
        batch.on_applied(move || take_in(&resources, &queue, &change));
    }

    /// Everything written, published or not.
    #[must_use]
    pub fn latest(&self) -> Latest {
        self.resources.database.latest()
    }
}

/// Updates `queue` with the graph's commits.
#[must_use]
pub fn listener(resources: &Resources, queue: Arc<Queue>) -> wick_room::TimerListener {
    let resources = resources.clone();
    Arc::new(move |changes| {
        for change in changes {
            take_in(&resources, &queue, change);
        }
    })
}

fn take_in(resources: &Resources, queue: &Queue, change: &TimerChange) {
    match change {
        TimerChange::Armed(timer, row) => {
            let clock = &resources.clock;
            let due = clock.monotonic() + row.deadline.since(clock.now());
            queue.armed(*timer, quota(row), due);
            let kind = row.kind.feature().name();
            metrics::counter!("wick_timers_armed_total", "kind" => kind).increment(1);
        }
        TimerChange::Stopped(timer, row, outcome) => {
            queue.stopped(*timer);
            let (kind, outcome) = (row.kind.feature().name(), outcome.name());
            metrics::counter!("wick_timers_stopped_total", "kind" => kind, "outcome" => outcome)
                .increment(1);
        }
    }
    metrics::gauge!("wick_timers_running").set(gauge(queue.len()));
}

/// The limit that a timer counts against.
fn quota(row: &TimerRow) -> QuotaKey {
    (row.kind.feature(), row.owner)
}

fn gauge(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::MAX, f64::from)
}
