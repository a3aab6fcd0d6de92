//! Copying a database that is in use.
//!
//! Invariant: a copy is marked as one until [`Database::adopt`](crate::Database::adopt), so that what must not be
//! done twice is not done again from the copy. So is a database whose log was cut.

use std::{fs, path::Path};

use rocksdb::checkpoint::Checkpoint;

use super::commit::Engine;
use crate::{Error, Result};

/// A file that a copy has until it is adopted.
const MARKER: &str = "COPY";

pub(super) fn backup(engine: &Engine, folder: &Path) -> Result<()> {
    Checkpoint::new(&engine.db)
        .and_then(|checkpoint| checkpoint.create_checkpoint(folder))
        .map_err(Error::engine)?;
    mark(folder)
}

/// Marks a database as one that lacks what was done since.
pub(super) fn mark(folder: &Path) -> Result<()> {
    fs::File::create(folder.join(MARKER))
        .and_then(|file| file.sync_all())
        .and_then(|()| fs::File::open(folder)?.sync_all())
        .map_err(Error::engine)
}

pub(super) fn is_copy(engine: &Engine) -> Result<bool> {
    engine.db.path().join(MARKER).try_exists().map_err(Error::engine)
}

pub(super) fn adopt(engine: &Engine) -> Result<()> {
    fs::remove_file(engine.db.path().join(MARKER)).map_err(Error::engine)
}
