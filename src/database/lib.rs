//! The only crate that names RocksDB: every table once, typed; batches, snapshots, watchers.
//!
//! Invariants: every change is a [`Batch`], written whole or not at all (R1); positions are given out
//! in the order of the log and published once durable (R2); a row that is not there is `None`, one
//! that cannot be read is an error (R3).

mod activity;
mod batch;
pub mod codec;
mod engine;
mod error;
mod intern;
mod migrate;
mod range;
mod read;
mod scan;
pub mod schema;
mod snapshot;
mod table;
mod watch;

#[cfg(test)]
mod tests;

pub use self::{
    batch::{Batch, Positions, Slot, first_portion},
    codec::{CodecError, Descending, Key, KeyLike, PrefixOf, Value},
    engine::{
        Database, Options,
        commit::{Committed, Durability, Pending},
        fault::{Fault, FaultAction},
    },
    error::{Error, Result},
    intern::Interner,
    migrate::VERSION as FORMAT_VERSION,
    range::Range,
    read::Read,
    scan::{Scan, ScanKeys},
    snapshot::{Latest, Snapshot},
    table::{Profile, StartsWith, Table, TableInfo},
    watch::{Listener, Topic, Watch},
};
