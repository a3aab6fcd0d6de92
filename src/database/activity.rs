//! When something was last written in a room, in memory: so that a reader who asks for news of many rooms
//! need not look into the quiet ones.
//!
//! Invariants: never says that a room is quiet when it is not; before the start nothing is known, and so
//! every room counts as busy.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use wick_core::{Position, ShortRoomId};

use crate::Topic;

const SHARDS: u64 = 16;

/// The last position in each room since the start.
pub(crate) struct Activity {
    start: Position,
    shards: Vec<Mutex<HashMap<ShortRoomId, Position>>>,
}

impl Activity {
    /// Nothing is known of what came up to `start`.
    pub(crate) fn new(start: Position) -> Self {
        Self { start, shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }

    /// Takes note of a batch, before anybody can read it.
    pub(crate) fn note(&self, topics: &[Topic], position: Position) {
        for topic in topics {
            if let Topic::Room(room) = topic
                && let Some(mut rooms) = self.shard(*room)
            {
                rooms.insert(*room, position);
            }
        }
    }

    /// Whether something may have been written in a room above `since`.
    pub(crate) fn is_busy_since(&self, room: ShortRoomId, since: Position) -> bool {
        since < self.start
            || self
                .shard(room)
                .is_none_or(|rooms| rooms.get(&room).is_some_and(|last| *last > since))
    }

    fn shard(&self, room: ShortRoomId) -> Option<MutexGuard<'_, HashMap<ShortRoomId, Position>>> {
        let shard = self.shards.get(usize::try_from(room.0 % SHARDS).ok()?)?;
        Some(shard.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
