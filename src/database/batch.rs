//! One user-visible change, written whole or not at all (R1).

use std::{collections::BTreeMap, fmt};

use wick_core::Position;

use crate::{
    CodecError, Database, Key, KeyLike, Range, Read, Result, Table, Topic, Value,
    intern::Promises,
    read::{View, sealed::Source},
    table::Wakes,
};

/// The rows of one table that are to be written, by encoded key; `None` deletes.
pub(crate) type Rows = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// Rows to write together. Made by [`Database::batch`], written by [`Database::commit`].
///
/// Reading from a batch sees what it is about to write, and the latest state beneath; scans see the
/// latest state alone.
pub struct Batch {
    database: Database,
    pub(crate) change: Change,
}

/// What a batch does.
#[derive(Default)]
pub(crate) struct Change {
    pub(crate) rows: BTreeMap<&'static str, Rows>,
    pub(crate) late: Vec<Late>,
    pub(crate) required: Vec<Required>,
    pub(crate) topics: Vec<Topic>,
    pub(crate) slots: u64,
    pub(crate) promises: Promises,
}

/// A row that is known once its position is.
pub(crate) struct Late {
    pub(crate) slot: Slot,
    pub(crate) table: &'static str,
    pub(crate) wakes: Wakes,
    pub(crate) row: LateRow,
}

type LateRow = Box<dyn FnOnce(Position) -> (Vec<u8>, Vec<u8>) + Send + Sync>;

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
        self.set(table, key.encoded(), Some(value.encode()));
    }

    /// Deletes a row. It need not be there.
    pub fn delete<K: Key, V: Value>(
        &mut self,
        table: &Table<K, V>,
        key: &(impl KeyLike<K> + ?Sized),
    ) {
        self.set(table, key.encoded(), None);
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
        let latest = self.database.latest();
        for key in latest.scan(table, range.clone()).keys() {
            self.set(table, key?.encoded(), None);
        }
        let within = |key: &[u8]| {
            *key >= *range.lower && range.upper.as_ref().is_none_or(|upper| *key < **upper)
        };
        for (key, row) in self.change.rows.entry(table.name()).or_default() {
            if within(key) {
                *row = None;
            }
        }
        Ok(())
    }

    fn set<K, V>(&mut self, table: &Table<K, V>, key: Vec<u8>, row: Option<Vec<u8>>) {
        self.wake_about(table.wakes().topic(&key));
        self.change.rows.entry(table.name()).or_default().insert(key, row);
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

    /// Writes a row that needs the position of `slot`, in its key or in its value. `row` runs under
    /// the commit lock: it must be short and read nothing. Reads of this batch do not see the row.
    pub fn put_at<K: Key, V: Value>(
        &mut self,
        slot: Slot,
        table: &Table<K, V>,
        row: impl FnOnce(Position) -> (K, V) + Send + Sync + 'static,
    ) {
        let row: LateRow = Box::new(move |position| {
            let (key, value) = row(position);
            (key.encoded(), value.encode())
        });
        let (table, wakes) = (table.name(), table.wakes());
        self.change.late.push(Late { slot, table, wakes, row });
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
        self.change.rows.values().map(BTreeMap::len).sum::<usize>() + self.change.late.len()
    }
}

impl Source for Batch {
    fn view(&self) -> View<'_> {
        View { db: self.database.engine(), at: None }
    }

    fn pending(&self, table: &'static str, key: &[u8]) -> Option<Option<&[u8]>> {
        self.change.rows.get(table)?.get(key).map(Option::as_deref)
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
