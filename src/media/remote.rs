//! Media of other servers: fetched when a local user asks for it, and kept like a file of this server.
//!
//! Invariants: media is fetched once at a time, and once in all while it is kept; what is fetched has at most the size of an
//! upload; a file and its references are counted together with those of local media.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use ruma::{OwnedServerName, ServerName, api::error::ErrorKind};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use wick_core::{Error, RemoteReason, Result, Timestamp};
use wick_database::{
    Durability, Range, Read,
    schema::media::{FILE_BY_HASH, REMOTE_MEDIA_BY_ID, RemoteMedia},
};
use wick_federation::{Bounds, RemoteFile};
use wick_runtime::KeyLocks;

use crate::{
    Content, MediaRepository,
    deletion::release,
    download::{ACCESS_PRECISION, not_found},
    repository::{is_quarantined, refer},
    store,
    sweep::is_over,
    upload::{MAX_TEXT_BYTES, hexadecimal},
};

/// Fetches at the same time: their files are held in memory.
const AT_ONCE: usize = 4;

/// What a response has besides the file, in bytes.
const FRAME: u64 = 16 << 10;

/// Bytes of a media id of another server.
const MAX_ID_BYTES: usize = 255;

/// How much is hashed and stored at once, in bytes.
const PORTION: usize = 128 << 10;

/// Media that are judged, and deleted, together.
const JUDGED: usize = 100;

type Key = (OwnedServerName, String);

/// The media that are being fetched.
pub(crate) struct Fetches {
    running: KeyLocks<Key>,
    space: Semaphore,
}

impl Default for Fetches {
    fn default() -> Self {
        Self { running: KeyLocks::default(), space: Semaphore::new(AT_ONCE) }
    }
}

impl MediaRepository {
    /// The file of a media id of this or another server, from which it is fetched if it is not kept here.
    ///
    /// # Errors
    /// As [`MediaRepository::content`]; 502 if the other server has no answer, or too large a file (`M_TOO_LARGE`).
    pub async fn content_of_any(
        self: &Arc<Self>,
        server_name: &ServerName,
        media_id: &str,
        patience: Duration,
    ) -> Result<Content> {
        if self.is_own(server_name) {
            return self.content(server_name, media_id, patience).await;
        }
        let Some(federation) = self.federation.as_ref().filter(|_| is_media_id(media_id)) else {
            return Err(not_found());
        };
        let key = (server_name.to_owned(), media_id.to_owned());
        if let Some(content) = self.kept(&key).await? {
            return Ok(content);
        }
        let _fetching = self.fetches.running.take(key.clone()).await;
        if let Some(content) = self.kept(&key).await? {
            return Ok(content);
        }
        let space = self.fetches.space.acquire().await;
        let _space = space.map_err(|error| Error::internal("fetches of media", error))?;
        let time = self.resources.config.federation.timeout.0;
        let bounds = Bounds { bytes: self.max_upload().saturating_add(FRAME), time };
        let file = federation.file(server_name, media_id, bounds).await.map_err(refused)?;
        if u64::try_from(file.bytes.len()).unwrap_or(u64::MAX) > self.max_upload() {
            return Err(too_large());
        }
        let (repository, of) = (Arc::clone(self), key.clone());
        let keep = async move { repository.keep_remote(of, file).await };
        self.supervisor.complete("media of another server", keep).await?;
        self.kept(&key).await?.ok_or_else(not_found)
    }

    /// The file of media that is kept here.
    async fn kept(&self, key: &Key) -> Result<Option<Content>> {
        let read = self.resources.database.published();
        let Some(media) = read.get(&REMOTE_MEDIA_BY_ID, key)? else { return Ok(None) };
        if is_quarantined(&read, &media.file)? {
            return Err(not_found());
        }
        let file = read.get(&FILE_BY_HASH, &media.file)?.ok_or_else(not_found)?;
        drop(read);
        self.note_remote_access(key, media.accessed).await?;
        Ok(Some(Content {
            size: media.size,
            content_type: media.content_type,
            file_name: media.file_name,
            tag: hexadecimal(&media.file),
            uploaded: media.fetched,
            name: file.name,
            file: media.file,
        }))
    }

    /// Notes that media is accessed, if the retention needs to know.
    async fn note_remote_access(&self, key: &Key, last: Timestamp) -> Result<()> {
        let now = self.now();
        let is_needed = !self.resources.config.media.retention_unused.0.is_zero();
        if !is_needed || last.after(ACCESS_PRECISION) > now {
            return Ok(());
        }
        self.resources
            .change_with(Durability::Flushed, |batch| {
                batch.update(&REMOTE_MEDIA_BY_ID, key, |media: Option<RemoteMedia>| {
                    media.map(|media| RemoteMedia { accessed: now, ..media })
                })?;
                Ok(())
            })
            .await
    }

    /// Stores a file with its row.
    async fn keep_remote(&self, key: Key, file: RemoteFile) -> Result<()> {
        let name = store::new_name(&*self.resources.random, self.now());
        let failed = store::failed("store media of another server");
        let mut writing = self.store.create(&name).await.map_err(&failed)?;
        let (mut bytes, mut hash) = (Bytes::from(file.bytes), Sha256::new());
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        while !bytes.is_empty() {
            let portion = bytes.split_to(PORTION.min(bytes.len()));
            hash.update(&portion);
            writing.write(portion).await.map_err(&failed)?;
        }
        writing.finish().await.map_err(failed)?;
        let short = |text: &String| text.len() <= MAX_TEXT_BYTES;
        let media = RemoteMedia {
            fetched: self.now(),
            accessed: self.now(),
            file: hash.finalize().into(),
            size,
            content_type: file.content_type.filter(short),
            file_name: file.file_name.filter(short),
        };
        let written = self
            .resources
            .change(|batch| {
                if batch.read_for_update(&REMOTE_MEDIA_BY_ID, &key)?.is_some() {
                    return Ok(false);
                }
                batch.put(&REMOTE_MEDIA_BY_ID, &key, &media);
                refer(batch, &media.file, &name)
            })
            .await;
        let is_in_use = match &written {
            Ok(is_in_use) => *is_in_use,
            // After another error the row may have been written: the sweep finds out.
            Err(error) => error.kind().is_none(),
        };
        if !is_in_use {
            self.discard(&[name]).await;
        }
        written.map(drop)
    }

    /// Deletes media of other servers that the configured retention no longer allows: it can be fetched again.
    pub(crate) async fn retain_remote(&self) -> Result<()> {
        let now = self.now();
        let mut range = Range::all();
        while !self.supervisor.stopping().is_cancelled() {
            let read = self.resources.database.published();
            let rows = read.scan(&REMOTE_MEDIA_BY_ID, range).take(JUDGED);
            let rows = rows.collect::<Result<Vec<_>, _>>()?;
            drop(read);
            let Some((last, _)) = rows.last() else { break };
            range = Range::after(last);
            let old = rows.iter().filter(|(_, media)| self.is_remote_too_old(media, now));
            let old: Vec<_> = old.map(|(key, _)| key).collect();
            if old.is_empty() {
                continue;
            }
            let files = self
                .resources
                .change(|batch| {
                    let mut files = Vec::new();
                    for key in &old {
                        let media = batch.read_for_update(&REMOTE_MEDIA_BY_ID, *key)?;
                        let Some(media) = media else { continue };
                        batch.delete(&REMOTE_MEDIA_BY_ID, *key);
                        release(batch, &media.file, &mut files)?;
                    }
                    Ok(files)
                })
                .await?;
            self.discard(&files).await;
        }
        Ok(())
    }

    fn is_remote_too_old(&self, media: &RemoteMedia, now: Timestamp) -> bool {
        let config = &self.resources.config.media;
        is_over(media.fetched, config.retention_age.0, now)
            || is_over(media.accessed, config.retention_unused.0, now)
    }
}

fn is_media_id(media_id: &str) -> bool {
    let is_sign = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    !media_id.is_empty() && media_id.len() <= MAX_ID_BYTES && media_id.bytes().all(is_sign)
}

/// What a client is answered if the other server refuses.
fn refused(error: Error) -> Error {
    let Error::Remote(failure) = &error else { return error };
    match failure.reason {
        RemoteReason::Refused { status: 404, .. } | RemoteReason::Forbidden => not_found(),
        _ => error,
    }
}

fn too_large() -> Error {
    Error::refused_with(502, ErrorKind::TooLarge, "the file is larger than this server keeps")
}
