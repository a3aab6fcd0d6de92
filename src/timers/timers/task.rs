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
use wick_database::{Read, schema::timer::TIMER_BY_ID};
use wick_runtime::Supervisor;

use super::{Cause, Fires, Firing, Timers};

/// How many timers of a room fire in one batch.
const CHUNK: usize = 32;

/// How many due timers are looked up at a time.
const TAKE: usize = 1024;

/// In how many portions what was overdue at start is fired in a second; fewer if fewer may fire.
const OVERDUE_PORTIONS_PER_SECOND: u64 = 20;

/// Timers that are about to fire, by room.
#[derive(Default)]
struct DueRooms {
    rooms: Mutex<BTreeMap<ShortRoomId, VecDeque<TimerId>>>,
}

impl Timers {
    /// Starts firing. Call it after [`Timers::load`].
    pub fn start(self: &Arc<Self>, supervisor: &Arc<Supervisor>, fires: &Arc<dyn Fires>) {
        let (timers, fires) = (Arc::clone(self), Arc::clone(fires));
        let owner = Arc::clone(supervisor);
        supervisor.spawn("timers", move || {
            let (timers, supervisor) = (Arc::clone(&timers), Arc::clone(&owner));
            let fires = Arc::clone(&fires);
            async move { timers.run(&supervisor, fires).await }
        });
    }

    async fn run(self: &Arc<Self>, supervisor: &Arc<Supervisor>, fires: Arc<dyn Fires>) {
        let settings = &self.resources.config.timers;
        let concurrency = usize::try_from(settings.concurrency).unwrap_or(1).max(1);
        let firing = Firings {
            timers: Arc::clone(self),
            fires,
            supervisor: Arc::clone(supervisor),
            due_rooms: Arc::default(),
            permits: Permits {
                others: Arc::new(Semaphore::new(concurrency)),
                with_policy_server: Arc::new(Semaphore::new(concurrency)),
            },
        };
        // Firing is throttled until no timer that was due at start is in the queue any more.
        let began = self.resources.clock.monotonic();
        let throttled = || self.queue.next().is_some_and(|next| next <= began);
        let stopping = supervisor.stopping();
        while !stopping.is_cancelled() {
            let most = if throttled() { overdue_pace(settings.overdue_per_second).0 } else { TAKE };
            let due = self.queue.take_due(self.resources.clock.monotonic(), most);
            firing.dispatch(due.into_iter().map(|(_, timer)| timer));
            tokio::select! {
                () = self.until_next(throttled()) => {}
                () = stopping.cancelled() => {}
            }
        }
    }

    async fn until_next(&self, throttled: bool) {
        let clock = &self.resources.clock;
        if throttled {
            let (_, tick) = overdue_pace(self.resources.config.timers.overdue_per_second);
            clock.sleep_until(clock.monotonic() + tick).await;
            return;
        }
        match self.queue.next() {
            Some(next) => tokio::select! {
                () = clock.sleep_until(next) => {}
                () = self.queue.sooner() => {}
            },
            None => self.queue.sooner().await,
        }
    }
}

/// How many overdue timers fire at a time, and how long it is to the next time.
fn overdue_pace(per_second: u32) -> (usize, Duration) {
    let per_second = u64::from(per_second.max(1));
    let portion = (per_second / OVERDUE_PORTIONS_PER_SECOND).max(1);
    let tick = Duration::from_micros(portion.saturating_mul(1_000_000) / per_second);
    (usize::try_from(portion).unwrap_or(1), tick)
}

/// How many rooms fire timers at the same time. Those that ask a policy server first hold up none that do not.
#[derive(Clone)]
struct Permits {
    others: Arc<Semaphore>,
    with_policy_server: Arc<Semaphore>,
}

/// Hands due timers to one worker per room.
struct Firings {
    timers: Arc<Timers>,
    fires: Arc<dyn Fires>,
    supervisor: Arc<Supervisor>,
    due_rooms: Arc<DueRooms>,
    permits: Permits,
}

impl Firings {
    fn dispatch(&self, due: impl Iterator<Item = TimerId>) {
        let timers = &self.timers;
        let latest = timers.latest();
        for timer in due {
            match latest.get(&TIMER_BY_ID, &timer) {
                Ok(Some(row)) => self.push(row.room, timer),
                Ok(None) => timers.queue.stopped(timer),
                Err(error) => {
                    tracing::error!(%error, %timer, "a due timer could not be read");
                    timers.queue.failed(timer, timers.resources.clock.monotonic());
                }
            }
        }
    }

    fn push(&self, room: ShortRoomId, timer: TimerId) {
        let mut rooms = self.due_rooms.lock();
        if let Some(waiting) = rooms.get_mut(&room) {
            waiting.push_back(timer);
            return;
        }
        rooms.insert(room, VecDeque::from([timer]));
        drop(rooms);
        let worker = work(
            Arc::clone(&self.timers),
            Arc::clone(&self.fires),
            Arc::clone(&self.due_rooms),
            self.permits.clone(),
            room,
        );
        self.supervisor.spawn_once("timers of a room", worker);
    }
}

impl DueRooms {
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
    timers: Arc<Timers>,
    fires: Arc<dyn Fires>,
    due_rooms: Arc<DueRooms>,
    permits: Permits,
    room: ShortRoomId,
) {
    loop {
        // One permit per portion: rooms with much to do take turns with the others.
        let permits = match timers.graph.uses_policy_server(&timers.latest(), room) {
            Ok(false) => &permits.others,
            // If it cannot be told, the room holds up no others either.
            Ok(true) | Err(_) => &permits.with_policy_server,
        };
        let Ok(_permit) = permits.acquire().await else { return };
        let due = due_rooms.take(room);
        if due.is_empty() {
            return;
        }
        let clock = &timers.resources.clock;
        let cause = Cause::Due(clock.monotonic());
        let firings: Vec<_> = due.into_iter().map(|timer| Firing { timer, cause }).collect();
        let Err(error) = fire(&timers, &firings, &*fires).await else { continue };
        if error.is_internal() {
            tracing::error!(%error, %room, timers = firings.len(), "timers could not fire and will be tried again");
        } else {
            tracing::info!(%error, %room, timers = firings.len(), "timers wait for the room's policy server");
        }
        for firing in &firings {
            // One that cannot be fired must not keep the others from it.
            if firings.len() > 1 && fire(&timers, slice::from_ref(firing), &*fires).await.is_ok() {
                continue;
            }
            timers.queue.failed(firing.timer, clock.monotonic());
        }
    }
}

/// Fires timers of one room. A panic is an error like others: it must not leave the room without a worker,
/// and its timers waiting for one.
async fn fire(timers: &Timers, firings: &[Firing], fires: &dyn Fires) -> Result<()> {
    let fired = AssertUnwindSafe(timers.fire(firings, fires)).catch_unwind().await;
    fired.unwrap_or_else(|_| Err(Error::corrupt("a firing panicked")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_overdue_fires_as_often_as_it_may() {
        let millis = Duration::from_millis;
        for (per_second, pace) in [
            (1, (1, millis(1_000))),
            (10, (1, millis(100))),
            (20, (1, millis(50))),
            (30, (1, Duration::from_micros(33_333))),
            (500, (25, millis(50))),
        ] {
            assert_eq!(overdue_pace(per_second), pace, "{per_second}");
        }
    }
}
