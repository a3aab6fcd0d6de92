//! Jobs that account tables and memory need: what has expired is removed, what is idle is freed.
//!
//! Invariant: a job removes only what no request can use any more, so it does not matter how many servers
//! run it, nor when.

use std::{future, sync::Arc, time::Duration};

use wick_core::{Result, Timestamp};
use wick_database::{
    Key, Range, Read, Table, Value,
    schema::{
        confirmations::{EXPIRY_BY_REGISTRATION_NONCE, UIA_SESSION_BY_HASH},
        users::OPENID_TOKEN_BY_HASH,
    },
};
use wick_runtime::{Resources, Supervisor};

use crate::{Users, removal};

const EVERY: Duration = Duration::from_secs(5 * 60);
const MEMORY_EVERY: Duration = Duration::from_secs(60);

/// The jobs of accounts.
pub struct Upkeep {
    resources: Resources,
    users: Arc<Users>,
}

impl Upkeep {
    /// Jobs that do not run yet.
    #[must_use]
    pub fn new(resources: Resources, users: Arc<Users>) -> Self {
        Self { resources, users }
    }

    /// Starts the jobs.
    pub fn start(&self, supervisor: &Supervisor) {
        let resources = self.resources.clone();
        supervisor.spawn_periodic("expired-confirmations", EVERY, move || {
            let resources = resources.clone();
            async move { remove_expired(&resources).await }
        });
        let users = Arc::clone(&self.users);
        supervisor.spawn_periodic("password-memory", MEMORY_EVERY, move || {
            users.release_memory();
            future::ready(Ok(()))
        });
    }
}

/// Removes sessions of user-interactive authentication, registration nonces and OpenID tokens that have
/// expired.
async fn remove_expired(resources: &Resources) -> Result<()> {
    remove(resources, &UIA_SESSION_BY_HASH, |row| row.expires).await?;
    remove(resources, &EXPIRY_BY_REGISTRATION_NONCE, |expires| *expires).await?;
    remove(resources, &OPENID_TOKEN_BY_HASH, |row| row.expires).await
}

async fn remove<K: Key + Sync, V: Value>(
    resources: &Resources,
    table: &Table<K, V>,
    expires: impl Fn(&V) -> Timestamp,
) -> Result<()> {
    let now = resources.clock.now();
    let mut expired = Vec::new();
    for row in resources.database.published().scan(table, Range::all()) {
        let (key, row) = row?;
        if expires(&row) <= now {
            expired.push(key);
        }
    }
    removal::delete(resources, table, expired).await
}
