//! Where reads come from: a published snapshot, or the latest state.
//!
//! Invariant: a [`Snapshot`] is one moment of the log at which everything was durable (or did not ask
//! to be), and its position is the last one given out at that moment (R2).

use std::{fmt, sync::Arc};

use rocksdb::{DB, ReadOptions};
use self_cell::self_cell;
use wick_core::Position;

use crate::read::{View, sealed::Source};

/// An engine snapshot with read options that point at it.
pub(crate) struct Held<'a> {
    pub(crate) options: ReadOptions,
    pub(crate) snapshot: rocksdb::Snapshot<'a>,
}

self_cell!(
    struct Cell {
        owner: Arc<DB>,
        #[covariant]
        dependent: Held,
    }
);

/// The newest state that readers may see when it was taken: consistent, never torn, and durable as
/// far as its commits asked for. Cheap to clone; keep it for one request, not for longer: the engine
/// cannot drop overwritten rows that a snapshot still sees.
#[derive(Clone)]
pub struct Snapshot(Arc<Inner>);

struct Inner {
    cell: Cell,
    position: Position,
}

impl Snapshot {
    pub(crate) fn take(db: &Arc<DB>, position: Position) -> Self {
        let cell = Cell::new(Arc::clone(db), |db| {
            let snapshot = db.snapshot();
            let mut options = ReadOptions::default();
            options.set_snapshot(&snapshot);
            Held { options, snapshot }
        });
        Self(Arc::new(Inner { cell, position }))
    }

    /// The last position that can be seen: everything at or below it is there, nothing above it is.
    #[must_use]
    pub fn position(&self) -> Position {
        self.0.position
    }
}

impl Source for Snapshot {
    fn view(&self) -> View<'_> {
        let cell = &self.0.cell;
        View { db: cell.borrow_owner(), at: Some(cell.borrow_dependent()) }
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("position", &self.0.position).finish_non_exhaustive()
    }
}

/// Everything written, published or not. For writers that hold a room's lock, and for timers. Each read sees
/// the state of its own moment.
#[derive(Clone)]
pub struct Latest(pub(crate) Arc<DB>);

impl Source for Latest {
    fn view(&self) -> View<'_> {
        View { db: &self.0, at: None }
    }
}

impl fmt::Debug for Latest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Latest").finish_non_exhaustive()
    }
}
