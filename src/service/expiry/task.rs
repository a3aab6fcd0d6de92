//! The task that fires timers: the due ones by room, rooms in parallel, each room in deadline order.
//!
//! Invariants: a slow room delays no other; what was overdue at start is fired first, in order, at a
//! bounded rate.

use std::{
    collections::{BTreeMap, VecDeque},
    panic::AssertUnwindSafe,
    slice,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::FutureExt;
use tokio::sync::Semaphore;
use wick_core::{Error, Result, ShortRoomId, TimerId};
use wick_database::{
    Durability, Range, Read,
    schema::timer::{ENDED_BY_TIMER, TIMER_BY_ID},
};
use wick_room::Outcome;

use super::{END_REPEAT, Expiry, fire::Firing};
use crate::Supervisor;

/// How many timers of a room end in one batch.
const CHUNK: usize = 32;

/// How many due timers are looked up at a time.
const TAKE: usize = 1024;

/// Between two portions of what was overdue at start.
const OVERDUE_TICK: Duration = Duration::from_millis(50);

/// How often the memory of hand-ended timers is swept.
const SWEEP_EVERY: Duration = Duration::from_secs(10 * 60);

/// Rooms in which timers are about to end.
#[derive(Default)]
struct Pending {
    rooms: Mutex<BTreeMap<ShortRoomId, VecDeque<TimerId>>>,
}

impl Expiry {
    /// Reads all timers, once. Their deadlines are by the wall clock, as no other clock survives a
    /// restart (rule 24).
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn load(&self) -> Result<()> {
        let (now, monotonic) = (self.resources.clock.now(), self.resources.clock.monotonic());
        let latest = self.latest();
        for row in latest.scan(&TIMER_BY_ID, Range::all()) {
            let (timer, row) = row?;
            // What is overdue is due at once, and still in the order of its deadline.
            let overdue = now.since(row.deadline);
            if overdue.is_zero() {
                self.timers.armed(timer, row.owner, monotonic + row.deadline.since(now));
            } else {
                self.timers.armed_overdue(timer, row.owner, monotonic, overdue);
            }
        }
        let running = self.timers.len();
        if running > 0 {
            tracing::info!(running, "timers go on");
        }
        Ok(())
    }

    /// Starts firing. Call it after [`Expiry::load`].
    pub fn start(self: &Arc<Self>, supervisor: &Arc<Supervisor>) {
        let expiry = Arc::clone(self);
        let owner = Arc::clone(supervisor);
        supervisor.spawn("timers", move || {
            let (expiry, supervisor) = (Arc::clone(&expiry), Arc::clone(&owner));
            async move { expiry.run(&supervisor).await }
        });
        let expiry = Arc::clone(self);
        let stopping = supervisor.stopping().clone();
        supervisor.spawn("ended timers", move || {
            let (expiry, stopping) = (Arc::clone(&expiry), stopping.clone());
            async move {
                let sweeping = expiry.sweep_forever();
                let _stopped = stopping.run_until_cancelled(sweeping).await;
            }
        });
    }

    async fn run(self: &Arc<Self>, supervisor: &Arc<Supervisor>) {
        let concurrency = usize::try_from(self.settings().concurrency).unwrap_or(1).max(1);
        let firing = Firings {
            expiry: Arc::clone(self),
            supervisor: Arc::clone(supervisor),
            pending: Arc::default(),
            permits: Arc::new(Semaphore::new(concurrency)),
        };
        // Until what was due by then is out of the queue, fired, refreshed or ended, firing is throttled.
        let began = self.resources.clock.monotonic();
        let throttled = || self.timers.next().is_some_and(|next| next <= began);
        let stopping = supervisor.stopping();
        while !stopping.is_cancelled() {
            let most = if throttled() { self.overdue_portion() } else { TAKE };
            let due = self.timers.take_due(self.resources.clock.monotonic(), most);
            firing.dispatch(due.into_iter().map(|(_, timer)| timer));
            tokio::select! {
                () = self.until_next(throttled()) => {}
                () = stopping.cancelled() => {}
            }
        }
    }

    fn overdue_portion(&self) -> usize {
        let per_second = u64::from(self.settings().overdue_per_second.max(1));
        let portion = per_second * wick_core::clock::millis(OVERDUE_TICK) / 1000;
        usize::try_from(portion).unwrap_or(1).max(1)
    }

    async fn until_next(&self, throttled: bool) {
        let clock = &self.resources.clock;
        if throttled {
            clock.sleep_until(clock.monotonic() + OVERDUE_TICK).await;
            return;
        }
        match self.timers.next() {
            Some(next) => tokio::select! {
                () = clock.sleep_until(next) => {}
                () = self.timers.sooner() => {}
            },
            None => self.timers.sooner().await,
        }
    }

    async fn sweep_forever(&self) {
        let clock = &self.resources.clock;
        loop {
            clock.sleep_until(clock.monotonic() + SWEEP_EVERY).await;
            if let Err(error) = self.sweep_ended().await {
                tracing::error!(%error, "ended timers could not be swept");
            }
        }
    }

    /// Forgets the timers whose `end` is too long ago to be answered again.
    async fn sweep_ended(&self) -> Result<()> {
        let now = self.resources.clock.now();
        let latest = self.latest();
        let mut batch = self.resources.database.batch();
        for row in latest.scan(&ENDED_BY_TIMER, Range::all()) {
            let (timer, row) = row?;
            if now.since(row.at) > END_REPEAT {
                batch.delete(&ENDED_BY_TIMER, &timer);
            }
        }
        if !batch.is_empty() {
            self.resources.database.commit(batch, Durability::Flushed).await?;
        }
        Ok(())
    }
}

/// Hands due timers to one worker per room.
struct Firings {
    expiry: Arc<Expiry>,
    supervisor: Arc<Supervisor>,
    pending: Arc<Pending>,
    permits: Arc<Semaphore>,
}

impl Firings {
    fn dispatch(&self, due: impl Iterator<Item = TimerId>) {
        let latest = self.expiry.latest();
        for timer in due {
            match latest.get(&TIMER_BY_ID, &timer) {
                Ok(Some(row)) => self.push(row.room, timer),
                Ok(None) => self.expiry.timers.stopped(timer),
                Err(error) => {
                    tracing::error!(%error, %timer, "a due timer could not be read");
                    self.expiry.timers.failed(timer, self.expiry.resources.clock.monotonic());
                }
            }
        }
    }

    fn push(&self, room: ShortRoomId, timer: TimerId) {
        let mut rooms = self.pending.lock();
        if let Some(waiting) = rooms.get_mut(&room) {
            waiting.push_back(timer);
            return;
        }
        rooms.insert(room, VecDeque::from([timer]));
        drop(rooms);
        let worker = work(
            Arc::clone(&self.expiry),
            Arc::clone(&self.pending),
            Arc::clone(&self.permits),
            room,
        );
        self.supervisor.spawn_once("timers of a room", worker);
    }
}

impl Pending {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<ShortRoomId, VecDeque<TimerId>>> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next timers of a room; when there are none the room has no worker any more.
    fn take(&self, room: ShortRoomId) -> Vec<TimerId> {
        let mut rooms = self.lock();
        let Some(waiting) = rooms.get_mut(&room) else { return Vec::new() };
        let chunk: Vec<_> = waiting.drain(..waiting.len().min(CHUNK)).collect();
        if chunk.is_empty() {
            rooms.remove(&room);
        }
        chunk
    }
}

async fn work(
    expiry: Arc<Expiry>,
    pending: Arc<Pending>,
    permits: Arc<Semaphore>,
    room: ShortRoomId,
) {
    loop {
        // One permit per portion: rooms with much to do take turns with the others.
        let Ok(_permit) = permits.acquire().await else { return };
        let timers = pending.take(room);
        if timers.is_empty() {
            return;
        }
        let clock = &expiry.resources.clock;
        let due_by = Some(clock.monotonic());
        let firings: Vec<_> = timers
            .iter()
            .map(|timer| Firing { timer: *timer, outcome: Outcome::Expired, due_by })
            .collect();
        let Err(error) = fire(&expiry, &firings).await else { continue };
        tracing::error!(%error, %room, timers = timers.len(), "timers could not fire and will be tried again");
        for firing in &firings {
            // One that cannot be fired must not keep the others from it.
            if firings.len() > 1 && fire(&expiry, slice::from_ref(firing)).await.is_ok() {
                continue;
            }
            expiry.timers.failed(firing.timer, clock.monotonic());
        }
    }
}

/// Fires timers of one room. A panic is an error like others: it must not leave the room without a worker,
/// and its timers waiting for one.
async fn fire(expiry: &Expiry, firings: &[Firing]) -> Result<()> {
    let fired = AssertUnwindSafe(expiry.fire(firings)).catch_unwind().await;
    fired.unwrap_or_else(|_| Err(Error::corrupt("a firing panicked")))
}
