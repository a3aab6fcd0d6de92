//! The ends of delegated timers: of participants that have left, and of timers that newer ones replaced.
//!
//! Invariants: no look at a call waits for an end, and what could not be ended is found by the next look; the timers of
//! a Matrix room end one after another; rooms whose policy server is asked first hold up none without one.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use wick_core::{Monotonic, ShortRoomId};
use wick_runtime::Supervisor;

use crate::{Calls, agenda::Agenda, participants::Place};

/// The tasks, in logs and metrics.
const ENDING: &str = "ends of delegated timers";
const ENDING_SIGNED: &str = "signed ends of delegated timers";

/// In how many Matrix rooms timers end at a time, with a policy server and without one.
const MOST_ROOMS: usize = 8;

/// The participants whose timers are to end.
#[derive(Default)]
pub(crate) struct Ending {
    rooms: Mutex<HashMap<ShortRoomId, BTreeSet<Place>>>,
    with_policy_server: Agenda<ShortRoomId>,
    others: Agenda<ShortRoomId>,
}

impl Ending {
    /// Has timers of a participant ended.
    pub(crate) fn add(&self, room: ShortRoomId, place: Place, now: Monotonic) {
        self.rooms().entry(room).or_default().insert(place);
        self.agenda(false).add(room, now);
    }

    /// Takes the next participant of a room; whether there are others.
    fn take(&self, room: ShortRoomId) -> Option<(Place, bool)> {
        let mut rooms = self.rooms();
        let places = rooms.get_mut(&room)?;
        let place = places.pop_first();
        let has_others = !places.is_empty();
        if !has_others {
            rooms.remove(&room);
        }
        Some((place?, has_others))
    }

    fn agenda(&self, has_policy_server: bool) -> &Agenda<ShortRoomId> {
        if has_policy_server { &self.with_policy_server } else { &self.others }
    }

    fn rooms(&self) -> MutexGuard<'_, HashMap<ShortRoomId, BTreeSet<Place>>> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Calls {
    /// Ends timers until the server stops.
    pub(crate) fn end_regularly(self: &Arc<Self>, supervisor: &Supervisor) {
        self.spawn(supervisor, ENDING, |calls| async move { calls.work_off(ENDING, false).await });
        self.spawn(supervisor, ENDING_SIGNED, |calls| async move {
            calls.work_off(ENDING_SIGNED, true).await;
        });
    }

    async fn work_off(&self, task: &'static str, has_policy_server: bool) {
        let clock = &*self.resources.clock;
        let end = |room| self.end_next(room, has_policy_server);
        self.ending.agenda(has_policy_server).work_off(clock, (task, MOST_ROOMS), end).await;
    }

    /// Ends the timers of a room's next participant, so that rooms with many take turns with the others. Returns when the
    /// room's turn is again, if at all.
    async fn end_next(&self, room: ShortRoomId, has_policy_server: bool) -> Option<Monotonic> {
        // If it cannot be told, the room holds up none without one either.
        let latest = || self.resources.database.latest();
        let has_one = self.graph.uses_policy_server(&latest(), room).unwrap_or(true);
        if has_one != has_policy_server {
            self.ending.agenda(has_one).add(room, self.now().monotonic);
            return None;
        }
        let (place, has_others) = self.ending.take(room)?;
        self.end_at(&place).await;
        has_others.then(|| self.now().monotonic)
    }

    /// Ends the timers of a participant that are to end now.
    async fn end_at(&self, place: &Place) {
        let Some((replaced, left)) = self.watch.to_end(place) else { return };
        for timer in replaced {
            if let Err(error) = self.retire(place, timer).await {
                tracing::error!(%error, "a replaced timer could not be ended and will be tried again");
            }
        }
        for timer in left {
            if let Err(error) = self.end(place, timer).await {
                tracing::error!(%error, "a delegated timer could not be ended and will be tried again");
            }
        }
    }
}
