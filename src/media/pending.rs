//! Media ids that are reserved for later uploads.
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixmediav1create>
//!
//! Invariants: a user has no more than the configured number; of several uploads to one media id one wins; the row of a
//! reservation goes in the batch of its upload, or with the sweep once it has expired.

use std::hash::{DefaultHasher, Hash, Hasher};

use ruma::{OwnedMxcUri, api::error::ErrorKind};
use wick_core::{Error, Result, ShortUserId, Timestamp};
use wick_database::{
    Batch, Range, Read, Topic,
    schema::media::{MEDIA_BY_ID, PENDING_MEDIA_BY_ID, PENDING_MEDIA_BY_OWNER, PendingMedia},
};

use crate::MediaRepository;

/// A reserved media id.
#[derive(Debug)]
pub struct Reserved {
    /// Its URI.
    pub uri: OwnedMxcUri,
    /// From when on an upload is refused.
    pub expires: Timestamp,
}

impl MediaRepository {
    /// Reserves a media id for an upload of the user's.
    ///
    /// # Errors
    /// `M_LIMIT_EXCEEDED` if the user has reserved too many that still wait for their upload.
    pub async fn reserve(&self, owner: ShortUserId) -> Result<Reserved> {
        let config = &self.resources.config.media;
        let media_id = self.resources.random.token();
        let now = self.now();
        let expires = now.after(config.pending_lifetime.0);
        let max = usize::try_from(config.max_pending).unwrap_or(usize::MAX);
        self.resources
            .change(|batch| {
                // Expired ones go first, so this reads at most `max` rows that stay.
                let reserved =
                    batch.scan_for_update(&PENDING_MEDIA_BY_OWNER, Range::prefix((owner,)))?;
                let mut waiting = Vec::new();
                for ((_, media_id), ()) in reserved {
                    let row = batch.get(&PENDING_MEDIA_BY_ID, &media_id)?;
                    match row.filter(|row| row.expires > now) {
                        Some(row) => waiting.push(row.expires),
                        None => forget(batch, owner, &media_id),
                    }
                }
                if waiting.len() >= max {
                    let first = waiting.iter().min().copied().unwrap_or(expires);
                    return Err(Error::limit_exceeded(first.since(now)));
                }
                let row = PendingMedia { owner, expires };
                batch.put(&PENDING_MEDIA_BY_ID, &media_id, &row);
                batch.put(&PENDING_MEDIA_BY_OWNER, &(owner, &*media_id), &());
                Ok(())
            })
            .await?;
        Ok(Reserved { uri: self.uri(&media_id), expires })
    }
}

/// The media id is one that a user may upload to.
pub(crate) fn ensure(
    read: &impl Read,
    owner: ShortUserId,
    media_id: &str,
    now: Timestamp,
) -> Result<()> {
    judge(read.get(&PENDING_MEDIA_BY_ID, media_id)?, owner, now, || {
        Ok(read.get(&MEDIA_BY_ID, media_id)?.map(|media| media.owner))
    })
}

/// Ends a reservation with the upload that is in the same batch.
pub(crate) fn spend(
    batch: &mut Batch,
    owner: ShortUserId,
    media_id: &str,
    now: Timestamp,
) -> Result<()> {
    let row = batch.read_for_update(&PENDING_MEDIA_BY_ID, media_id)?;
    judge(row, owner, now, || Ok(batch.get(&MEDIA_BY_ID, media_id)?.map(|media| media.owner)))?;
    forget(batch, owner, media_id);
    batch.wake(upload_of(media_id));
    Ok(())
}

fn judge(
    row: Option<PendingMedia>,
    owner: ShortUserId,
    now: Timestamp,
    owner_of_upload: impl FnOnce() -> Result<Option<ShortUserId>>,
) -> Result<()> {
    let of_another = || Err(Error::forbidden("this media id belongs to another user"));
    match row {
        Some(row) if row.owner != owner => of_another(),
        Some(row) if row.expires <= now => Err(not_reserved()),
        Some(_) => Ok(()),
        None => match owner_of_upload()? {
            None => Err(not_reserved()),
            Some(other) if other != owner => of_another(),
            Some(_) => {
                let message = "this media id has been uploaded to";
                Err(Error::refused(ErrorKind::CannotOverwriteMedia, message))
            }
        },
    }
}

pub(crate) fn forget(batch: &mut Batch, owner: ShortUserId, media_id: &str) {
    batch.delete(&PENDING_MEDIA_BY_ID, media_id);
    batch.delete(&PENDING_MEDIA_BY_OWNER, &(owner, media_id));
}

pub(crate) fn not_reserved() -> Error {
    Error::not_found("this media id is not reserved, or not any more")
}

/// What an upload to a reserved media id wakes.
pub(crate) fn upload_of(media_id: &str) -> Topic {
    let mut hasher = DefaultHasher::new();
    media_id.hash(&mut hasher);
    Topic::Numbered("upload", hasher.finish())
}
