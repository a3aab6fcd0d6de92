//! Retention: media goes when it is old, or when it has not been downloaded for long, as configured. Off by default.
//!
//! Invariant: what is in use stays, however old it is.

use std::sync::Arc;

use tokio::task::spawn_blocking;
use wick_core::{Error, Result, Timestamp};
use wick_database::{
    Range, Read,
    schema::media::{ACCESS_BY_MEDIA, MEDIA_BY_ID, Media},
};

use crate::{InUse, MediaRepository, deletion::PORTION, sweep::is_over};

/// How many media are judged together: what is in use is gathered once for them.
const JUDGED: usize = 10_000;

impl MediaRepository {
    /// Deletes what the configured retention no longer allows.
    pub(crate) async fn retain(&self, in_use: &Arc<dyn InUse>) -> Result<()> {
        let config = &self.resources.config.media;
        if config.retention_age.0.is_zero() && config.retention_unused.0.is_zero() {
            return Ok(());
        }
        self.retain_remote().await?;
        let now = self.now();
        let mut after = String::new();
        while !self.supervisor.stopping().is_cancelled() {
            let Some((last, old)) = self.old_media(&after, now)? else { break };
            if !old.is_empty() {
                self.retire(old, Arc::clone(in_use)).await?;
            }
            after = last;
        }
        Ok(())
    }

    /// Deletes those that are not in use.
    async fn retire(&self, old: Vec<String>, in_use: Arc<dyn InUse>) -> Result<()> {
        let in_use = spawn_blocking(move || in_use.media_ids())
            .await
            .map_err(|error| Error::internal("media in use", error))??;
        let unused: Vec<_> = old.into_iter().filter(|id| !in_use.contains(id)).collect();
        for portion in unused.chunks(PORTION) {
            let deleted = self.delete_all(portion).await?;
            metrics::counter!("wick_media_retired_total")
                .increment(u64::try_from(deleted).unwrap_or(u64::MAX));
        }
        Ok(())
    }

    /// Looks through a portion of the media above a media id: the last media id, and those that are too old. `None` if
    /// there are no more.
    fn old_media(&self, after: &str, now: Timestamp) -> Result<Option<(String, Vec<String>)>> {
        let read = self.resources.database.published();
        let (mut last, mut old) = (None, Vec::new());
        for row in read.scan(&MEDIA_BY_ID, Range::after(after)).take(JUDGED) {
            let (media_id, media) = row?;
            if self.is_too_old(&read, &media_id, &media, now)? {
                old.push(media_id.clone());
            }
            last = Some(media_id);
        }
        Ok(last.map(|last| (last, old)))
    }

    fn is_too_old(
        &self,
        read: &impl Read,
        media_id: &str,
        media: &Media,
        now: Timestamp,
    ) -> Result<bool> {
        let config = &self.resources.config.media;
        if is_over(media.uploaded, config.retention_age.0, now) {
            return Ok(true);
        }
        if config.retention_unused.0.is_zero() {
            return Ok(false);
        }
        let accessed = read.get(&ACCESS_BY_MEDIA, media_id)?.unwrap_or(media.uploaded);
        Ok(is_over(accessed.max(media.uploaded), config.retention_unused.0, now))
    }
}
