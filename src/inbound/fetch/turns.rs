//! How many searches ask other servers at the same time: so many in all, and fewer for what one server sent.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use ruma::{OwnedServerName, ServerName};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many searches ask other servers at the same time.
const AT_ONCE: usize = 64;

/// How many of them are for what one server sent.
const AT_ONCE_OF_SERVER: usize = 8;

/// Turns of searches.
pub(crate) struct Turns {
    all: Arc<Semaphore>,
    by_server: Mutex<HashMap<OwnedServerName, Arc<Semaphore>>>,
}

/// Until it is dropped, a search can ask other servers.
pub(crate) struct Turn {
    _of_server: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

impl Default for Turns {
    fn default() -> Self {
        Self { all: Arc::new(Semaphore::new(AT_ONCE)), by_server: Mutex::default() }
    }
}

impl Turns {
    /// Waits for the turn of a search for what `origin` sent. `None` only if there will be none.
    pub(crate) async fn take(&self, origin: &ServerName) -> Option<Turn> {
        let of_server = self.of_server(origin).acquire_owned().await.ok()?;
        let of_all = Arc::clone(&self.all).acquire_owned().await.ok()?;
        Some(Turn { _of_server: of_server, _of_all: of_all })
    }

    fn of_server(&self, origin: &ServerName) -> Arc<Semaphore> {
        let mut by_server = self.by_server.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that nobody holds or waits for are as new.
        by_server.retain(|_, semaphore| Arc::strong_count(semaphore) > 1);
        let semaphore = by_server.entry(origin.to_owned());
        Arc::clone(semaphore.or_insert_with(|| Arc::new(Semaphore::new(AT_ONCE_OF_SERVER))))
    }
}
