//! Whether the server can do its work, as far as that depends on the database.
//!
//! Invariant: however often it is asked, there is at most one probe at a time and one in [`FRESH`].

use std::time::Duration;

use tokio::sync::Mutex;
use wick_core::Monotonic;

use crate::Resources;

/// How long an answer holds.
const FRESH: Duration = Duration::from_secs(1);

/// How long a write may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Finds out whether writes work, by writing.
pub struct Health {
    resources: Resources,
    last: Mutex<Option<(Monotonic, bool)>>,
}

impl Health {
    /// Nothing was tried yet.
    #[must_use]
    pub fn new(resources: Resources) -> Self {
        Self { resources, last: Mutex::new(None) }
    }

    /// Whether a write works: made durable within 5 s, tried at most a second ago.
    pub async fn is_writable(&self) -> bool {
        let clock = &self.resources.clock;
        let mut last = self.last.lock().await;
        if let Some((at, writable)) = *last
            && clock.monotonic() < at + FRESH
        {
            return writable;
        }
        let failure = tokio::select! {
            biased;
            written = self.resources.database.ensure_writable() => {
                written.err().map(|error| error.to_string())
            }
            () = clock.sleep_until(clock.monotonic() + PATIENCE) => {
                Some("a write takes too long".to_owned())
            }
        };
        if let Some(error) = &failure {
            tracing::error!(error, "the database cannot be written");
        }
        *last = Some((clock.monotonic(), failure.is_none()));
        failure.is_none()
    }
}
