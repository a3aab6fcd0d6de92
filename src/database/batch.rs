//! One user-visible change, written whole or not at all (R1).

mod effects;
mod portion;
mod required;
mod row;

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fmt,
};

use wick_core::Position;

pub(crate) use self::{
    effects::{Effects, is_in_effect},
    required::Requirements,
    row::{Late, LateRow, Row, Rows},
};
pub use self::{
    portion::first_portion,
    row::{Positions, Slot},
};
use crate::{
    Database, Error, Key, KeyLike, Range, Read, Result, Table, Topic, Value,
    intern::Promises,
    read::{View, sealed::Source},
};

/// Rows to write together. Made by [`Database::batch`], written by [`Database::commit`].
///
/// Reads and scans of a batch see the rows it is about to write, over the latest state.
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
    pub(crate) required: Requirements,
    pub(crate) topics: Vec<Topic>,
    /// Topics whose watches are woken although nothing was written there.
    pub(crate) bells: Vec<Topic>,
    pub(crate) slots: u64,
    pub(crate) promises: Promises,
    pub(crate) effects: Effects,
    /// Why it cannot be written.
    pub(crate) misuse: Option<&'static str>,
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

    /// Writes a row, in place of the stored one and of one that this batch has for the key already.
    pub fn put<K: Key, V: Value>(
        &mut self,
        table: &Table<K, V>,
        key: &(impl KeyLike<K> + ?Sized),
        value: &V,
    ) {
        self.set(table, key.encoded(), Row::Put(value.encode().into()));
    }

    /// Writes a row on condition that none is stored for the key. Otherwise nothing is written and the commit
    /// is [`Error::Conflict`].
    pub fn put_new<K: Key, V: Value>(
        &mut self,
        table: &Table<K, V>,
        key: &(impl KeyLike<K> + ?Sized),
        value: &V,
    ) {
        self.require(table, key, None);
        self.put(table, key, value);
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
        self.wake_about(table.topic(&key));
        let rows = self.change.rows.entry(table.name()).or_default();
        match rows.entry(key.into()) {
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

    /// The same, with `free` positions before it that nothing is written at now.
    pub fn reserve_position_after(&mut self, free: u64) -> Slot {
        self.change.slots = self.change.slots.saturating_add(free);
        self.reserve_position()
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
        let late = Late { provisional: value.encode().into(), row };
        self.set(table, key.encoded(), Row::Late(Box::new(late)));
    }

    /// The value of `key`, for a change that is computed from it: if the stored row is another one when
    /// the batch is written, nothing is written and the commit is [`Error::Conflict`]. From now on this
    /// batch reads the row as it was read here, however often.
    ///
    /// # Errors
    /// If the row cannot be read.
    pub fn read_for_update<K: Key, V: Value>(
        &mut self,
        table: &Table<K, V>,
        key: &(impl KeyLike<K> + ?Sized),
    ) -> Result<Option<V>> {
        let (name, key) = (table.name(), key.encoded());
        if self.known(name, &key).is_none() {
            let stored = self.view().get(name, &key, <[u8]>::to_vec)?;
            self.change.required.row(name, key.clone(), stored, None);
        }
        let decode = |row| V::decode(row).map_err(|source| Error::Codec { table: name, source });
        self.known(name, &key).flatten().map(decode).transpose()
    }

    /// Replaces the value of `key` by what `change` makes of it; `None` is a row that is not there. The
    /// value is read as by [`Batch::read_for_update`].
    ///
    /// # Errors
    /// If the row cannot be read.
    pub fn update<K: Key, V: Value>(
        &mut self,
        table: &Table<K, V>,
        key: &(impl KeyLike<K> + ?Sized),
        change: impl FnOnce(Option<V>) -> Option<V>,
    ) -> Result<()> {
        let old = self.read_for_update(table, key)?;
        let existed = old.is_some();
        match change(old) {
            Some(new) => self.put(table, key, &new),
            None if existed => self.delete(table, key),
            None => {}
        }
        Ok(())
    }

    /// The rows of a range, for a change that is computed from them: if the range holds other rows when
    /// the batch is written, nothing is written and the commit is [`Error::Conflict`]. The range is read
    /// again under the commit lock, so it must be a short one.
    ///
    /// # Errors
    /// If a row cannot be read.
    pub fn scan_for_update<K: Key, V: Value>(
        &mut self,
        table: &Table<K, V>,
        range: Range<K>,
    ) -> Result<Vec<(K, V)>> {
        let name = table.name();
        let mut rows = self.view().rows(name, &range)?;
        self.change.required.range(name, range.clone(), rows.clone());
        for (key, row) in self.change.rows.get(name).into_iter().flat_map(|rows| range.of(rows)) {
            match row.value() {
                Some(value) => drop(rows.insert(key.to_vec(), value.to_vec())),
                None => drop(rows.remove(&**key)),
            }
        }
        rows.iter()
            .map(|(key, value)| Ok((K::decode_all(key)?, V::decode(value)?)))
            .collect::<Result<_, _>>()
            .map_err(|source| Error::Codec { table: name, source })
    }

    /// Demands that a row is `expected` when the batch is written: only for a row that was read before the
    /// batch was made, as a timer that was decided to fire, or the cursor of what was consumed since.
    /// Otherwise nothing is written and the commit is [`Error::Conflict`]. What is read while the batch is
    /// filled is read by [`Batch::read_for_update`].
    pub fn require<K: Key, V: Value>(
        &mut self,
        table: &Table<K, V>,
        key: &(impl KeyLike<K> + ?Sized),
        expected: Option<&V>,
    ) {
        let expected = expected.map(Value::encode);
        let renew = |stored: &[u8]| V::decode(stored).map(|value| value.encode());
        self.change.required.row(table.name(), key.encoded(), expected, Some(renew));
    }

    /// Runs `effect` once the batch is written, before the commit is published or answered, whether or
    /// not the future of the commit is still polled. It does not run if the commit fails or is a
    /// conflict. For what follows in memory: to evict a row from a cache, to move a timer.
    ///
    /// Effects run under the commit lock, in the order of the commits. So an effect must be short and must not
    /// commit; nor may it take a lock that is held anywhere during a commit. Until the commit is
    /// published, snapshots show the former state: a cache that an effect evicts from is filled from
    /// [`Database::latest`].
    pub fn on_applied(&mut self, effect: impl FnOnce() + Send + 'static) {
        self.change.effects.add(effect);
    }

    /// Wakes the watches of `topic`, besides those of the tables that are written.
    pub fn wake(&mut self, topic: Topic) {
        self.wake_about(Some(topic));
    }

    /// Wakes the watches of `topic` for something that is written elsewhere: a room does not count as
    /// written in ([`Database::busy_since`]), so that reads for changes skip it.
    pub fn wake_only(&mut self, topic: Topic) {
        self.change.bells.push(topic);
    }

    /// Whether it would write nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it requires rows to be what they were.
    #[must_use]
    pub fn is_conditional(&self) -> bool {
        !self.change.required.is_empty()
    }

    /// Whether its commit would change nothing: it writes nothing, and nothing follows from it.
    #[must_use]
    pub fn is_void(&mut self) -> bool {
        let Change { topics, bells, effects, .. } = &mut self.change;
        topics.is_empty() && bells.is_empty() && effects.is_empty() && self.is_empty()
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

    fn known(&self, table: &'static str, key: &[u8]) -> Option<Option<&[u8]>> {
        self.pending(table, key).or_else(|| self.change.required.expected(table, key))
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
