//! Uploads: files that clients send, described by a row at the end.
//!
//! Invariants: an upload that breaks leaves no row; the row is written even if the client hangs up once all bytes are there, and
//! only if the device is still logged in; uploads that a user makes at the same time have no more bytes together than the quota
//! has left.

use std::sync::Arc;

use bytes::Bytes;
use ruma::{OwnedDeviceId, OwnedMxcUri, ServerName};
use wick_core::{Error, Result, ShortUserId};
use wick_database::{
    Batch, Read,
    schema::{
        devices::DEVICE_BY_ID,
        media::{
            FileHash, MEDIA_BY_ID, MEDIA_BY_OWNER, MEDIA_COUNT_BY_OWNER, Media, USAGE_BY_OWNER,
        },
    },
};

use crate::{
    MediaRepository,
    in_progress::Arrived,
    pending,
    receive::{Received, Receiving},
    repository::refer,
};

/// Bytes of a content type and of a file name that are kept. Longer ones are dropped.
const MAX_TEXT_BYTES: usize = 255;

/// The file name and content type that the client claims.
#[derive(Clone, Debug, Default)]
pub struct Description {
    /// The content type.
    pub content_type: Option<String>,
    /// The name.
    pub file_name: Option<String>,
}

/// The device that uploads.
#[derive(Clone, Debug)]
pub struct Uploader {
    /// Its user, the owner of the media.
    pub user: ShortUserId,
    /// The device.
    pub device_id: OwnedDeviceId,
}

/// What a user may still store.
#[derive(Clone, Copy, Debug)]
struct Quota {
    bytes: u64,
    files: u64,
}

/// A file that is being uploaded. It is given up if it is dropped.
pub struct Upload {
    repository: Arc<MediaRepository>,
    uploader: Uploader,
    /// The media id it is for, and whether that was reserved.
    media_id: String,
    is_reserved: bool,
    file: Receiving,
    arrived: Arrived,
    max_size: u64,
    quota: Quota,
}

impl MediaRepository {
    /// Begins the upload of a file, of which the client may have announced the size in bytes. It gets a new media id.
    ///
    /// # Errors
    /// `M_TOO_LARGE`; `M_FORBIDDEN` if the user has no space left; 507 if the server has none.
    pub async fn begin_upload(
        self: &Arc<Self>,
        uploader: Uploader,
        announced: Option<u64>,
    ) -> Result<Upload> {
        self.begin(uploader, None, announced).await
    }

    /// Begins the upload to a reserved media id.
    ///
    /// # Errors
    /// As [`MediaRepository::begin_upload`]; `M_NOT_FOUND` if the media id is not reserved (any more), `M_FORBIDDEN` if it
    /// is reserved for another user, `M_CANNOT_OVERWRITE_MEDIA` if it has a file.
    pub async fn begin_reserved_upload(
        self: &Arc<Self>,
        uploader: Uploader,
        (server_name, media_id): (&ServerName, &str),
        announced: Option<u64>,
    ) -> Result<Upload> {
        if !self.is_own(server_name) {
            return Err(pending::not_reserved());
        }
        let read = self.resources.database.latest();
        pending::ensure(&read, uploader.user, media_id, self.now())?;
        self.begin(uploader, Some(media_id), announced).await
    }

    async fn begin(
        self: &Arc<Self>,
        uploader: Uploader,
        reserved: Option<&str>,
        announced: Option<u64>,
    ) -> Result<Upload> {
        let quota = self.quota(uploader.user)?;
        let max_size = self.max_upload();
        let announced = announced.unwrap_or_default();
        ensure_size(announced, max_size, quota)?;
        if announced.saturating_add(self.uploads.of(uploader.user)) > quota.bytes {
            return Err(no_space());
        }
        let random = &*self.resources.random;
        Ok(Upload {
            repository: Arc::clone(self),
            arrived: self.uploads.begin(uploader.user),
            uploader,
            media_id: reserved.map_or_else(|| random.token(), str::to_owned),
            is_reserved: reserved.is_some(),
            file: Receiving::begin(self).await?,
            max_size,
            quota,
        })
    }

    /// What a user may store in all.
    fn max_usage(&self) -> Quota {
        let media = &self.resources.config.media;
        Quota {
            bytes: u64::from(media.max_user_megabytes) << 20,
            files: u64::from(media.max_user_files),
        }
    }

    fn quota(&self, user: ShortUserId) -> Result<Quota> {
        let read = self.resources.database.latest();
        let bytes = read.get(&USAGE_BY_OWNER, &user)?.unwrap_or_default();
        let files = read.get(&MEDIA_COUNT_BY_OWNER, &user)?.unwrap_or_default();
        let max = self.max_usage();
        Ok(Quota { bytes: max.bytes.saturating_sub(bytes), files: max.files.saturating_sub(files) })
    }
}

fn ensure_size(size: u64, max_size: u64, quota: Quota) -> Result<()> {
    if size > max_size {
        return Err(Error::too_large(format!("a file has at most {max_size} bytes")));
    }
    if size > quota.bytes || quota.bytes == 0 || quota.files == 0 {
        return Err(no_space());
    }
    Ok(())
}

fn no_space() -> Error {
    Error::forbidden("the user has no space left: delete media, or ask an administrator")
}

impl Upload {
    /// The media id it is for.
    pub(crate) fn media_id(&self) -> &str {
        &self.media_id
    }

    /// Takes bytes.
    ///
    /// # Errors
    /// `M_TOO_LARGE`, `M_FORBIDDEN` and 507 as soon as the file gets too large; 408 if it takes too long.
    pub async fn write(&mut self, bytes: Bytes) -> Result<()> {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        ensure_size(self.file.size().saturating_add(length), self.max_size, self.quota)?;
        if !self.arrived.add(length, self.quota.bytes) {
            return Err(no_space());
        }
        self.file.write(bytes).await
    }

    /// Completes the upload: from now on the media can be downloaded. Continues if the returned future is dropped.
    ///
    /// # Errors
    /// As [`MediaRepository::begin_reserved_upload`]; `M_UNKNOWN_TOKEN` if the device was logged out meanwhile. Then nothing
    /// is stored.
    pub async fn finish(self, description: Description) -> Result<OwnedMxcUri> {
        let supervisor = Arc::clone(&self.repository.supervisor);
        let complete = self.complete(description, |_| Ok(()));
        supervisor.complete("upload", async { Ok(complete.await?.0) }).await
    }

    /// The same together with what `also` writes: both are written, or neither.
    pub(crate) async fn complete<T: Send>(
        self,
        description: Description,
        mut also: impl FnMut(&mut Batch) -> Result<T> + Send,
    ) -> Result<(OwnedMxcUri, T)> {
        let Self { repository, uploader, media_id, is_reserved, file, arrived, .. } = self;
        let Received { name, hash, size } = file.finish().await?;
        // From here on the batch counts the file.
        drop(arrived);
        let Description { content_type, file_name } = description.short();
        let media = Media {
            owner: uploader.user,
            uploaded: repository.now(),
            file: hash,
            size,
            content_type,
            file_name,
        };
        let max = repository.max_usage();
        let written = repository
            .resources
            .change(|batch| {
                ensure_logged_in(batch, &uploader)?;
                if is_reserved {
                    pending::spend(batch, uploader.user, &media_id, media.uploaded)?;
                }
                let is_in_use = add(batch, &media_id, &media, &name, max)?;
                Ok((is_in_use, also(batch)?))
            })
            .await;
        let also = repository.settle(name, written).await?;
        metrics::counter!("wick_media_uploaded_bytes_total").increment(size);
        Ok((repository.uri(&media_id), also))
    }
}

impl Description {
    /// Without what is longer than what is kept.
    pub(crate) fn short(self) -> Self {
        let short = |text: &String| text.len() <= MAX_TEXT_BYTES;
        Self {
            content_type: self.content_type.filter(short),
            file_name: self.file_name.filter(short),
        }
    }
}

/// Refuses what a device does that was logged out meanwhile, as an erased user's were.
fn ensure_logged_in(batch: &mut Batch, uploader: &Uploader) -> Result<()> {
    let device = batch.read_for_update(&DEVICE_BY_ID, &(uploader.user, &uploader.device_id))?;
    device.map(drop).ok_or_else(|| Error::unknown_token(false))
}

/// Adds media whose file is stored under `name`. Returns whether it stays there.
fn add(batch: &mut Batch, media_id: &str, media: &Media, name: &str, max: Quota) -> Result<bool> {
    let bytes = batch.read_for_update(&USAGE_BY_OWNER, &media.owner)?.unwrap_or_default();
    let bytes = bytes.saturating_add(media.size);
    let files = batch.read_for_update(&MEDIA_COUNT_BY_OWNER, &media.owner)?.unwrap_or_default();
    let files = files.saturating_add(1);
    if bytes > max.bytes || files > max.files {
        return Err(no_space());
    }
    batch.put(&USAGE_BY_OWNER, &media.owner, &bytes);
    batch.put(&MEDIA_COUNT_BY_OWNER, &media.owner, &files);
    batch.require(&MEDIA_BY_ID, media_id, None);
    batch.put(&MEDIA_BY_ID, media_id, media);
    batch.put(&MEDIA_BY_OWNER, &(media.owner, media_id), &());
    refer(batch, &media.file, name)
}

/// A file's hash as text.
pub(crate) fn hexadecimal(hash: &FileHash) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}
