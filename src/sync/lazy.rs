//! Which members a lazy client was told of already.
//!
//! Invariant: a member event counts as told once the client came back with a token from after it was
//! told; an answer that was lost on the way tells nothing.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use quick_cache::sync::Cache;
use ruma::OwnedDeviceId;
use wick_account::Session;
use wick_core::{Position, ShortEventId, ShortRoomId, ShortUserId};

/// Devices that are remembered.
const DEVICES: usize = 10_000;

/// Members that are remembered of one device; one that knows more is told some anew.
const MEMBERS: usize = 10_000;

type Told = Arc<Mutex<HashMap<(ShortRoomId, ShortEventId), Position>>>;

/// What lazy clients were told, in memory alone.
pub(super) struct Lazy {
    devices: Cache<(ShortUserId, OwnedDeviceId), Told>,
}

impl Default for Lazy {
    fn default() -> Self {
        Self { devices: Cache::new(DEVICES) }
    }
}

impl Lazy {
    /// Forgets what a device was told: it begins from nothing.
    pub(super) fn forget(&self, session: &Session) {
        self.devices.remove(&(session.user, session.device_id.clone()));
    }

    /// Whether a device that came back with `since` was told of a member event.
    pub(super) fn knows(
        &self,
        session: &Session,
        member: (ShortRoomId, ShortEventId),
        since: Option<Position>,
    ) -> bool {
        let Some(since) = since else { return false };
        let Some(told) = self.devices.get(&(session.user, session.device_id.clone())) else {
            return false;
        };
        let told = told.lock().unwrap_or_else(PoisonError::into_inner);
        told.get(&member).is_some_and(|position| *position <= since)
    }

    /// Notes that a device is told of member events by an answer that ends at `upto`.
    pub(super) fn tell(
        &self,
        session: &Session,
        room: ShortRoomId,
        members: impl Iterator<Item = ShortEventId>,
        upto: Position,
    ) {
        let key = (session.user, session.device_id.clone());
        let told = self.devices.get(&key).unwrap_or_else(|| {
            let told = Told::default();
            self.devices.insert(key, Arc::clone(&told));
            told
        });
        let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() > MEMBERS {
            told.clear();
        }
        for member in members {
            told.entry((room, member)).or_insert(upto);
        }
    }
}
