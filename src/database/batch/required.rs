//! What a change was computed from, and must still hold when it is written.
//!
//! Invariant: a row has one expected value in a batch.

use std::collections::BTreeMap;

use rocksdb::DB;

use crate::{CodecError, Error, Range, Result, read::View};

/// The rows and ranges that a batch requires.
#[derive(Default)]
pub(crate) struct Requirements {
    rows: BTreeMap<&'static str, BTreeMap<Vec<u8>, Required>>,
    ranges: Vec<RequiredRange>,
    /// A table with a row that cannot be as it is required, because two values are.
    contradiction: Option<&'static str>,
}

/// Brings a stored value of an older format to the present one.
type Renew = fn(&[u8]) -> Result<Vec<u8>, CodecError>;

struct Required {
    expected: Option<Vec<u8>>,
    renew: Option<Renew>,
}

struct RequiredRange {
    table: &'static str,
    range: Range<()>,
    expected: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Requirements {
    pub(super) fn row(
        &mut self,
        table: &'static str,
        key: Vec<u8>,
        expected: Option<Vec<u8>>,
        renew: Option<Renew>,
    ) {
        let required = self
            .rows
            .entry(table)
            .or_default()
            .entry(key)
            .or_insert_with(|| Required { expected: expected.clone(), renew });
        if !required.is_met_by(expected.as_deref(), renew).unwrap_or(false) {
            self.contradiction = Some(table);
        }
    }

    pub(super) fn range<K>(
        &mut self,
        table: &'static str,
        range: Range<K>,
        expected: BTreeMap<Vec<u8>, Vec<u8>>,
    ) {
        self.ranges.push(RequiredRange { table, range: range.untyped(), expected });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.ranges.is_empty()
    }

    /// The value that a row must have, if it is required.
    pub(super) fn expected(&self, table: &str, key: &[u8]) -> Option<Option<&[u8]>> {
        self.rows.get(table)?.get(key).map(|required| required.expected.as_deref())
    }

    /// Compares with what is stored.
    pub(crate) fn check(&self, db: &DB) -> Result<()> {
        if let Some(table) = self.contradiction {
            return Err(Error::Conflict { table });
        }
        let view = View { db, at: None };
        for (table, rows) in &self.rows {
            for (key, required) in rows {
                let is_met = view
                    .get(table, key, |stored| required.is_met_by(Some(stored), required.renew))?
                    .unwrap_or_else(|| required.is_met_by(None, None))
                    .map_err(|source| Error::Codec { table, source })?;
                if !is_met {
                    return Err(Error::Conflict { table });
                }
            }
        }
        for RequiredRange { table, range, expected } in &self.ranges {
            if view.rows(table, range)? != *expected {
                return Err(Error::Conflict { table });
            }
        }
        Ok(())
    }
}

impl Required {
    fn is_met_by(&self, found: Option<&[u8]>, renew: Option<Renew>) -> Result<bool, CodecError> {
        match (found, &self.expected) {
            (None, None) => Ok(true),
            (Some(found), Some(expected)) if found == expected => Ok(true),
            (Some(found), Some(expected)) => match renew {
                Some(renew) => Ok(renew(found)? == *expected),
                None => Ok(false),
            },
            _ => Ok(false),
        }
    }
}
