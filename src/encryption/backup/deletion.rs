//! Deletes the sessions of deleted backups in portions, so that deleting a large backup is one small write
//! for its user.
//!
//! Invariant: a store keeps its row until its last session is gone, so a crash only delays this.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use wick_core::Result;
use wick_database::{
    Durability, Range, Read, Topic,
    schema::backups::{BACKED_UP_SESSION_BY_ID, DELETED_BACKUP_BY_STORE},
};

use super::Backups;

/// What wakes the deletion.
pub(super) const DELETIONS: &str = "deleted backups";

/// How long a failed deletion waits.
const RETRY_AFTER: Duration = Duration::from_secs(60);

/// Sessions that one batch deletes.
const PORTION: usize = 1_000;

impl Backups {
    pub(super) async fn delete_in_background(&self, stopping: &CancellationToken) {
        let mut watch = self.resources.database.watch().topic(Topic::Named(DELETIONS));
        while !stopping.is_cancelled() {
            match self.delete_portion().await {
                Ok(true) => {}
                Ok(false) => {
                    // `None`: the server stops.
                    let _woken = stopping.run_until_cancelled(watch.changed()).await;
                }
                Err(error) => {
                    tracing::error!(%error, "cannot delete the sessions of a deleted backup");
                    let clock = &self.resources.clock;
                    let wait = clock.sleep_until(clock.monotonic() + RETRY_AFTER);
                    let _waited = stopping.run_until_cancelled(wait).await;
                }
            }
        }
    }

    /// Deletes a portion; returns whether there was anything to delete.
    async fn delete_portion(&self) -> Result<bool> {
        let mut batch = self.resources.database.batch();
        let Some(((user, store), ())) = batch.first(&DELETED_BACKUP_BY_STORE, Range::all())? else {
            return Ok(false);
        };
        let range = Range::prefix((user, store));
        let keys = batch.scan(&BACKED_UP_SESSION_BY_ID, range).keys().take(PORTION);
        let keys = keys.collect::<Result<Vec<_>, _>>()?;
        for key in &keys {
            batch.delete(&BACKED_UP_SESSION_BY_ID, key);
        }
        if keys.len() < PORTION {
            batch.wake(Topic::Named(DELETIONS));
            batch.delete(&DELETED_BACKUP_BY_STORE, &(user, store));
        }
        self.resources.database.commit(batch, Durability::Flushed).await?;
        Ok(true)
    }
}
