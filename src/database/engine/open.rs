//! Opening the engine with the tables of the schema.
//!
//! Invariants: the folder is locked before anything in it is changed; one that a newer version wrote is left
//! as it was.

use std::{collections::BTreeSet, path::Path};

use rocksdb::{Cache, ColumnFamilyDescriptor, DB, Options as EngineOptions};

use super::{durable::Durable, log, profile, version};
use crate::{
    Error, KeyLike, Options, Profile, Result, Value, migrate, read,
    schema::{self, meta},
};

/// RocksDB has a table of this name always. It stays empty.
const DEFAULT: &str = "default";

/// Opens the engine and locks the folder.
pub(super) fn open(path: &Path, options: &Options) -> Result<(DB, Durable)> {
    version::check()?;
    std::fs::create_dir_all(path)
        .map_err(|error| Error::engine(format!("{}: {error}", path.display())))?;
    let mut settings = profile::database(options)?;
    let cache = Cache::new_lru_cache(options.cache_bytes);
    let durable = Durable::lock(path)?;
    let there = tables_in(path, &settings)?;
    settings.create_missing_column_families(there.is_empty());
    let known: Vec<(&str, Profile)> = std::iter::once((DEFAULT, Profile::Small))
        .chain(schema::all().map(|table| (table.name, table.profile)))
        .collect();
    refuse_unknown(&there, &known)?;
    if !there.is_empty() {
        log::mend(path, known_of_log(path, options, &durable)?)?;
    }

    let first = known
        .iter()
        .filter(|(name, _)| there.is_empty() || there.contains(*name))
        .map(|(name, of)| ColumnFamilyDescriptor::new(*name, profile::table(*of, &cache)));
    let mut db = DB::open_cf_descriptors(&settings, path, first).map_err(Error::engine)?;
    migrate::check(format(&db)?)?;
    for (name, of) in known {
        if db.cf_handle(name).is_none() {
            db.create_cf(name, &profile::table(of, &cache)).map_err(Error::engine)?;
        }
    }
    durable.settle(db.latest_sequence_number()).map_err(Error::engine)?;
    Ok((db, durable))
}

/// Brings a database with damaged logs to the state before the damage. Returns what was given up.
pub(super) fn salvage(path: &Path, options: &Options) -> Result<Option<String>> {
    version::check()?;
    let mut settings = profile::database(options)?;
    if tables_in(path, &settings)?.is_empty() {
        return Ok(None);
    }
    let durable = Durable::lock(path)?;
    let given_up = log::salvage(path, known_of_log(path, options, &durable)?)?;
    if given_up.is_some() {
        durable.forget()?;
    }
    // RocksDB has noted in its manifest which logs there were, and notes it anew.
    settings.set_track_and_verify_wals_in_manifest(false);
    let there = tables_in(path, &settings)?;
    drop(DB::open_cf(&settings, path, there).map_err(Error::engine)?);
    Ok(given_up)
}

fn known_of_log(path: &Path, options: &Options, durable: &Durable) -> Result<log::Known> {
    Ok(log::Known { flushed: flushed(path, options)?, durable: durable.sequence()? })
}

/// The last sequence number that is in the tables: that of the database without its logs. It is opened as a
/// secondary instance, which changes nothing and does not look for the logs that the manifest names.
fn flushed(path: &Path, options: &Options) -> Result<u64> {
    let mut settings = profile::database(options)?;
    settings.set_max_open_files(-1);
    let no_logs = path.join("no-logs");
    std::fs::create_dir_all(&no_logs).map_err(Error::engine)?;
    settings.set_wal_dir(&no_logs);
    let db = DB::open_cf_as_secondary(&settings, path, &no_logs, [DEFAULT]);
    let sequence = db.map_err(Error::engine)?.latest_sequence_number();
    std::fs::remove_dir(&no_logs).map_err(Error::engine)?;
    Ok(sequence)
}

/// The tables that the folder has. Empty: there is no database yet.
fn tables_in(path: &Path, settings: &EngineOptions) -> Result<BTreeSet<String>> {
    let there = path.join("CURRENT").try_exists().map_err(Error::engine)?;
    if !there {
        return Ok(BTreeSet::new());
    }
    Ok(DB::list_cf(settings, path).map_err(Error::engine)?.into_iter().collect())
}

fn refuse_unknown(there: &BTreeSet<String>, known: &[(&str, Profile)]) -> Result<()> {
    match there.iter().find(|name| known.iter().all(|(known, _)| known != name)) {
        Some(unknown) => Err(Error::Newer(
            format!("it has the table {unknown}, which this version does not know").into(),
        )),
        None => Ok(()),
    }
}

fn format(db: &DB) -> Result<Option<u64>> {
    if db.cf_handle(meta::META.name()).is_none() {
        return Ok(None);
    }
    number(db, meta::FORMAT)
}

/// A row of the meta table.
pub(super) fn number(db: &DB, name: &str) -> Result<Option<u64>> {
    let table = meta::META.name();
    db.get_pinned_cf(read::family(db, table)?, KeyLike::<String>::encoded(name))
        .map_err(Error::engine)?
        .map(|row| u64::decode(&row).map_err(|source| Error::Codec { table, source }))
        .transpose()
}
