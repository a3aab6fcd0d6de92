//! Commits that fail on purpose, for crash tests.

/// Decides what happens to commits. Called under the commit lock, once for each batch that met its
/// preconditions.
pub trait Fault: Send + Sync + 'static {
    /// What happens to the `number`-th commit since the database was opened, counted from 1. The
    /// commits that opening itself makes are not counted.
    fn before_commit(&self, number: u64) -> FaultAction;

    /// Whether the next sync of the log succeeds.
    fn before_sync(&self) -> bool {
        true
    }
}

/// What happens to a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultAction {
    /// It is written.
    Proceed,
    /// It fails as if the disk had refused it; later ones are asked about anew.
    Fail,
    /// It is a conflict, as if a row that it requires had changed; later ones are asked about anew.
    Conflict,
    /// The process crashes before it is written: it and all later ones are [`Error::Stopped`](crate::Error::Stopped).
    StopBefore,
    /// The process crashes after it is written, before it is answered.
    StopAfter,
}
