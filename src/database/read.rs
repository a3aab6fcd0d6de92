//! Typed reads, the same from a snapshot, from the latest state and from a batch.
//!
//! Invariant (R3): absent is `None`, broken is `Err`.

use std::collections::BTreeMap;

use rocksdb::{ColumnFamily, DB, DBRawIterator, ReadOptions};

use crate::{
    Error, Key, KeyLike, Range, Result, Scan, Table, Value, batch::Rows, scan::Direction,
    snapshot::Held,
};

/// What is read from: the engine, perhaps as it was at some moment.
#[derive(Clone, Copy)]
pub struct View<'a> {
    pub(crate) db: &'a DB,
    pub(crate) at: Option<&'a Held<'a>>,
}

pub(crate) mod sealed {
    use crate::batch::Rows;

    /// Something rows can be read from.
    pub trait Source {
        #[doc(hidden)]
        fn view(&self) -> super::View<'_>;

        /// The rows of a table that are to be written in place of what is stored.
        #[doc(hidden)]
        fn pending_rows(&self, _table: &'static str) -> Option<&Rows> {
            None
        }

        /// The value that is to be written in place of the row, `Some(None)` if the row is to be deleted.
        #[doc(hidden)]
        fn pending(&self, table: &'static str, key: &[u8]) -> Option<Option<&[u8]>> {
            self.pending_rows(table)?.get(key).map(crate::batch::Row::value)
        }

        /// The value of a row that is known without a look at what is stored.
        #[doc(hidden)]
        fn known(&self, table: &'static str, key: &[u8]) -> Option<Option<&[u8]>> {
            self.pending(table, key)
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
        match self.known(table.name(), &key) {
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
        match self.known(table.name(), &key) {
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
            .map(|(key, row)| match self.known(table.name(), key) {
                Some(row) => row.map(|row| decode_value(table, row)).transpose(),
                None => {
                    row.map_err(Error::engine)?.map(|row| decode_value(table, &row)).transpose()
                }
            })
            .collect()
    }

    /// The rows of a range, ascending.
    fn scan<K: Key, V: Value>(&self, table: &Table<K, V>, range: Range<K>) -> Scan<'_, K, V> {
        Scan::new(self, table, range, Direction::Ascending)
    }

    /// The rows of a range, descending.
    fn scan_back<K: Key, V: Value>(&self, table: &Table<K, V>, range: Range<K>) -> Scan<'_, K, V> {
        Scan::new(self, table, range, Direction::Descending)
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

    fn pending_rows(&self, table: &'static str) -> Option<&Rows> {
        (**self).pending_rows(table)
    }

    fn known(&self, table: &'static str, key: &[u8]) -> Option<Option<&[u8]>> {
        (**self).known(table, key)
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
    pub(crate) fn get<R>(
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

    /// The encoded rows of a range.
    pub(crate) fn rows<K>(
        self,
        table: &'static str,
        range: &Range<K>,
    ) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
        let mut rows = BTreeMap::new();
        if range.is_empty() {
            return Ok(rows);
        }
        let mut stored = self.iterate(table, range.clone())?;
        stored.seek_to_first();
        while let Some((key, value)) = stored.item() {
            rows.insert(key.to_vec(), value.to_vec());
            stored.next();
        }
        stored.status().map_err(Error::engine)?;
        Ok(rows)
    }

    pub(crate) fn iterate<K>(
        self,
        table: &'static str,
        range: Range<K>,
    ) -> Result<DBRawIterator<'a>> {
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
