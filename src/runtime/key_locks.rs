//! A lock for each key, for work that only one task at a time should do: the next one finds it done.
//!
//! Invariants: it saves work and makes nothing correct; a key that nothing waits for takes no memory once another lock is
//! taken.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

/// The locks of all keys.
pub struct KeyLocks<K>(Mutex<HashMap<K, Arc<AsyncMutex<()>>>>);

impl<K> Default for KeyLocks<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash> KeyLocks<K> {
    /// Waits for a key's lock, which is held until the result is dropped.
    pub async fn take(&self, key: K) -> OwnedMutexGuard<()> {
        self.lock_of(key).lock_owned().await
    }

    fn lock_of(&self, key: K) -> Arc<AsyncMutex<()>> {
        let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        locks.retain(|_, lock| Arc::strong_count(lock) > 1);
        Arc::clone(locks.entry(key).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_second_waits_for_the_first_and_unused_locks_are_dropped() {
        let locks = KeyLocks::default();
        let first = locks.take(1).await;
        let other = locks.take(2).await;
        assert!(locks.lock_of(1).try_lock().is_err());
        drop((first, other));
        assert!(locks.lock_of(1).try_lock().is_ok());
        assert_eq!(locks.0.lock().unwrap().len(), 1);
    }
}
