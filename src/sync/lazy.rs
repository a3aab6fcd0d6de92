//! The member events that devices which load members lazily have already.
//!
//! Invariant: a device has a member event once it came back with a token from a response that held it; a
//! response that was lost on the way does not count. Nothing depends on it but the size of responses.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use quick_cache::sync::Cache;
use ruma::OwnedDeviceId;
use wick_account::Session;
use wick_core::{Position, ShortEventId, ShortRoomId, ShortUserId};

/// Devices that are remembered.
const DEVICES: usize = 10_000;

/// Members that are remembered of one device, and of one response; one that has more gets some again.
const MEMBERS: usize = 10_000;

/// Responses to one device that are remembered until it comes back with the token of one.
const RESPONSES: usize = 4;

/// A member event, in its room.
type Member = (ShortRoomId, ShortEventId);

/// What one device was sent.
#[derive(Default)]
struct Known {
    /// The last token that it came back with.
    since: Position,
    /// The members that it has, with the token that it came back with.
    had: HashMap<Member, Position>,
    /// The members in the last responses, by where these end.
    sent: BTreeMap<Position, HashSet<Member>>,
}

/// The member events that devices have, in memory alone.
pub struct Lazy {
    devices: Cache<(ShortUserId, OwnedDeviceId), Arc<Mutex<Known>>>,
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

    /// Notes that a device came back with `since`: it has the response that ends there, and nothing that was confirmed
    /// by a later token.
    pub(crate) fn confirm(&self, session: &Session, since: Position) {
        let Some(known) = self.devices.get(&(session.user, session.device_id.clone())) else {
            return;
        };
        let mut known = lock(&known);
        if since < known.since {
            known.had.retain(|_, confirmed| *confirmed <= since);
        }
        known.since = since;
        let sent = known.sent.remove(&since).unwrap_or_default();
        if known.had.len() > MEMBERS {
            known.had.clear();
        }
        for member in sent {
            known.had.entry(member).or_insert(since);
        }
    }

    /// Whether a device that came back with `since` has a member event.
    pub(crate) fn has(&self, session: &Session, member: Member, since: Option<Position>) -> bool {
        let Some(since) = since else { return false };
        let Some(known) = self.devices.get(&(session.user, session.device_id.clone())) else {
            return false;
        };
        lock(&known).had.get(&member).is_some_and(|confirmed| *confirmed <= since)
    }

    /// Notes that a device is sent member events with a response that ends at `upto`.
    pub(crate) fn note(
        &self,
        session: &Session,
        room: ShortRoomId,
        members: impl Iterator<Item = ShortEventId>,
        upto: Position,
    ) {
        let key = (session.user, session.device_id.clone());
        let known = self.devices.get(&key).unwrap_or_else(|| {
            let known = Arc::<Mutex<Known>>::default();
            self.devices.insert(key, Arc::clone(&known));
            known
        });
        let mut known = lock(&known);
        let sent = known.sent.entry(upto).or_default();
        let free = MEMBERS.saturating_sub(sent.len());
        sent.extend(members.take(free).map(|member| (room, member)));
        if known.sent.len() > RESPONSES {
            known.sent.pop_first();
        }
    }
}

fn lock(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}
