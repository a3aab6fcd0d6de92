//! The only crate that names RocksDB: every table once, typed; batches, snapshots, watchers.
