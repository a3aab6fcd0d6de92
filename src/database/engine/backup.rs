//! Copying a database that is in use.

use std::path::Path;

use rocksdb::checkpoint::Checkpoint;

use super::commit::Engine;
use crate::{Error, Result};

pub(super) fn backup(engine: &Engine, folder: &Path) -> Result<()> {
    Checkpoint::new(&engine.db)
        .and_then(|checkpoint| checkpoint.create_checkpoint(folder))
        .map_err(Error::engine)
}
