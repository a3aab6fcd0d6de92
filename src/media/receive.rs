//! Files that arrive in portions, from clients and from other servers: hashed and stored meanwhile.
//!
//! Invariants: what arrives takes no more memory than a portion; a file that is dropped before its end leaves nothing unless the
//! process crashes (the sweep removes that); files arrive well before the sweep takes them for orphans.

use std::{mem, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use ruma::api::error::ErrorKind;
use sha2::{Digest, Sha256};
use wick_core::{Error, Result, Timestamp};
use wick_database::schema::media::FileHash;

use crate::{
    MediaRepository,
    store::{self, Writing},
};

/// How much is hashed and stored at once, in bytes.
const PORTION: usize = 128 * 1024;

/// The longest a file may take to arrive.
pub(crate) const MAX_DURATION: Duration = Duration::from_secs(6 * 3600);

/// A file that is arriving.
pub(crate) struct Receiving {
    repository: Arc<MediaRepository>,
    begun: Timestamp,
    name: String,
    writing: Box<dyn Writing>,
    hash: Sha256,
    portion: BytesMut,
    size: u64,
}

/// A file that is stored, and has no row yet.
pub(crate) struct Received {
    /// Its name in the store.
    pub(crate) name: String,
    pub(crate) hash: FileHash,
    /// Its size in bytes.
    pub(crate) size: u64,
}

impl Receiving {
    /// Begins a file.
    ///
    /// # Errors
    /// 507 if there is no space.
    pub(crate) async fn begin(repository: &Arc<MediaRepository>) -> Result<Self> {
        let begun = repository.now();
        let name = store::new_name(&*repository.resources.random, begun);
        let writing =
            repository.store.create(&name).await.map_err(store::failed("begin a file"))?;
        Ok(Self {
            repository: Arc::clone(repository),
            begun,
            name,
            writing,
            hash: Sha256::new(),
            portion: BytesMut::with_capacity(PORTION),
            size: 0,
        })
    }

    /// Bytes that have arrived.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Takes bytes.
    ///
    /// # Errors
    /// 507 if there is no space, 408 if it takes too long.
    pub(crate) async fn write(&mut self, mut bytes: Bytes) -> Result<()> {
        self.size = self.size.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        while !bytes.is_empty() {
            let room = PORTION.saturating_sub(self.portion.len());
            self.portion.extend_from_slice(&bytes.split_to(room.min(bytes.len())));
            if self.portion.len() >= PORTION {
                self.store_portion().await?;
            }
        }
        Ok(())
    }

    async fn store_portion(&mut self) -> Result<()> {
        if self.repository.now() > self.begun.after(MAX_DURATION) {
            return Err(Error::refused_with(408, ErrorKind::Unknown, "the upload takes too long"));
        }
        let portion = mem::replace(&mut self.portion, BytesMut::with_capacity(PORTION)).freeze();
        self.hash.update(&portion);
        self.writing.write(portion).await.map_err(store::failed("store a file"))
    }

    /// Completes the file.
    ///
    /// # Errors
    /// As [`Receiving::write`].
    pub(crate) async fn finish(mut self) -> Result<Received> {
        self.store_portion().await?;
        let Self { name, writing, hash, size, .. } = self;
        writing.finish().await.map_err(store::failed("complete a file"))?;
        Ok(Received { name, hash: hash.finalize().into(), size })
    }
}

impl MediaRepository {
    /// Removes a stored file whose row was not written, or names another file with the same content.
    pub(crate) async fn settle<T>(&self, name: String, written: Result<(bool, T)>) -> Result<T> {
        let is_in_use = match &written {
            Ok((is_in_use, _)) => *is_in_use,
            // After another error the row may have been written: the sweep finds out.
            Err(error) => error.kind().is_none(),
        };
        if !is_in_use {
            self.discard(&[name]).await;
        }
        written.map(|(_, value)| value)
    }
}
