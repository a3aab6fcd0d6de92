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
        ACCESS_BY_MEDIA, FILE_BY_HASH, FileHash, HASH_BY_FILE_NAME, MEDIA_BY_ID, Media,
        PENDING_MEDIA_BY_ID,
    },
};

use crate::{
    MediaRepository, pending,
    repository::is_quarantined,
    store::{self, ByteStream},
    upload::hexadecimal,
};

/// How exactly the time of the last access is known.
pub(crate) const ACCESS_PRECISION: Duration = Duration::from_secs(86_400);

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
        self.note_access(media_id).await?;
        let read = self.resources.database.published();
        let file = read.get(&FILE_BY_HASH, &media.file)?.ok_or_else(not_found)?;
        Ok(Content {
            size: media.size,
            content_type: media.content_type,
            file_name: media.file_name,
            tag: hexadecimal(&media.file),
            uploaded: media.uploaded,
            name: file.name,
            file: media.file,
        })
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
                let is_served = !is_quarantined(&read, &media.file)?;
                return if is_served { Ok(media) } else { Err(not_found()) };
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
    async fn note_access(&self, media_id: &str) -> Result<()> {
        if self.resources.config.media.retention_unused.0.is_zero() {
            return Ok(());
        }
        let now = self.now();
        let last = self.resources.database.latest().get(&ACCESS_BY_MEDIA, media_id)?;
        if last.is_some_and(|last| last.after(ACCESS_PRECISION) > now) {
            return Ok(());
        }
        self.resources
            .change_with(Durability::Flushed, |batch| {
                // Media that is deleted meanwhile leaves no row.
                if batch.read_for_update(&MEDIA_BY_ID, media_id)?.is_some() {
                    batch.put(&ACCESS_BY_MEDIA, media_id, &now);
                }
                Ok(())
            })
            .await
    }
}

pub(crate) fn not_found() -> Error {
    Error::not_found("there is no such media")
}
