//! The sweep: files without a row and reservations that have expired are removed.
//!
//! Invariant: a file younger than any upload can be is left alone, so it does not matter how many servers sweep, nor when.

use std::{sync::Arc, time::Duration};

use wick_core::{Result, Timestamp};
use wick_database::{
    Durability, Range, Read,
    schema::media::{HASH_BY_FILE_NAME, PENDING_MEDIA_BY_ID},
};

use crate::{
    InUse, MediaRepository, pending, receive,
    store::{self, SHARDS},
};

/// How often.
const EVERY: Duration = Duration::from_secs(3600);

/// From which age on a file without a row is an orphan: files arrive in less.
const ORPHAN_AGE: Duration = Duration::from_secs(4 * receive::MAX_DURATION.as_secs());

/// How many reservations one batch removes.
const PORTION: usize = 1000;

impl MediaRepository {
    /// Starts the sweep and the retention, which spares what is `in_use`.
    pub fn start(self: &Arc<Self>, in_use: Arc<dyn InUse>) {
        let first = Arc::clone(self);
        self.supervisor.spawn_once("media-sweep", async move {
            if let Err(error) = first.sweep().await {
                tracing::error!(%error, "the media store cannot be swept");
            }
        });
        let repository = Arc::clone(self);
        self.supervisor.spawn_periodic("media-upkeep", EVERY, move || {
            let (repository, in_use) = (Arc::clone(&repository), Arc::clone(&in_use));
            async move {
                repository.sweep().await?;
                repository.remove_expired_previews().await?;
                repository.retain(&in_use).await
            }
        });
    }

    /// Removes orphans and expired reservations. Returns how many files were removed.
    pub(crate) async fn sweep(&self) -> Result<usize> {
        self.remove_expired().await?;
        let mut removed = 0_usize;
        for shard in 0..SHARDS {
            if self.supervisor.stopping().is_cancelled() {
                break;
            }
            let shard = u8::try_from(shard).unwrap_or(u8::MAX);
            let names = self.store.list(shard).await.map_err(store::failed("list files"))?;
            for name in names {
                if self.is_orphan(&name)? {
                    self.store.delete(&name).await.map_err(store::failed("delete an orphan"))?;
                    removed = removed.saturating_add(1);
                }
            }
        }
        if removed > 0 {
            tracing::info!(removed, "removed files of uploads that were never completed");
        }
        Ok(removed)
    }

    fn is_orphan(&self, name: &str) -> Result<bool> {
        let Some(created) = store::created(name) else { return Ok(false) };
        let is_old = created.after(ORPHAN_AGE) <= self.now();
        Ok(is_old && !self.resources.database.latest().contains(&HASH_BY_FILE_NAME, name)?)
    }

    async fn remove_expired(&self) -> Result<()> {
        let now = self.now();
        let mut expired = Vec::new();
        for row in self.resources.database.published().scan(&PENDING_MEDIA_BY_ID, Range::all()) {
            let (media_id, row) = row?;
            if row.expires <= now {
                expired.push((media_id, row));
            }
        }
        for portion in expired.chunks(PORTION) {
            self.resources
                .change_with(Durability::Flushed, |batch| {
                    for (media_id, row) in portion {
                        pending::forget(batch, row.owner, media_id);
                    }
                    Ok(())
                })
                .await?;
        }
        Ok(())
    }
}

/// Whether the time of an age has come; an age of zero never comes.
pub(crate) fn is_over(since: Timestamp, age: Duration, now: Timestamp) -> bool {
    !age.is_zero() && since.after(age) <= now
}
