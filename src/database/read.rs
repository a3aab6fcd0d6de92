//! Typed reads, the same from a snapshot, from the latest state and from a batch.
//!
//! Invariant (R3): absent is `None`, broken is `Err`.

use std::marker::PhantomData;

use rocksdb::{ColumnFamily, DB, DBRawIterator, ReadOptions};

use crate::{CodecError, Error, Key, KeyLike, Range, Result, Table, Value, snapshot::Held};

/// What is read from: the engine, perhaps as it was at some moment.
#[derive(Clone, Copy)]
pub struct View<'a> {
    pub(crate) db: &'a DB,
    pub(crate) at: Option<&'a Held<'a>>,
}

pub(crate) mod sealed {
    /// Something rows can be read from.
    pub trait Source {
        #[doc(hidden)]
        fn view(&self) -> super::View<'_>;

        /// What is to be written in place of the row, `Some(None)` if it is to be deleted.
        #[doc(hidden)]
        fn pending(&self, _table: &'static str, _key: &[u8]) -> Option<Option<&[u8]>> {
            None
        }
    }
}

/// Typed reads. Implemented by [`Snapshot`](crate::Snapshot), [`Latest`](crate::Latest) and
/// [`Batch`](crate::Batch).
pub trait Read: sealed::Source {
    /// The value of `key`.
    ///
    /// # Errors
    /// If the row cannot be read.
    fn get<K: Key, V: Value>(
        &self,
        table: &Table<K, V>,
        key: &(impl KeyLike<K> + ?Sized),
    ) -> Result<Option<V>> {
        let key = key.encoded();
        match self.pending(table.name(), &key) {
            Some(row) => row.map(|row| decode_value(table, row)).transpose(),
            None => {
                self.view().get(table.name(), &key, |row| decode_value(table, row))?.transpose()
            }
        }
    }

    /// Whether there is a row with this key.
    ///
    /// # Errors
    /// If the table cannot be read.
    fn contains<K: Key, V: Value>(
        &self,
        table: &Table<K, V>,
        key: &(impl KeyLike<K> + ?Sized),
    ) -> Result<bool> {
        let key = key.encoded();
        match self.pending(table.name(), &key) {
            Some(row) => Ok(row.is_some()),
            None => Ok(self.view().get(table.name(), &key, |_| ())?.is_some()),
        }
    }

    /// The values of many keys, in the order of the keys.
    ///
    /// # Errors
    /// If a row cannot be read.
    fn multi_get<K: Key, V: Value>(
        &self,
        table: &Table<K, V>,
        keys: impl IntoIterator<Item = impl KeyLike<K>>,
    ) -> Result<Vec<Option<V>>> {
        let keys: Vec<Vec<u8>> = keys.into_iter().map(|key| key.encoded()).collect();
        let rows = self.view().multi_get(table.name(), &keys)?;
        keys.iter()
            .zip(rows)
            .map(|(key, row)| match self.pending(table.name(), key) {
                Some(row) => row.map(|row| decode_value(table, row)).transpose(),
                None => {
                    row.map_err(Error::engine)?.map(|row| decode_value(table, &row)).transpose()
                }
            })
            .collect()
    }

    /// The rows of a range, ascending. A [`Batch`](crate::Batch) scans the latest state and not
    /// what it is about to write.
    fn scan<K: Key, V: Value>(&self, table: &Table<K, V>, range: Range<K>) -> Scan<'_, K, V> {
        Scan::new(self.view(), table, range, Direction::Ascending)
    }

    /// The rows of a range, descending. A [`Batch`](crate::Batch) scans the latest state and not
    /// what it is about to write.
    fn scan_back<K: Key, V: Value>(&self, table: &Table<K, V>, range: Range<K>) -> Scan<'_, K, V> {
        Scan::new(self.view(), table, range, Direction::Descending)
    }

    /// The first row of a range.
    ///
    /// # Errors
    /// If it cannot be read.
    fn first<K: Key, V: Value>(
        &self,
        table: &Table<K, V>,
        range: Range<K>,
    ) -> Result<Option<(K, V)>> {
        self.scan(table, range).next().transpose()
    }

    /// The last row of a range.
    ///
    /// # Errors
    /// If it cannot be read.
    fn last<K: Key, V: Value>(
        &self,
        table: &Table<K, V>,
        range: Range<K>,
    ) -> Result<Option<(K, V)>> {
        self.scan_back(table, range).next().transpose()
    }
}

impl<T: sealed::Source> Read for T {}

impl<T: sealed::Source> sealed::Source for &T {
    fn view(&self) -> View<'_> {
        (**self).view()
    }

    fn pending(&self, table: &'static str, key: &[u8]) -> Option<Option<&[u8]>> {
        (**self).pending(table, key)
    }
}

fn decode_value<K, V: Value>(table: &Table<K, V>, row: &[u8]) -> Result<V> {
    V::decode(row).map_err(|source| Error::Codec { table: table.name(), source })
}

/// The engine's handle of a table.
pub(crate) fn family<'a>(db: &'a DB, table: &'static str) -> Result<&'a ColumnFamily> {
    db.cf_handle(table).ok_or_else(|| Error::engine(format!("table {table} is not in the schema")))
}

type Pinned<'a> = Result<Option<rocksdb::DBPinnableSlice<'a>>, rocksdb::Error>;

impl<'a> View<'a> {
    fn get<R>(
        self,
        table: &'static str,
        key: &[u8],
        read: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>> {
        let family = family(self.db, table)?;
        let row = match self.at {
            Some(held) => self.db.get_pinned_cf_opt(family, key, &held.options),
            None => self.db.get_pinned_cf(family, key),
        };
        Ok(row.map_err(Error::engine)?.map(|row| read(&row)))
    }

    fn multi_get(self, table: &'static str, keys: &[Vec<u8>]) -> Result<Vec<Pinned<'a>>> {
        let family = family(self.db, table)?;
        Ok(match self.at {
            Some(held) => self.db.batched_multi_get_cf_opt(family, keys, false, &held.options),
            None => self.db.batched_multi_get_cf(family, keys, false),
        })
    }

    fn iterate<K>(self, table: &'static str, range: Range<K>) -> Result<DBRawIterator<'a>> {
        let mut options = ReadOptions::default();
        if let Some(held) = self.at {
            options.set_snapshot(&held.snapshot);
        }
        options.set_iterate_lower_bound(range.lower);
        if let Some(upper) = range.upper {
            options.set_iterate_upper_bound(upper);
        }
        Ok(self.db.raw_iterator_cf_opt(family(self.db, table)?, options))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Ascending,
    Descending,
}

/// The rows of a range, one after another. Ends after the first error.
pub struct Scan<'a, K, V> {
    rows: Rows<'a>,
    types: PhantomData<fn() -> (K, V)>,
}

/// The keys of a range, one after another. Ends after the first error.
pub struct Keys<'a, K> {
    rows: Rows<'a>,
    types: PhantomData<fn() -> K>,
}

struct Rows<'a> {
    table: &'static str,
    direction: Direction,
    state: State<'a>,
}

enum State<'a> {
    New(DBRawIterator<'a>),
    Moving(DBRawIterator<'a>),
    Failed(Error),
    Done,
}

impl<'a, K, V> Scan<'a, K, V> {
    fn new(view: View<'a>, table: &Table<K, V>, range: Range<K>, direction: Direction) -> Self {
        let state = if range.is_empty() {
            State::Done
        } else {
            view.iterate(table.name(), range).map_or_else(State::Failed, State::New)
        };
        Self { rows: Rows { table: table.name(), direction, state }, types: PhantomData }
    }

    /// The same without reading the values.
    #[must_use]
    pub fn keys(self) -> Keys<'a, K> {
        Keys { rows: self.rows, types: PhantomData }
    }
}

impl Rows<'_> {
    fn next<R>(
        &mut self,
        decode: impl FnOnce(&[u8], &[u8]) -> Result<R, CodecError>,
    ) -> Option<Result<R>> {
        let rows = match std::mem::replace(&mut self.state, State::Done) {
            State::Done => return None,
            State::Failed(error) => return Some(Err(error)),
            State::New(mut rows) => {
                match self.direction {
                    Direction::Ascending => rows.seek_to_first(),
                    Direction::Descending => rows.seek_to_last(),
                }
                rows
            }
            State::Moving(mut rows) => {
                match self.direction {
                    Direction::Ascending => rows.next(),
                    Direction::Descending => rows.prev(),
                }
                rows
            }
        };
        let decoded = match rows.item() {
            Some((key, value)) => decode(key, value),
            None => return rows.status().err().map(|error| Err(Error::engine(error))),
        };
        match decoded {
            Ok(row) => {
                self.state = State::Moving(rows);
                Some(Ok(row))
            }
            Err(source) => Some(Err(Error::Codec { table: self.table, source })),
        }
    }
}

impl<K: Key, V: Value> Iterator for Scan<'_, K, V> {
    type Item = Result<(K, V)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.rows.next(|key, value| Ok((K::decode_all(key)?, V::decode(value)?)))
    }
}

impl<K: Key> Iterator for Keys<'_, K> {
    type Item = Result<K>;

    fn next(&mut self) -> Option<Self::Item> {
        self.rows.next(|key, _| K::decode_all(key))
    }
}
