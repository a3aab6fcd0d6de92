//! Sessions in memory, by the hash of their access token.
//!
//! Invariant: a session here agrees with the tables `token_by_hash` and `guest_by_user`. A batch that changes
//! them evicts when it is written, and a session that was read before an eviction is not inserted after it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quick_cache::sync::Cache;
use wick_database::schema::devices::TokenHash;

use super::Session;

/// How many are kept.
const CAPACITY: usize = 100_000;

#[derive(Clone)]
pub(super) struct SessionCache(Arc<Inner>);

struct Inner {
    sessions: Cache<TokenHash, Arc<Session>>,
    /// How many evictions there were. Held while a session is inserted or evicted.
    evictions: Mutex<u64>,
}

impl SessionCache {
    pub(super) fn new() -> Self {
        Self(Arc::new(Inner { sessions: Cache::new(CAPACITY), evictions: Mutex::new(0) }))
    }

    pub(super) fn get(&self, hash: &TokenHash) -> Option<Arc<Session>> {
        self.0.sessions.get(hash)
    }

    /// How many evictions there were. Asked before the database is read.
    pub(super) fn evictions(&self) -> u64 {
        *self.lock()
    }

    /// Keeps a session that was read after [`SessionCache::evictions`] was `evictions`, unless there was
    /// one since.
    pub(super) fn insert(&self, session: Arc<Session>, evictions: u64) {
        let now = self.lock();
        if *now == evictions {
            self.0.sessions.insert(session.token_hash, session);
        }
    }

    pub(super) fn evict(&self, hash: &TokenHash) {
        let mut evictions = self.lock();
        *evictions = evictions.wrapping_add(1);
        self.0.sessions.remove(hash);
    }

    fn lock(&self) -> MutexGuard<'_, u64> {
        self.0.evictions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
