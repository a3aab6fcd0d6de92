//! The content repository: media by id, and the files behind them.
//!
//! Invariants: a file is stored before the row that refers to it is written, and removed after the row that was the
//! last to refer to it; so a crash in between leaves a file without a row, never a row without a file.

use std::sync::Arc;

use ruma::{OwnedMxcUri, ServerName};
use wick_core::{Config, Result, Timestamp};
use wick_database::{
    Batch, Read,
    schema::media::{FILE_BY_HASH, FileHash, HASH_BY_FILE_NAME, QUARANTINE_BY_HASH, StoredFile},
};
use wick_federation::Federation;
use wick_runtime::{Resources, Supervisor};

use crate::{
    in_progress::InProgress,
    remote::Fetches,
    store::{self, Store},
    thumbnail::Memory,
};

/// Lists the media that retention must not delete.
pub trait InUse: Send + Sync {
    /// The media ids of this server that are in use now.
    ///
    /// # Errors
    /// If the database cannot be read.
    fn media_ids(&self) -> Result<std::collections::HashSet<String>>;
}

/// The content repository of this server.
pub struct MediaRepository {
    pub(crate) resources: Resources,
    pub(crate) supervisor: Arc<Supervisor>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) memory: Memory,
    pub(crate) federation: Option<Arc<Federation>>,
    pub(crate) fetches: Fetches,
    pub(crate) uploads: InProgress,
}

impl MediaRepository {
    /// The repository in this store; in the configured one if there is none. Media of other servers is fetched by way of
    /// `federation`.
    ///
    /// # Errors
    /// If the store cannot be used.
    pub fn new(
        resources: Resources,
        supervisor: Arc<Supervisor>,
        store: Option<Arc<dyn Store>>,
        federation: Option<Arc<Federation>>,
    ) -> Result<Self> {
        let store = match store {
            Some(store) => store,
            None => store::open(&resources.config, &supervisor)?,
        };
        let memory = Memory::new(max_pixels(&resources.config));
        let (fetches, uploads) = (Fetches::default(), InProgress::default());
        Ok(Self { resources, supervisor, store, memory, federation, fetches, uploads })
    }

    /// The largest upload, in bytes.
    #[must_use]
    pub fn max_upload(&self) -> u64 {
        u64::from(self.resources.config.media.max_upload_megabytes) << 20
    }

    /// The most pixels of an image that is decoded.
    pub(crate) fn max_pixels(&self) -> u64 {
        max_pixels(&self.resources.config)
    }

    pub(crate) fn is_own(&self, server_name: &ServerName) -> bool {
        server_name == self.resources.config.server.name
    }

    pub(crate) fn uri(&self, media_id: &str) -> OwnedMxcUri {
        format!("mxc://{}/{media_id}", self.resources.config.server.name).into()
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.resources.clock.now()
    }

    /// Deletes files that no row refers to any more. What fails is left for the sweep.
    pub(crate) async fn discard(&self, names: &[String]) {
        for name in names {
            if let Err(error) = self.store.delete(name).await {
                tracing::warn!(%error, "a file without a row is left for the sweep");
            }
        }
    }
}

fn max_pixels(config: &Config) -> u64 {
    u64::from(config.media.max_image_megapixels).saturating_mul(1_000_000)
}

/// Counts one more reference to a file; `name` is where it was stored just now. Returns whether the file under that
/// name is in use: not if the same content was stored before.
pub(crate) fn refer(batch: &mut Batch, hash: &FileHash, name: &str) -> Result<bool> {
    let stored = batch.read_for_update(&FILE_BY_HASH, hash)?;
    let is_new = stored.is_none();
    let stored = stored.unwrap_or_else(|| StoredFile { name: name.to_owned(), references: 0 });
    let references = stored.references.saturating_add(1);
    batch.put(&FILE_BY_HASH, hash, &StoredFile { references, ..stored });
    if is_new {
        batch.put(&HASH_BY_FILE_NAME, name, hash);
    }
    Ok(is_new)
}

/// Whether a content must not be served.
pub(crate) fn is_quarantined(read: &impl Read, hash: &FileHash) -> Result<bool> {
    Ok(read.contains(&QUARANTINE_BY_HASH, hash)?)
}
