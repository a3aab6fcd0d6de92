//! One user-visible change, written whole or not at all (R1).

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fmt,
};

use wick_core::Position;

use crate::{
    CodecError, Database, Key, KeyLike, Range, Read, Result, Table, Topic, Value,
    intern::Promises,
    read::{View, sealed::Source},
};

/// The rows of one table that a batch writes, by encoded key.
pub(crate) type Rows = BTreeMap<Vec<u8>, Row>;

/// What a batch does with a row.
pub enum Row {
    /// Writes it.
    Put(Vec<u8>),
    /// Deletes it.
    Delete,
    /// Writes it with positions that are known under the commit lock. Its key here is the one it has with
    /// provisional positions.
    Late {
        /// Its value with provisional positions.
        provisional: Vec<u8>,
        /// Makes the row.
        row: LateRow,
    },
}

impl Row {
    /// What a read of the row finds.
    pub(crate) fn value(&self) -> Option<&[u8]> {
        match self {
            Self::Put(value) | Self::Late { provisional: value, .. } => Some(value),
            Self::Delete => None,
        }
    }

    /// Whether `key`, under which the batch has it, will be another one once the positions are known.
    fn has_provisional_key(self, key: &[u8]) -> bool {
        match self {
            Self::Late { row, .. } => row(Positions::from(0)).0 != key,
            Self::Put(_) | Self::Delete => false,
        }
    }
}

/// Makes a row once the positions are known.
pub(crate) type LateRow = Box<dyn FnOnce(Positions) -> (Vec<u8>, Vec<u8>) + Send + Sync>;

/// Rows to write together. Made by [`Database::batch`], written by [`Database::commit`].
///
/// Reads and scans of a batch see the rows it is about to write, and the latest state beneath.
///
/// # Provisional positions
///
/// A row of [`Batch::put_at`] has its position only once the batch is written. Until then the batch
/// itself reads it at a provisional position, which is above every position given out and orders by slot.
/// Such a position can be compared, and can be part of the key of a read or of a deletion. A row that holds it is written
/// with [`Batch::put_resolved`].
pub struct Batch {
    database: Database,
    pub(crate) change: Change,
}

/// What a batch does.
#[derive(Default)]
pub(crate) struct Change {
    pub(crate) rows: BTreeMap<&'static str, Rows>,
    pub(crate) required: Vec<Required>,
    pub(crate) topics: Vec<Topic>,
    pub(crate) slots: u64,
    pub(crate) promises: Promises,
    /// Why it cannot be written.
    pub(crate) misuse: Option<&'static str>,
}

/// A row that must be as the change was computed from.
pub(crate) struct Required {
    pub(crate) table: &'static str,
    pub(crate) key: Vec<u8>,
    pub(crate) expected: Option<Vec<u8>>,
    /// Brings a stored value of an older format to the present one.
    pub(crate) renew: fn(&[u8]) -> Result<Vec<u8>, CodecError>,
}

/// A position of a batch, by its number among them; given out under the commit lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot(pub(crate) u64);

/// Above every position that is ever given out, and still a positive `i64`.
const PROVISIONAL: u64 = 1 << 62;

impl Slot {
    /// The position at which the batch itself reads the rows of this slot.
    fn provisional(self) -> Position {
        Position(PROVISIONAL.saturating_add(self.0))
    }
}

/// The positions of a batch: the true ones under the commit lock, before that the provisional ones.
#[derive(Clone, Copy, Debug)]
pub struct Positions {
    first: Option<u64>,
}

impl Positions {
    const PROVISIONAL: Self = Self { first: None };

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

impl Batch {
    pub(crate) fn new(database: Database) -> Self {
        Self { database, change: Change::default() }
    }

    /// The database it is for.
    #[must_use]
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// Writes a row, in place of what is there and of what this batch said about it before.
    pub fn put<K: Key, V: Value>(
        &mut self,
        table: &Table<K, V>,
        key: &(impl KeyLike<K> + ?Sized),
        value: &V,
    ) {
        self.set(table, key.encoded(), Row::Put(value.encode()));
    }

    /// Deletes a row. It need not be there.
    pub fn delete<K: Key, V: Value>(
        &mut self,
        table: &Table<K, V>,
        key: &(impl KeyLike<K> + ?Sized),
    ) {
        self.set(table, key.encoded(), Row::Delete);
    }

    /// Deletes the rows of a range: those of the latest state and those this batch was to write.
    ///
    /// # Errors
    /// If the range cannot be read.
    pub fn delete_range<K: Key, V: Value>(
        &mut self,
        table: &Table<K, V>,
        range: Range<K>,
    ) -> Result<()> {
        let keys = self.scan(table, range).keys().collect::<Result<Vec<K>>>()?;
        for key in keys {
            self.set(table, key.encoded(), Row::Delete);
        }
        Ok(())
    }

    fn set<K, V>(&mut self, table: &Table<K, V>, key: Vec<u8>, row: Row) {
        self.wake_about(table.wakes().topic(&key));
        let rows = self.change.rows.entry(table.name()).or_default();
        match rows.entry(key) {
            Entry::Vacant(place) => drop(place.insert(row)),
            Entry::Occupied(mut place) => {
                let is_provisional = place.insert(row).has_provisional_key(place.key());
                match place.get() {
                    // Nothing is stored under a provisional key.
                    Row::Delete if is_provisional => drop(place.remove()),
                    Row::Put(_) if is_provisional => {
                        self.change.misuse = Some("a row was put under a provisional position");
                    }
                    _ => {}
                }
            }
        }
    }

    fn wake_about(&mut self, topic: Option<Topic>) {
        if topic.is_some() && self.change.topics.last() != topic.as_ref() {
            self.change.topics.extend(topic);
        }
    }

    /// Asks for a position in the stream. The positions of a batch follow one another, and are above
    /// those of all batches written before.
    pub fn reserve_position(&mut self) -> Slot {
        let slot = Slot(self.change.slots);
        self.change.slots += 1;
        slot
    }

    /// Writes a row that needs the position of `slot`, in its key or in its value. `row` runs twice: at
    /// once, for this batch's own reads, with a [provisional position](Self#provisional-positions), and
    /// under the commit lock with the true one. It must be short and read nothing.
    pub fn put_at<K: Key, V: Value>(
        &mut self,
        slot: Slot,
        table: &Table<K, V>,
        row: impl FnOnce(Position) -> (K, V) + Clone + Send + Sync + 'static,
    ) {
        if slot.0 >= self.change.slots {
            self.change.misuse = Some("a slot of another batch");
        }
        self.put_resolved(table, move |positions| row(positions.of(slot.provisional())));
    }

    /// Writes a row that needs positions which were read from this batch. `row` runs twice, as for
    /// [`Batch::put_at`].
    pub fn put_resolved<K: Key, V: Value>(
        &mut self,
        table: &Table<K, V>,
        row: impl FnOnce(Positions) -> (K, V) + Clone + Send + Sync + 'static,
    ) {
        let (key, value) = row.clone()(Positions::PROVISIONAL);
        let row: LateRow = Box::new(move |positions| {
            let (key, value) = row(positions);
            (key.encoded(), value.encode())
        });
        self.set(table, key.encoded(), Row::Late { provisional: value.encode(), row });
    }

    /// Demands that a row of the latest state is what `expected` says when the batch is written.
    /// Otherwise nothing is written and the commit is [`Error::Conflict`](crate::Error::Conflict).
    pub fn require<K: Key, V: Value>(
        &mut self,
        table: &Table<K, V>,
        key: &(impl KeyLike<K> + ?Sized),
        expected: Option<&V>,
    ) {
        self.change.required.push(Required {
            table: table.name(),
            key: key.encoded(),
            expected: expected.map(Value::encode),
            renew: |stored| V::decode(stored).map(|value| value.encode()),
        });
    }

    /// Wakes those who watch `topic`, besides what the touched tables wake.
    pub fn wake(&mut self, topic: Topic) {
        self.wake_about(Some(topic));
    }

    /// Whether it would write nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many rows it would write or delete.
    #[must_use]
    pub fn len(&self) -> usize {
        self.change.rows.values().map(BTreeMap::len).sum()
    }
}

impl Source for Batch {
    fn view(&self) -> View<'_> {
        View { db: self.database.engine(), at: None }
    }

    fn pending_rows(&self, table: &'static str) -> Option<&Rows> {
        self.change.rows.get(table)
    }
}

impl fmt::Debug for Batch {
    /// Counts, without contents: they can be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("rows", &self.len())
            .field("positions", &self.change.slots)
            .finish_non_exhaustive()
    }
}
