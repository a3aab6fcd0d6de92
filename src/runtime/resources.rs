//! What every use case works with, and the one way in which rows are read, changed and written.

use std::sync::Arc;

use tokio::sync::Mutex;
use wick_core::{Clock, Config, Error, Random, Result};
use wick_database::{Batch, Database, Durability};

use crate::{Limits, Workers};

/// How often a change is computed anew because another one came between.
const ATTEMPTS: usize = 16;

/// Handles that are made in `main` and shared by all use cases.
#[derive(Clone)]
pub struct Resources {
    /// The configuration.
    pub config: Arc<Config>,
    /// The database.
    pub database: Database,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Makes tokens and ids.
    pub random: Arc<dyn Random>,
    /// Rate limits.
    pub limits: Arc<Limits>,
    /// Threads for work of more than about a millisecond.
    pub workers: Arc<Workers>,
    /// Held by a change that runs again after a conflict.
    pub conflicts: ConflictLock,
}

/// The lock of changes that run again after a conflict: one at a time, so that many changes of one row do not
/// conflict until they give up. It makes nothing correct: a change requires what it read.
#[derive(Clone, Debug, Default)]
pub struct ConflictLock(Arc<Mutex<()>>);

impl Resources {
    /// Waits until all that is written is durable and published: what was read from the latest state may
    /// come from a request that is not answered itself yet.
    ///
    /// # Errors
    /// If the log cannot be made durable.
    pub async fn settle(&self) -> Result<()> {
        self.database.settle(self.database.batch())?.await?;
        Ok(())
    }

    /// Makes a durable change that depends on rows it reads. `build` reads them with
    /// [`Batch::read_for_update`]; if they changed meanwhile, it runs again. A change that finds
    /// nothing to write waits until the rows it read are durable, since another request may have just written them.
    ///
    /// # Errors
    /// Those of `build` and of the database.
    pub async fn change<T>(&self, build: impl FnMut(&mut Batch) -> Result<T> + Send) -> Result<T> {
        self.change_with(Durability::Synced, build).await
    }

    /// As [`Resources::change`], with the given durability.
    ///
    /// # Errors
    /// As [`Resources::change`].
    pub async fn change_with<T>(
        &self,
        durability: Durability,
        mut build: impl FnMut(&mut Batch) -> Result<T> + Send,
    ) -> Result<T> {
        let mut attempt = 1;
        let mut lock = None;
        loop {
            let mut batch = self.database.batch();
            let result = match build(&mut batch) {
                Ok(result) => result,
                // Rows that changed between two reads need not fit each other.
                Err(_) if attempt < ATTEMPTS && self.database.has_changed(&batch)? => {
                    attempt += 1;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let pending = match (batch.is_void(), batch.is_conditional()) {
                (true, false) => return Ok(result),
                (true, true) => self.database.settle(batch),
                (false, _) => self.database.write(batch, durability),
            };
            match pending {
                Ok(pending) => {
                    drop(lock);
                    pending.await?;
                    return Ok(result);
                }
                Err(error) if error.is_conflict() && attempt < ATTEMPTS => {
                    attempt += 1;
                    if lock.is_none() {
                        lock = Some(self.conflicts.0.lock().await);
                    }
                }
                Err(error) => return Err(Error::from(error)),
            }
        }
    }
}
