//! The member events that devices which load members lazily have already.
//!
//! Invariant: a device has a member event once it came back with a token from a response that held it; a
//! response that was lost on the way does not count. Nothing depends on it but the size of responses.

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

/// Members that are remembered of one device; one that has more gets some again.
const MEMBERS: usize = 10_000;

type Known = Arc<Mutex<HashMap<(ShortRoomId, ShortEventId), Position>>>;

/// The member events that devices have, in memory alone.
pub struct Lazy {
    devices: Cache<(ShortUserId, OwnedDeviceId), Known>,
}

impl Default for Lazy {
    fn default() -> Self {
        Self { devices: Cache::new(DEVICES) }
    }
}

impl Lazy {
    /// Forgets what a device has: it begins from nothing.
    pub(crate) fn forget(&self, session: &Session) {
        self.devices.remove(&(session.user, session.device_id.clone()));
    }

    /// Whether a device that came back with `since` has a member event.
    pub(crate) fn has(
        &self,
        session: &Session,
        member: (ShortRoomId, ShortEventId),
        since: Option<Position>,
    ) -> bool {
        let Some(since) = since else { return false };
        let Some(known) = self.devices.get(&(session.user, session.device_id.clone())) else {
            return false;
        };
        let known = known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&member).is_some_and(|position| *position <= since)
    }

    /// Notes that a device gets member events with a response that ends at `upto`.
    pub(crate) fn note(
        &self,
        session: &Session,
        room: ShortRoomId,
        members: impl Iterator<Item = ShortEventId>,
        upto: Position,
    ) {
        let key = (session.user, session.device_id.clone());
        let known = self.devices.get(&key).unwrap_or_else(|| {
            let known = Known::default();
            self.devices.insert(key, Arc::clone(&known));
            known
        });
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() > MEMBERS {
            known.clear();
        }
        for member in members {
            known.entry((room, member)).or_insert(upto);
        }
    }
}
