//! Retention: media goes when it is old, or when it has not been downloaded for long, as configured. Off by default.
//!
//! Invariant: media of this server that is in use stays, however old it is; that of other servers can be fetched again.

use std::sync::Arc;

use tokio::task::spawn_blocking;
use wick_core::{Error, Result, Timestamp};
use wick_database::{Range, Read};

use crate::{
    InUse, MediaRepository,
    deletion::PORTION,
    kind::{Kind, Own, Remote},
    sweep::is_over,
};

/// How many media are judged together: what is in use is gathered once for them.
const JUDGED: usize = 10_000;

/// A portion of media that was judged.
struct Judged<K> {
    last: K,
    /// Those that are too old.
    old: Vec<K>,
}

impl MediaRepository {
    /// Deletes what the configured retention no longer allows.
    pub(crate) async fn retain(&self, in_use: &Arc<dyn InUse>) -> Result<()> {
        let config = &self.resources.config.media;
        if config.retention_age.0.is_zero() && config.retention_unused.0.is_zero() {
            return Ok(());
        }
        self.retain_kind::<Remote>(in_use).await?;
        self.retain_kind::<Own>(in_use).await
    }

    async fn retain_kind<K: Kind>(&self, in_use: &Arc<dyn InUse>) -> Result<()> {
        let now = self.now();
        let mut range = Range::all();
        while !self.supervisor.stopping().is_cancelled() {
            let Some(Judged { last, old }) = self.old_media::<K>(range, now)? else { break };
            self.retire::<K>(old, in_use).await?;
            range = Range::after(&last);
        }
        Ok(())
    }

    /// Deletes those that are not in use.
    async fn retire<K: Kind>(&self, mut old: Vec<K::Key>, in_use: &Arc<dyn InUse>) -> Result<()> {
        let own = |key: &K::Key| match K::name(key) {
            (None, media_id) => Some(media_id.to_owned()),
            (Some(_), _) => None,
        };
        if old.iter().any(|key| own(key).is_some()) {
            let in_use = Arc::clone(in_use);
            let in_use = spawn_blocking(move || in_use.media_ids())
                .await
                .map_err(|error| Error::internal("media in use", error))??;
            old.retain(|key| own(key).is_none_or(|media_id| !in_use.contains(&media_id)));
        }
        for portion in old.chunks(PORTION) {
            let deleted = self.delete_all::<K>(portion).await?;
            metrics::counter!("wick_media_retired_total")
                .increment(u64::try_from(deleted).unwrap_or(u64::MAX));
        }
        Ok(())
    }

    /// Looks through a portion of the media of a range. `None` if there are no more.
    fn old_media<K: Kind>(
        &self,
        range: Range<K::Key>,
        now: Timestamp,
    ) -> Result<Option<Judged<K::Key>>> {
        let read = self.resources.database.published();
        let (mut last, mut old) = (None, Vec::new());
        for row in read.scan(K::table(), range).take(JUDGED) {
            let (key, row) = row?;
            if self.is_too_old::<K>(&read, &key, row, now)? {
                old.push(key.clone());
            }
            last = Some(key);
        }
        Ok(last.map(|last| Judged { last, old }))
    }

    fn is_too_old<K: Kind>(
        &self,
        read: &impl Read,
        key: &K::Key,
        row: K::Row,
        now: Timestamp,
    ) -> Result<bool> {
        let config = &self.resources.config.media;
        let unused = config.retention_unused.0;
        if !unused.is_zero() && is_over(K::accessed(read, key, &row)?, unused, now) {
            return Ok(true);
        }
        Ok(is_over(K::facts(row).stored, config.retention_age.0, now))
    }
}
