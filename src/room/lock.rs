//! One lock per room, so that the changes made here build on one another instead of running again because
//! of conflicts. It makes nothing correct: a change requires the head that it was built on.
//!
//! Invariant: private to this crate (R6). Nothing slow happens while a lock is held.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use ruma::{OwnedRoomId, RoomId};
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

/// How many unused entries may accumulate before they are removed.
const SWEEP_AT: usize = 1024;

/// The locks of all rooms. A room without waiting requests costs nothing.
#[derive(Default)]
pub(crate) struct RoomLocks {
    rooms: Mutex<HashMap<OwnedRoomId, Weak<AsyncMutex<()>>>>,
}

/// The lock of one room, held until this is dropped.
pub(crate) struct RoomLock {
    _guard: OwnedMutexGuard<()>,
}

impl RoomLocks {
    /// Waits for the room's lock, in the order of the calls.
    pub(crate) async fn take(&self, room_id: &RoomId) -> RoomLock {
        let lock = self.lock_of(room_id);
        RoomLock { _guard: lock.lock_owned().await }
    }

    fn lock_of(&self, room_id: &RoomId) -> Arc<AsyncMutex<()>> {
        let mut rooms = self.rooms.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lock) = rooms.get(room_id).and_then(Weak::upgrade) {
            return lock;
        }
        if rooms.len() >= SWEEP_AT && rooms.len().is_power_of_two() {
            rooms.retain(|_, lock| lock.strong_count() > 0);
        }
        let lock = Arc::new(AsyncMutex::new(()));
        rooms.insert(room_id.to_owned(), Arc::downgrade(&lock));
        lock
    }
}

#[cfg(test)]
mod tests {
    use ruma::room_id;

    use super::*;

    #[tokio::test]
    async fn the_second_waits_for_the_first_and_other_rooms_do_not() {
        let locks = Arc::new(RoomLocks::default());
        let first = locks.take(room_id!("!a:x")).await;
        let _other = locks.take(room_id!("!b:x")).await;
        let lock = locks.lock_of(room_id!("!a:x"));
        assert!(lock.try_lock().is_err());
        drop(first);
        assert!(lock.try_lock().is_ok());
    }
}
