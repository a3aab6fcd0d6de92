//! Bytes of uploads in progress, by user: they count against the quota although no row counts them yet.
//!
//! Invariant: what is remembered is no more than the uploads that are in progress.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use wick_core::ShortUserId;

/// The bytes that have arrived of uploads in progress, by user.
#[derive(Clone, Default)]
pub(crate) struct InProgress(Arc<Mutex<HashMap<ShortUserId, u64>>>);

/// The bytes of one upload. They count until it is dropped.
pub(crate) struct Arrived {
    uploads: InProgress,
    user: ShortUserId,
    bytes: u64,
}

impl InProgress {
    fn lock(&self) -> MutexGuard<'_, HashMap<ShortUserId, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bytes of all uploads of a user.
    pub(crate) fn of(&self, user: ShortUserId) -> u64 {
        self.lock().get(&user).copied().unwrap_or_default()
    }

    /// An upload of a user, of which nothing has arrived.
    pub(crate) fn begin(&self, user: ShortUserId) -> Arrived {
        Arrived { uploads: self.clone(), user, bytes: 0 }
    }
}

impl Arrived {
    /// Counts more bytes, unless all uploads of the user would have more than `most` then. Returns whether they count.
    pub(crate) fn add(&mut self, bytes: u64, most: u64) -> bool {
        let mut uploads = self.uploads.lock();
        let of_user = uploads.get(&self.user).copied().unwrap_or_default().saturating_add(bytes);
        if of_user > most {
            return false;
        }
        uploads.insert(self.user, of_user);
        self.bytes = self.bytes.saturating_add(bytes);
        true
    }
}

impl Drop for Arrived {
    fn drop(&mut self) {
        let mut uploads = self.uploads.lock();
        let left = uploads.get(&self.user).and_then(|bytes| bytes.checked_sub(self.bytes));
        match left.filter(|left| *left > 0) {
            Some(left) => uploads.insert(self.user, left),
            None => uploads.remove(&self.user),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_uploads_of_a_user_count_together_and_leave_nothing_behind() {
        let uploads = InProgress::default();
        let (alice, bob) = (ShortUserId(1), ShortUserId(2));
        let (mut one, mut other) = (uploads.begin(alice), uploads.begin(alice));
        let mut of_bob = uploads.begin(bob);
        assert!(one.add(6, 10) && !other.add(5, 10) && other.add(4, 10) && of_bob.add(10, 10));
        assert_eq!((uploads.of(alice), uploads.of(bob)), (10, 10));
        drop(one);
        assert!(other.add(6, 10) && !other.add(1, 10));
        drop((other, of_bob));
        assert!(uploads.lock().is_empty());
    }
}
