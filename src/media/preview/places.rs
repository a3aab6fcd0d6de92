//! How many pages are fetched at the same time: in all, for one user, and of one URL.
//!
//! Invariant: what is remembered of users and URLs is no more than what is being fetched or waited for.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use wick_core::{Error, Result, ShortUserId};
use wick_database::schema::previews::UrlHash;

/// How many in all.
const ALL: usize = 8;

/// How many for one user. What is beyond is refused.
const OF_USER: usize = 4;

/// When to come back if there are too many for one user.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The places.
pub(super) struct Places {
    all: Semaphore,
    users: Keyed<ShortUserId>,
    pages: Keyed<UrlHash>,
}

impl Default for Places {
    fn default() -> Self {
        Self { all: Semaphore::new(ALL), users: Keyed::new(OF_USER), pages: Keyed::new(1) }
    }
}

impl Places {
    /// A place among those of a user.
    ///
    /// # Errors
    /// `M_LIMIT_EXCEEDED`.
    pub(super) fn of_user(&self, user: ShortUserId) -> Result<OwnedSemaphorePermit> {
        let places = self.users.of(user);
        places.try_acquire_owned().map_err(|_| Error::limit_exceeded(RETRY_AFTER))
    }

    /// Waits until nothing else fetches this page.
    pub(super) async fn of_page(&self, url: UrlHash) -> Result<OwnedSemaphorePermit> {
        self.pages.of(url).acquire_owned().await.map_err(closed)
    }

    /// Waits for one of all places.
    pub(super) async fn any(&self) -> Result<SemaphorePermit<'_>> {
        self.all.acquire().await.map_err(closed)
    }
}

fn closed(error: AcquireError) -> Error {
    Error::internal("the places of previews", error)
}

/// A semaphore for each key that is in use.
struct Keyed<K> {
    places: usize,
    used: Mutex<HashMap<K, Arc<Semaphore>>>,
}

impl<K: Eq + Hash> Keyed<K> {
    fn new(places: usize) -> Self {
        Self { places, used: Mutex::default() }
    }

    fn of(&self, key: K) -> Arc<Semaphore> {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.retain(|_, places| Arc::strong_count(places) > 1);
        Arc::clone(used.entry(key).or_insert_with(|| Arc::new(Semaphore::new(self.places))))
    }
}
