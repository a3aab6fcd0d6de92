//! What can go wrong in the database. Cloneable, because one failed sync is the error of many commits.

use std::sync::Arc;

use crate::CodecError;

/// A result whose error is [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a read or a commit did not happen.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The storage engine refused: an I/O error, a full disk, broken files. Nothing of the batch
    /// was written; the commit can be tried again.
    #[error("storage engine: {0}")]
    Engine(Arc<str>),
    /// A row does not have the form its table promises.
    #[error("broken row in table {table}: {source}")]
    Codec {
        /// The table.
        table: &'static str,
        /// What was wrong.
        source: CodecError,
    },
    /// A row that the batch requires is not what it requires. Nothing was written.
    #[error("a row of table {table} has changed meanwhile")]
    Conflict {
        /// The table.
        table: &'static str,
    },
    /// The database was closed, or a test simulates a crash of the process.
    #[error("database is closed")]
    Stopped,
    /// The log could not be made durable, so what is on disk is unknown until the next start.
    #[error("database refuses commits until it is restarted: {0}")]
    Broken(Arc<str>),
    /// Commits that were durable cannot be read. Nothing was changed.
    #[error(
        "database is damaged: {0}; restore a backup, or run `wick check --salvage` to continue with the state before the damage"
    )]
    Damaged(Arc<str>),
    /// The folder was written by a newer version of this server.
    #[error("database was written by a newer version of this server: {0}")]
    Newer(Arc<str>),
}

impl Error {
    pub(crate) fn engine(error: impl ToString) -> Self {
        Self::Engine(error.to_string().into())
    }

    /// Whether a required row had changed; the change can be computed anew and tried again.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict { .. })
    }
}

impl From<Error> for wick_core::Error {
    fn from(error: Error) -> Self {
        Self::internal("database", error)
    }
}
