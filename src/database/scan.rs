//! The rows of a range, one after another: the stored ones, merged with those that a batch is about to
//! write.
//!
//! Invariant: a row of the batch takes the place of the stored row with the same key.

use std::{cmp::Ordering, collections::btree_map, marker::PhantomData};

use rocksdb::DBRawIterator;

use crate::{
    CodecError, Error, Key, Range, Result, Table, Value,
    batch::{Row, Rows},
    read::sealed::Source,
};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Ascending,
    Descending,
}

impl Direction {
    /// Which key comes first.
    fn compare(self, one: &[u8], other: &[u8]) -> Ordering {
        match self {
            Self::Ascending => one.cmp(other),
            Self::Descending => other.cmp(one),
        }
    }
}

/// The rows of a range, one after another. Ends after the first error.
pub struct Scan<'a, K, V> {
    rows: Merged<'a>,
    types: PhantomData<fn() -> (K, V)>,
}

/// The keys of a range, one after another. Ends after the first error.
pub struct ScanKeys<'a, K> {
    rows: Merged<'a>,
    types: PhantomData<fn() -> K>,
}

impl<'a, K, V> Scan<'a, K, V> {
    pub(crate) fn new(
        source: &'a (impl Source + ?Sized),
        table: &Table<K, V>,
        range: Range<K>,
        direction: Direction,
    ) -> Self {
        let rows = Merged::new(source, table.name(), range, direction);
        Self { rows, types: PhantomData }
    }

    /// The same without reading the values.
    #[must_use]
    pub fn keys(self) -> ScanKeys<'a, K> {
        ScanKeys { rows: self.rows, types: PhantomData }
    }
}

impl<K: Key, V: Value> Iterator for Scan<'_, K, V> {
    type Item = Result<(K, V)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.rows.next(|key, value| Ok((K::decode_all(key)?, V::decode(value)?)))
    }
}

impl<K: Key> Iterator for ScanKeys<'_, K> {
    type Item = Result<K>;

    fn next(&mut self) -> Option<Self::Item> {
        self.rows.next(|key, _| K::decode_all(key))
    }
}

/// Both kinds of rows in one order.
struct Merged<'a> {
    table: &'static str,
    state: State<'a>,
}

enum State<'a> {
    Open { stored: Stored<'a>, pending: Option<PendingRows<'a>> },
    Failed(Error),
    Done,
}

impl<'a> Merged<'a> {
    fn new<K>(
        source: &'a (impl Source + ?Sized),
        table: &'static str,
        range: Range<K>,
        direction: Direction,
    ) -> Self {
        let state = if range.is_empty() {
            State::Done
        } else {
            let pending = source
                .pending_rows(table)
                .filter(|rows| !rows.is_empty())
                .map(|rows| PendingRows::new(rows, &range, direction));
            match source.view().iterate(table, range) {
                Ok(rows) => {
                    let stored = Stored { rows, direction, place: Place::Start };
                    State::Open { stored, pending }
                }
                Err(error) => State::Failed(error),
            }
        };
        Self { table, state }
    }

    fn next<R>(
        &mut self,
        decode: impl FnOnce(&[u8], &[u8]) -> Result<R, CodecError>,
    ) -> Option<Result<R>> {
        let table = self.table;
        let row = match &mut self.state {
            State::Open { stored, pending } => next_row(stored, pending, |key, value| {
                decode(key, value).map_err(|source| Error::Codec { table, source })
            }),
            State::Failed(error) => Some(Err(error.clone())),
            State::Done => None,
        };
        if !matches!(row, Some(Ok(_))) {
            self.state = State::Done;
        }
        row
    }
}

/// The next row of the two, without those that are to be deleted.
fn next_row<R>(
    stored: &mut Stored<'_>,
    pending: &mut Option<PendingRows<'_>>,
    decode: impl FnOnce(&[u8], &[u8]) -> Result<R>,
) -> Option<Result<R>> {
    loop {
        stored.settle();
        let on_disk = stored.rows.item();
        if on_disk.is_none()
            && let Err(error) = stored.rows.status()
        {
            return Some(Err(Error::engine(error)));
        }
        let in_batch = pending.as_ref().and_then(|pending| pending.next);
        let order = match (on_disk, in_batch) {
            (None, None) => return None,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((stored_key, _)), Some((key, _))) => stored.direction.compare(stored_key, key),
        };
        if order.is_le() {
            stored.place = Place::Used;
        }
        if order.is_ge()
            && let Some(pending) = pending
        {
            pending.advance();
        }
        let row = match order {
            Ordering::Less => on_disk,
            _ => in_batch.and_then(|(key, value)| value.map(|value| (key, value))),
        };
        if let Some((key, value)) = row {
            return Some(decode(key, value));
        }
    }
}

/// The stored rows.
struct Stored<'a> {
    rows: DBRawIterator<'a>,
    direction: Direction,
    place: Place,
}

/// Where an engine's iterator stands.
#[derive(Clone, Copy)]
enum Place {
    /// Before the first row.
    Start,
    /// At a row that is not used yet, or past the last one.
    Unused,
    /// At a row that is used.
    Used,
}

impl Stored<'_> {
    /// Moves to the first row that is not used.
    fn settle(&mut self) {
        match (self.place, self.direction) {
            (Place::Start, Direction::Ascending) => self.rows.seek_to_first(),
            (Place::Start, Direction::Descending) => self.rows.seek_to_last(),
            (Place::Used, Direction::Ascending) => self.rows.next(),
            (Place::Used, Direction::Descending) => self.rows.prev(),
            (Place::Unused, _) => {}
        }
        self.place = Place::Unused;
    }
}

/// The rows of a batch.
struct PendingRows<'a> {
    rest: btree_map::Range<'a, Box<[u8]>, Row>,
    direction: Direction,
    next: Option<PendingRow<'a>>,
}

/// A key with the value that is to be written, `None` if the row is to be deleted.
type PendingRow<'a> = (&'a [u8], Option<&'a [u8]>);

impl<'a> PendingRows<'a> {
    fn new<K>(rows: &'a Rows, range: &Range<K>, direction: Direction) -> Self {
        let rest = range.of(rows);
        let mut pending = Self { rest, direction, next: None };
        pending.advance();
        pending
    }

    fn advance(&mut self) {
        let row = match self.direction {
            Direction::Ascending => self.rest.next(),
            Direction::Descending => self.rest.next_back(),
        };
        self.next = row.map(|(key, row)| (&**key, row.value()));
    }
}
