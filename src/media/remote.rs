//! Media of other servers: fetched when it is asked for, and kept like a file of this server.
//!
//! Invariants: media is fetched once at a time, and once in all while it is kept; what is fetched has at most the size of an
//! upload, and takes no more memory than a portion; a fetch goes on if its client hangs up; a file and its references are
//! counted together with those of local media.

use std::{sync::Arc, time::Duration};

use ruma::{OwnedServerName, ServerName, api::error::ErrorKind};
use wick_core::{Error, RemoteReason, Result};
use wick_database::{
    Read,
    schema::media::{REMOTE_MEDIA_BY_ID, RemoteMedia},
};
use wick_federation::{Federation, FileTurn};
use wick_runtime::KeyLocks;

use crate::{
    Content, Description, MediaRepository,
    download::not_found,
    kind::{Kind, Remote},
    receive::{Received, Receiving},
    repository::refer,
};

/// Bytes of a media id of another server.
const MAX_ID_BYTES: usize = 255;

type Key = <Remote as Kind>::Key;

/// The media that are being fetched.
pub(crate) type Fetches = KeyLocks<(OwnedServerName, String)>;

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
        let key = Remote::key(server_name, media_id);
        if let Some(content) = self.kept(&key).await? {
            return Ok(content);
        }
        let fetching = self.fetches.take(key.clone()).await;
        if let Some(content) = self.kept(&key).await? {
            return Ok(content);
        }
        let turn = federation.file_turn(server_name).await.map_err(refused)?;
        let (repository, federation, of) = (Arc::clone(self), Arc::clone(federation), key.clone());
        let fetch = async move {
            let _fetching = fetching;
            let stopping = repository.supervisor.stopping();
            tokio::select! {
                result = repository.fetch(&federation, turn, &of) => result,
                () = stopping.cancelled() => Err(stops()),
            }
        };
        self.supervisor.complete("media of another server", fetch).await?;
        self.kept(&key).await?.ok_or_else(not_found)
    }

    /// The file of media that is kept here.
    async fn kept(&self, key: &Key) -> Result<Option<Content>> {
        let media = self.resources.database.published().get(&REMOTE_MEDIA_BY_ID, key)?;
        match media {
            Some(media) => self.serve::<Remote>(key, media).await.map(Some),
            None => Ok(None),
        }
    }

    /// Fetches a file and stores it with its row.
    async fn fetch(
        self: &Arc<Self>,
        federation: &Federation,
        turn: FileTurn,
        key: &Key,
    ) -> Result<()> {
        let (_, media_id) = key;
        let max = self.max_upload();
        let mut file = federation.file(turn, media_id, max).await.map_err(refused)?;
        let mut receiving = Receiving::begin(self).await?;
        while let Some(bytes) = file.chunk().await.map_err(refused)? {
            let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            if receiving.size().saturating_add(length) > max {
                return Err(too_large());
            }
            receiving.write(bytes).await?;
        }
        let description = Description {
            content_type: file.content_type.take(),
            file_name: file.file_name.take(),
        };
        drop(file);
        self.keep_remote(key, receiving.finish().await?, description.short()).await
    }

    async fn keep_remote(
        &self,
        key: &Key,
        received: Received,
        description: Description,
    ) -> Result<()> {
        let Received { name, hash, size } = received;
        let Description { content_type, file_name } = description;
        let now = self.now();
        let media =
            RemoteMedia { fetched: now, accessed: now, file: hash, size, content_type, file_name };
        let written = self
            .resources
            .change(|batch| {
                if batch.read_for_update(&REMOTE_MEDIA_BY_ID, key)?.is_some() {
                    return Ok((false, ()));
                }
                batch.put(&REMOTE_MEDIA_BY_ID, key, &media);
                Ok((refer(batch, &media.file, &name)?, ()))
            })
            .await;
        self.settle(name, written).await
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
        RemoteReason::TooLarge => too_large(),
        _ => error,
    }
}

fn stops() -> Error {
    Error::refused_with(503, ErrorKind::Unknown, "the server is stopping")
}

fn too_large() -> Error {
    Error::refused_with(502, ErrorKind::TooLarge, "the file is larger than this server keeps")
}
