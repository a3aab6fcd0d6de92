//! The file beside the log that holds how far the log is durable. It is also the lock on the folder.
//!
//! Invariant: the number in it is never above what is durable. It is written after each sync of the log and is not
//! synced itself, so a power loss can take it back: it is a lower bound, by which a torn end of the log
//! differs from the loss of commits that were answered.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read, Seek},
    os::unix::fs::FileExt,
    path::Path,
};

use crate::{Error, Result};

const NAME: &str = "DURABLE";

/// The open file, locked until it is dropped.
pub(crate) struct Durable {
    file: File,
}

impl Durable {
    /// Locks the folder for this process.
    pub(super) fn lock(folder: &Path) -> Result<Self> {
        let path = folder.join(NAME);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|error| Error::engine(format!("{}: {error}", path.display())))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { file }),
            Err(TryLockError::WouldBlock) => {
                Err(Error::engine(format!("{} is in use by another process", folder.display())))
            }
            Err(TryLockError::Error(error)) => Err(Error::engine(error)),
        }
    }

    /// The last sequence number of the log that is durable, if it is known.
    pub(super) fn sequence(&self) -> Result<Option<u64>> {
        let mut text = String::new();
        let mut file = &self.file;
        file.rewind().and_then(|()| file.read_to_string(&mut text)).map_err(Error::engine)?;
        Ok(text.trim_end().parse().ok())
    }

    /// Notes that the log is durable up to this sequence number.
    pub(super) fn note(&self, sequence: u64) {
        if let Err(error) = self.file.write_all_at(format!("{sequence:020}\n").as_bytes(), 0) {
            tracing::warn!(%error, "cannot note how far the log is durable");
        }
    }

    /// As [`Durable::note`], and makes the note itself durable.
    pub(super) fn settle(&self, sequence: u64) -> io::Result<()> {
        self.note(sequence);
        self.file.sync_all()
    }

    /// Forgets how far the log was durable, because part of it is given up.
    pub(super) fn forget(&self) -> Result<()> {
        self.file.set_len(0).and_then(|()| self.file.sync_all()).map_err(Error::engine)
    }
}
