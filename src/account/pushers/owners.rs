//! Users with pushers, in memory, so that an event costs nothing for members without one.
//!
//! Invariant: every user with a row in `PUSHER_BY_ID` is in it. Filled from that table when the server starts; added to
//! when a row is written; a user without a row is removed when that is noticed.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use wick_core::{Result, ShortUserId};
use wick_database::{Batch, Database, Range, Read, schema::account_data::PUSHER_BY_ID};

/// Users with pushers.
#[derive(Clone)]
pub(crate) struct Owners(Arc<Mutex<HashSet<ShortUserId>>>);

impl Owners {
    /// Reads the users with pushers.
    pub(super) fn read(database: &Database) -> Result<Self> {
        let mut users = HashSet::new();
        for key in database.latest().scan(&PUSHER_BY_ID, Range::all()).keys() {
            users.insert(key?.0);
        }
        Ok(Self(Arc::new(Mutex::new(users))))
    }

    /// Adds a user once `batch` is written.
    pub(super) fn add(&self, user: ShortUserId, batch: &mut Batch) {
        let owners = self.clone();
        batch.on_applied(move || {
            owners.users().insert(user);
        });
    }

    /// Whether the user may have pushers.
    pub(super) fn contains(&self, user: ShortUserId) -> bool {
        self.users().contains(&user)
    }

    pub(super) fn list(&self) -> Vec<ShortUserId> {
        self.users().iter().copied().collect()
    }

    /// Removes the user unless they have a pusher.
    pub(super) fn prune(&self, user: ShortUserId, database: &Database) -> Result<()> {
        // A pusher that is written meanwhile is either seen here or adds its user afterwards.
        let mut users = self.users();
        if database.latest().first(&PUSHER_BY_ID, Range::prefix((user,)))?.is_none() {
            users.remove(&user);
        }
        Ok(())
    }

    fn users(&self) -> MutexGuard<'_, HashSet<ShortUserId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
