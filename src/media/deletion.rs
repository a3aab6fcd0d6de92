//! Deletion of media: one, all of a user, and contents that are not to be served any more.
//!
//! Invariant: media goes with everything that was made of it; a file goes with the last media that refers to it.

use ruma::api::error::ErrorKind;
use serde::Serialize;
use wick_core::{Error, Result, ShortUserId, Timestamp};
use wick_database::{
    Batch, Range, Read,
    schema::media::{
        ACCESS_BY_MEDIA, FILE_BY_HASH, FileHash, HASH_BY_FILE_NAME, MEDIA_BY_ID, MEDIA_BY_OWNER,
        MEDIA_COUNT_BY_OWNER, Media, PENDING_MEDIA_BY_OWNER, QUARANTINE_BY_HASH, StoredFile,
        THUMBNAIL_BY_FILE, USAGE_BY_OWNER,
    },
};

use crate::{MediaRepository, download::not_found, pending, repository::is_quarantined};

/// How many media one batch deletes.
pub(crate) const PORTION: usize = 100;

/// Media as administrators see it.
#[derive(Debug, Serialize)]
pub struct Listed {
    /// The media id.
    pub media_id: String,
    /// The user who uploaded it.
    #[serde(skip)]
    pub owner: ShortUserId,
    /// When.
    pub uploaded: Timestamp,
    /// Its size in bytes.
    pub size: u64,
    /// The content type, as the client named it.
    pub content_type: Option<String>,
    /// The file's name, as the client named it.
    pub file_name: Option<String>,
    /// Whether it is not served.
    pub quarantined: bool,
}

impl MediaRepository {
    /// The media of a user, or all; at most `limit`, by media id, above `after`.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn list(
        &self,
        owner: Option<ShortUserId>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Listed>> {
        let read = self.resources.database.published();
        let after = after.unwrap_or_default();
        let media_ids = match owner {
            Some(owner) => {
                let range = Range::prefix((owner,)).and(Range::after(&(owner, after)));
                let keys = read.scan(&MEDIA_BY_OWNER, range).keys().take(limit);
                keys.map(|key| key.map(|(_, media_id)| media_id)).collect::<Result<Vec<_>, _>>()?
            }
            None => {
                let keys = read.scan(&MEDIA_BY_ID, Range::after(after)).keys().take(limit);
                keys.collect::<Result<Vec<_>, _>>()?
            }
        };
        let mut listed = Vec::new();
        for media_id in media_ids {
            let Some(media) = read.get(&MEDIA_BY_ID, &media_id)? else { continue };
            listed.push(Listed {
                quarantined: is_quarantined(&read, &media.file)?,
                media_id,
                owner: media.owner,
                uploaded: media.uploaded,
                size: media.size,
                content_type: media.content_type,
                file_name: media.file_name,
            });
        }
        Ok(listed)
    }

    /// Bytes of all media of a user.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn usage(&self, owner: ShortUserId) -> Result<u64> {
        let usage = self.resources.database.published().get(&USAGE_BY_OWNER, &owner)?;
        Ok(usage.unwrap_or_default())
    }

    /// Deletes media.
    ///
    /// # Errors
    /// `M_NOT_FOUND`.
    pub async fn delete(&self, media_id: &str) -> Result<()> {
        if self.delete_all(&[media_id.to_owned()]).await? == 0 {
            return Err(not_found());
        }
        Ok(())
    }

    /// Deletes all media of a user, and what is reserved for uploads. Returns how many media there were.
    ///
    /// # Errors
    /// If the database refuses.
    pub async fn delete_all_of(&self, owner: ShortUserId) -> Result<usize> {
        self.resources
            .change(|batch| {
                let reserved = batch.scan(&PENDING_MEDIA_BY_OWNER, Range::prefix((owner,))).keys();
                for (_, media_id) in reserved.collect::<Result<Vec<_>, _>>()? {
                    pending::forget(batch, owner, &media_id);
                }
                Ok(())
            })
            .await?;
        let mut deleted = 0_usize;
        loop {
            let portion: Vec<_> = {
                let read = self.resources.database.latest();
                let keys = read.scan(&MEDIA_BY_OWNER, Range::prefix((owner,))).keys().take(PORTION);
                keys.map(|key| key.map(|(_, media_id)| media_id)).collect::<Result<_, _>>()?
            };
            if portion.is_empty() {
                return Ok(deleted);
            }
            deleted = deleted.saturating_add(self.delete_all(&portion).await?);
        }
    }

    /// Stops serving the content of media under every media id, or serves it again.
    ///
    /// # Errors
    /// `M_NOT_FOUND`.
    pub async fn quarantine(&self, media_id: &str, is_served: bool) -> Result<()> {
        let now = self.now();
        self.resources
            .change(|batch| {
                let media = batch.get(&MEDIA_BY_ID, media_id)?.ok_or_else(not_found)?;
                if is_served {
                    batch.delete(&QUARANTINE_BY_HASH, &media.file);
                } else {
                    batch.put(&QUARANTINE_BY_HASH, &media.file, &now);
                }
                Ok(())
            })
            .await
    }

    /// Deletes a portion of media; returns how many of them there were.
    pub(crate) async fn delete_all(&self, media_ids: &[String]) -> Result<usize> {
        let (deleted, files) = self
            .resources
            .change(|batch| {
                let (mut deleted, mut files) = (0_usize, Vec::new());
                for media_id in media_ids {
                    if remove(batch, media_id, &mut files)? {
                        deleted = deleted.saturating_add(1);
                    }
                }
                Ok((deleted, files))
            })
            .await?;
        self.discard(&files).await;
        Ok(deleted)
    }
}

/// Removes media, if it is there, and adds the names of files that nothing refers to any more: they are to be discarded once
/// the batch is written. Returns whether it was there.
pub(crate) fn remove(batch: &mut Batch, media_id: &str, files: &mut Vec<String>) -> Result<bool> {
    let Some(media) = batch.read_for_update(&MEDIA_BY_ID, media_id)? else { return Ok(false) };
    remove_rows(batch, media_id, &media, files)?;
    Ok(true)
}

fn remove_rows(
    batch: &mut Batch,
    media_id: &str,
    media: &Media,
    files: &mut Vec<String>,
) -> Result<()> {
    batch.delete(&MEDIA_BY_ID, media_id);
    batch.delete(&MEDIA_BY_OWNER, &(media.owner, media_id));
    batch.delete(&ACCESS_BY_MEDIA, media_id);
    batch.update(&USAGE_BY_OWNER, &media.owner, |used| {
        used.and_then(|used| used.checked_sub(media.size)).filter(|used| *used > 0)
    })?;
    batch.update(&MEDIA_COUNT_BY_OWNER, &media.owner, |count| {
        count.and_then(|count| count.checked_sub(1)).filter(|count| *count > 0)
    })?;
    release(batch, &media.file, files)
}

/// Counts one reference to a file less, and removes its rows with the last one.
pub(crate) fn release(batch: &mut Batch, file: &FileHash, files: &mut Vec<String>) -> Result<()> {
    let stored = batch
        .read_for_update(&FILE_BY_HASH, file)?
        .ok_or_else(|| Error::corrupt("media refers to a file that has no row"))?;
    if stored.references > 1 {
        let references = stored.references.saturating_sub(1);
        batch.put(&FILE_BY_HASH, file, &StoredFile { references, ..stored });
        return Ok(());
    }
    batch.delete(&FILE_BY_HASH, file);
    batch.delete(&HASH_BY_FILE_NAME, &stored.name);
    files.push(stored.name);
    remove_thumbnails(batch, file, files)
}

fn remove_thumbnails(batch: &mut Batch, file: &FileHash, files: &mut Vec<String>) -> Result<()> {
    // One that is stored meanwhile would stay.
    for (key, thumbnail) in batch.scan_for_update(&THUMBNAIL_BY_FILE, Range::prefix((*file,)))? {
        batch.delete(&THUMBNAIL_BY_FILE, &key);
        if let Some(name) = thumbnail.name {
            batch.delete(&HASH_BY_FILE_NAME, &name);
            files.push(name);
        }
    }
    Ok(())
}

/// `M_UNKNOWN`, 400: what cannot be done with a file.
pub(crate) fn unsuitable(message: &'static str) -> Error {
    Error::refused(ErrorKind::Unknown, message)
}
