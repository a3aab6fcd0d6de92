//! How many events of each room wait, by the servers that sent them.
//!
//! Invariant: it is what the rows say, as it changes with the batch that changes them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ruma::{OwnedRoomId, OwnedServerName, RoomId, ServerName};
use wick_core::Result;
use wick_database::{Batch, Range, Read, schema::inbound::QUEUED_BY_ROOM};

type ByRoom = HashMap<OwnedRoomId, HashMap<OwnedServerName, usize>>;

/// The counts of all rooms that have events waiting.
#[derive(Clone, Default)]
pub(crate) struct Counts(Arc<Mutex<ByRoom>>);

impl Counts {
    /// Counts what an earlier run left.
    pub(crate) fn fill(&self, read: &impl Read) -> Result<()> {
        let mut by_room = ByRoom::new();
        for row in read.scan(&QUEUED_BY_ROOM, Range::all()) {
            let ((room, _), queued) = row?;
            *by_room.entry(room).or_default().entry(queued.origin).or_default() += 1;
        }
        *self.by_room() = by_room;
        Ok(())
    }

    /// The rooms that have events waiting.
    pub(crate) fn rooms(&self) -> Vec<OwnedRoomId> {
        self.by_room().keys().cloned().collect()
    }

    /// How many events of a room wait that a server sent.
    pub(crate) fn of_server(&self, room: &RoomId, server: &ServerName) -> usize {
        let by_room = self.by_room();
        by_room.get(room).and_then(|servers| servers.get(server)).copied().unwrap_or_default()
    }

    /// How many events of a room wait that servers sent which are not in it.
    pub(crate) fn of_outsiders(
        &self,
        room: &RoomId,
        is_in_room: impl Fn(&ServerName) -> Result<bool>,
    ) -> Result<usize> {
        let servers = self.by_room().get(room).cloned().unwrap_or_default();
        let mut outsiders = 0_usize;
        for (server, count) in servers {
            if !is_in_room(&server)? {
                outsiders = outsiders.saturating_add(count);
            }
        }
        Ok(outsiders)
    }

    /// One more waits once the batch is written.
    pub(super) fn more(&self, batch: &mut Batch, room: &RoomId, server: &ServerName) {
        let (counts, room, server) = (self.clone(), room.to_owned(), server.to_owned());
        batch.on_applied(move || {
            *counts.by_room().entry(room).or_default().entry(server).or_default() += 1;
        });
    }

    /// One less waits once the batch is written.
    pub(super) fn less(&self, batch: &mut Batch, room: &RoomId, server: &ServerName) {
        let (counts, room, server) = (self.clone(), room.to_owned(), server.to_owned());
        batch.on_applied(move || {
            let mut by_room = counts.by_room();
            let Some(servers) = by_room.get_mut(&room) else { return };
            if let Some(count) = servers.get_mut(&server) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    servers.remove(&server);
                }
            }
            if servers.is_empty() {
                by_room.remove(&room);
            }
        });
    }

    fn by_room(&self) -> MutexGuard<'_, ByRoom> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
