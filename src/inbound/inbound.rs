//! Transactions of other servers: written down, acknowledged, and worked off room by room.
//!
//! Invariants: a transaction is answered after its events are durable; a room is worked on by one task at a time, and
//! no more than [`ROOMS_AT_ONCE`] rooms receive events; those that wait for other servers are not among them.

mod process;
mod transaction;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ruma::{OwnedRoomId, RoomVersionId};
use tokio::sync::{Notify, Semaphore};
use wick_core::{Monotonic, Result, Timestamp};
use wick_outbound::InFlight;
use wick_room::Graph;
use wick_runtime::{KeyLocks, Resources, Supervisor};

pub use self::transaction::EventResults;
use crate::{Peer, fetch::SEARCHES_AT_ONCE, queue::Counts};

/// How many rooms receive events at the same time.
const ROOMS_AT_ONCE: usize = 8;

/// How often events that wait are looked for.
const RETRY_EVERY: Duration = Duration::from_secs(30);

/// Takes in the events of other servers.
pub struct Inbound<P> {
    pub(crate) resources: Resources,
    pub(crate) graph: Arc<Graph>,
    pub(crate) supervisor: Arc<Supervisor>,
    pub(crate) peer: P,
    work: Mutex<Work>,
    counts: Counts,
    permits: Semaphore,
    /// The searches for what events need that ask other servers, by the server that sent the event.
    pub(crate) searches: InFlight,
    idle: Notify,
    /// Taken while history of a room is fetched.
    pub(crate) histories: KeyLocks<OwnedRoomId>,
}

/// What is being done.
#[derive(Default)]
struct Work {
    /// The rooms that a task works on, and whether something came for it since it last looked.
    rooms: HashMap<OwnedRoomId, bool>,
    /// When a room has an event that is to be tried again.
    retries: BTreeMap<OwnedRoomId, Timestamp>,
    /// The rooms that are being joined, with their versions and by how many users.
    joining: HashMap<OwnedRoomId, (RoomVersionId, usize)>,
}

impl<P: Peer> Inbound<P> {
    /// Takes events in, asking `peer` for what they need. Call [`Inbound::start`] before the first one.
    #[must_use]
    pub fn new(
        resources: Resources,
        graph: Arc<Graph>,
        supervisor: Arc<Supervisor>,
        peer: P,
    ) -> Arc<Self> {
        let (most, most_by_server) = SEARCHES_AT_ONCE;
        Arc::new(Self {
            resources,
            graph,
            supervisor,
            peer,
            work: Mutex::default(),
            counts: Counts::default(),
            permits: Semaphore::new(ROOMS_AT_ONCE),
            searches: InFlight::new(most, most_by_server),
            idle: Notify::new(),
            histories: KeyLocks::default(),
        })
    }

    /// Continues what an earlier run did not finish, and retries what waits.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn start(self: &Arc<Self>) -> Result<()> {
        self.counts.fill(&self.resources.database.latest())?;
        for room in self.counts.rooms() {
            self.schedule(&room);
        }
        let inbound = Arc::clone(self);
        self.supervisor.spawn_periodic("inbound-retries", RETRY_EVERY, move || {
            inbound.retry();
            std::future::ready(Ok(()))
        });
        Ok(())
    }

    /// Works on the rooms again that have an event which is due by now.
    pub fn retry(self: &Arc<Self>) {
        let now = self.resources.clock.now();
        let due: Vec<_> = {
            let work = self.work();
            let due = work.retries.iter().filter(|(_, at)| **at <= now);
            due.map(|(room, _)| room.clone()).collect()
        };
        for room in due {
            self.schedule(&room);
        }
    }

    /// Waits until no room is being worked on.
    pub async fn idle(&self) {
        loop {
            let idle = self.idle.notified();
            if self.work().rooms.is_empty() {
                return;
            }
            idle.await;
        }
    }

    /// Waits until none of these rooms is being worked on, no longer than until `deadline`.
    pub async fn worked_off(&self, rooms: &[OwnedRoomId], deadline: Monotonic) {
        let worked_off = async {
            loop {
                let idle = self.idle.notified();
                if !rooms.iter().any(|room| self.work().rooms.contains_key(room)) {
                    return;
                }
                idle.await;
            }
        };
        tokio::select! {
            () = worked_off => {}
            () = self.resources.clock.sleep_until(deadline) => {}
        }
    }

    /// Has a room's queue worked off.
    pub(crate) fn schedule(self: &Arc<Self>, room: &OwnedRoomId) {
        {
            let mut work = self.work();
            work.retries.remove(room);
            if let Some(again) = work.rooms.get_mut(room) {
                *again = true;
                return;
            }
            work.rooms.insert(room.clone(), false);
        }
        let (inbound, room) = (Arc::clone(self), room.clone());
        self.supervisor.spawn_once("inbound-room", async move {
            let mut end = End { inbound: &inbound, room: &room, regular: false };
            inbound.work_on(&room).await;
            end.regular = true;
        });
    }

    async fn work_on(self: &Arc<Self>, room: &OwnedRoomId) {
        loop {
            if let Err(error) = self.process(room).await {
                tracing::error!(%room, %error, "the queue of a room cannot be worked off");
                let later = self.resources.clock.now().after(RETRY_EVERY);
                self.work().retries.insert(room.clone(), later);
            }
            let mut work = self.work();
            match work.rooms.get_mut(room) {
                Some(again) if *again => *again = false,
                _ => {
                    work.rooms.remove(room);
                    return;
                }
            }
        }
    }

    /// Notes when a room's next event is to be tried again.
    fn retry_at(&self, room: &OwnedRoomId, at: Timestamp) {
        let mut work = self.work();
        let known = work.retries.entry(room.clone()).or_insert(at);
        *known = at.min(*known);
    }

    /// The version of a room that is being joined.
    pub(crate) fn joining_version(&self, room: &OwnedRoomId) -> Option<RoomVersionId> {
        self.work().joining.get(room).map(|(version, _)| version.clone())
    }

    /// Notes that a user joins a room: its events are kept until the room is here.
    pub(crate) fn begin_join(&self, room: &OwnedRoomId, version: &RoomVersionId) {
        let mut work = self.work();
        let joining = work.joining.entry(room.clone());
        joining.or_insert_with(|| (version.clone(), 0)).1 += 1;
    }

    /// Notes that a join has come to its end.
    pub(crate) fn end_join(self: &Arc<Self>, room: &OwnedRoomId) {
        {
            let mut work = self.work();
            if let Some((_, users)) = work.joining.get_mut(room) {
                *users -= 1;
                if *users == 0 {
                    work.joining.remove(room);
                }
            }
        }
        self.schedule(room);
    }

    fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The end of the work on a room. If the task was dropped or panicked, another one can begin.
struct End<'a, P> {
    inbound: &'a Inbound<P>,
    room: &'a OwnedRoomId,
    regular: bool,
}

impl<P> Drop for End<'_, P> {
    fn drop(&mut self) {
        if !self.regular {
            let mut work = self.inbound.work.lock().unwrap_or_else(PoisonError::into_inner);
            work.rooms.remove(self.room);
        }
        self.inbound.idle.notify_waiters();
    }
}
