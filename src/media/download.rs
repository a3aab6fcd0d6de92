//! Downloads: which bytes a media id stands for, and the bytes themselves.
//!
//! Invariant: this is the only way from a media id of this server to a file, so that what is quarantined, deleted or of another server
//! is checked in one place.

use std::{io, ops::Range, time::Duration};

use ruma::{ServerName, api::error::ErrorKind};
use wick_core::{Error, Result, Timestamp};
use wick_database::{
    Durability, Read,
    schema::media::{
        FILE_BY_HASH, FileHash, HASH_BY_FILE_NAME, MEDIA_BY_ID, Media, PENDING_MEDIA_BY_ID,
        StoredFile,
    },
};

use crate::{
    MediaRepository,
    kind::{Facts, Kind, Own},
    pending,
    repository::is_quarantined,
    store::{self, ByteStream},
    upload::hexadecimal,
};

/// How exactly the time of the last access is known.
const ACCESS_PRECISION: Duration = Duration::from_secs(86_400);

/// Bytes with what is known of them.
#[derive(Clone, Debug)]
pub struct Content {
    /// Their number.
    pub size: u64,
    /// The content type, as the client named it.
    pub content_type: Option<String>,
    /// The file's name, as the client named it.
    pub file_name: Option<String>,
    /// Identifies these bytes: they never change.
    pub tag: String,
    /// When they were uploaded.
    pub uploaded: Timestamp,
    /// Where they are in the store.
    pub(crate) name: String,
    /// The file they are of.
    pub(crate) file: FileHash,
}

impl MediaRepository {
    /// The file of a media id of this server. Waits for the upload if there is none yet, at most `patience`.
    ///
    /// # Errors
    /// `M_NOT_FOUND`; `M_NOT_YET_UPLOADED` after the wait.
    pub async fn content(
        &self,
        server_name: &ServerName,
        media_id: &str,
        patience: Duration,
    ) -> Result<Content> {
        let media = self.find(server_name, media_id, patience).await?;
        self.serve::<Own>(&Own::key(server_name, media_id), media).await
    }

    /// The file of a row, unless it is quarantined. Notes the access.
    pub(crate) async fn serve<K: Kind>(&self, key: &K::Key, row: K::Row) -> Result<Content> {
        let Facts { stored, file, size, content_type, file_name, .. } = K::facts(row);
        let read = self.resources.database.published();
        if is_quarantined(&read, &file)? {
            return Err(not_found());
        }
        let StoredFile { name, .. } = read.get(&FILE_BY_HASH, &file)?.ok_or_else(not_found)?;
        drop(read);
        self.note_access::<K>(key).await?;
        let tag = hexadecimal(&file);
        Ok(Content { size, content_type, file_name, tag, uploaded: stored, name, file })
    }

    /// A part of a content.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if it was deleted meanwhile.
    pub async fn open(&self, content: &Content, range: Range<u64>) -> Result<ByteStream> {
        match self.store.open(&content.name, range).await {
            Ok(stream) => Ok(stream),
            Err(error) => {
                // The same content may be back, as another file.
                let read = self.resources.database.latest();
                let is_deleted = !read.contains(&HASH_BY_FILE_NAME, &content.name)?;
                if error.kind() == io::ErrorKind::NotFound && is_deleted {
                    return Err(not_found());
                }
                Err(store::failed("open a file")(error))
            }
        }
    }

    /// The row of a media id. Media of other servers are not found here ([`MediaRepository::content_of_any`]).
    async fn find(
        &self,
        server_name: &ServerName,
        media_id: &str,
        patience: Duration,
    ) -> Result<Media> {
        if !self.is_own(server_name) {
            return Err(not_found());
        }
        let clock = &self.resources.clock;
        let patience = patience.min(self.resources.config.media.max_wait.0);
        let deadline = clock.monotonic() + patience;
        let mut watch = self.resources.database.watch().topic(pending::upload_of(media_id));
        loop {
            let read = self.resources.database.published();
            if let Some(media) = read.get(&MEDIA_BY_ID, media_id)? {
                return Ok(media);
            }
            let pending = read.get(&PENDING_MEDIA_BY_ID, media_id)?;
            if pending.is_none_or(|row| row.expires <= self.now()) {
                return Err(not_found());
            }
            let is_over = clock.monotonic() >= deadline;
            if is_over || self.supervisor.stopping().is_cancelled() {
                return Err(Error::refused(ErrorKind::NotYetUploaded, "this is not uploaded yet"));
            }
            tokio::select! {
                () = watch.changed() => {}
                () = clock.sleep_until(deadline) => {}
                () = self.supervisor.stopping().cancelled() => {}
            }
        }
    }

    /// Notes that media is accessed, if the retention needs to know.
    async fn note_access<K: Kind>(&self, key: &K::Key) -> Result<()> {
        if self.resources.config.media.retention_unused.0.is_zero() {
            return Ok(());
        }
        let now = self.now();
        let is_known = {
            let read = self.resources.database.latest();
            let Some(row) = read.get(K::table(), key)? else { return Ok(()) };
            K::accessed(&read, key, &row)?.after(ACCESS_PRECISION) > now
        };
        if is_known {
            return Ok(());
        }
        self.resources
            .change_with(Durability::Flushed, |batch| {
                // Media that is deleted meanwhile leaves no row.
                if let Some(row) = batch.read_for_update(K::table(), key)? {
                    K::set_accessed(batch, key, row, now);
                }
                Ok(())
            })
            .await
    }
}

pub(crate) fn not_found() -> Error {
    Error::not_found("there is no such media")
}
