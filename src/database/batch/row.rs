//! What a batch does with each row, and the positions that are known only once it is written.

use std::collections::BTreeMap;

use wick_core::Position;

/// The rows of one table that a batch writes, by encoded key. They are kept small: joining a large room writes three for
/// each member, in one batch.
pub(crate) type Rows = BTreeMap<Box<[u8]>, Row>;

/// What a batch does with a row.
pub enum Row {
    /// Writes it.
    Put(Box<[u8]>),
    /// Deletes it.
    Delete,
    /// Writes it with positions that are known under the commit lock. Its key here is the one it has with
    /// provisional positions.
    Late(Box<Late>),
}

/// A row that needs positions.
pub struct Late {
    /// Its value with provisional positions.
    pub(crate) provisional: Box<[u8]>,
    /// Makes the row.
    pub(crate) row: LateRow,
}

impl Row {
    /// What a read of the row finds.
    pub(crate) fn value(&self) -> Option<&[u8]> {
        match self {
            Self::Put(value) => Some(value),
            Self::Late(late) => Some(&late.provisional),
            Self::Delete => None,
        }
    }

    /// Whether `key`, under which the batch has it, will be another one once the positions are known.
    pub(super) fn has_provisional_key(self, key: &[u8]) -> bool {
        match self {
            Self::Late(late) => (late.row)(Positions::from(0)).0 != key,
            Self::Put(_) | Self::Delete => false,
        }
    }
}

/// Makes a row once the positions are known.
pub(crate) type LateRow = Box<dyn FnOnce(Positions) -> (Vec<u8>, Vec<u8>) + Send + Sync>;

/// A position of a batch, by its number among them; given out under the commit lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot(pub(crate) u64);

/// Above every position that is ever given out, and still a positive `i64`.
const PROVISIONAL: u64 = 1 << 62;

impl Slot {
    /// The position at which the batch itself reads the rows of this slot.
    pub(super) fn provisional(self) -> Position {
        Position(PROVISIONAL.saturating_add(self.0))
    }
}

/// The positions of a batch: the true ones under the commit lock, before that the provisional ones.
#[derive(Clone, Copy, Debug)]
pub struct Positions {
    first: Option<u64>,
}

impl Positions {
    pub(super) const PROVISIONAL: Self = Self { first: None };

    pub(crate) fn from(first: u64) -> Self {
        Self { first: Some(first) }
    }

    /// What becomes of a position that was read from the batch. One that is not provisional stays.
    #[must_use]
    pub fn of(self, position: Position) -> Position {
        match (self.first, position.0.checked_sub(PROVISIONAL)) {
            (Some(first), Some(slot)) => Position(first.saturating_add(slot)),
            _ => position,
        }
    }

    /// The same for a place in a timeline, which is a position or, in history from elsewhere, negative.
    #[must_use]
    pub fn of_place(self, place: i64) -> i64 {
        u64::try_from(place)
            .ok()
            .and_then(|position| i64::try_from(self.of(Position(position)).0).ok())
            .unwrap_or(place)
    }
}
