//! Damaged logs: a torn end is cut off, anything else keeps the database from opening.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use proptest::prelude::*;

use super::{
    Folder,
    crash::{event, whole_events},
    open,
};
use crate::{
    Database,
    Durability::{Flushed, Synced},
    Error, Options,
};

/// The logs of a database, the oldest first.
fn logs(folder: &Path) -> Vec<PathBuf> {
    let mut logs: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    logs.sort();
    logs
}

/// Adds events that are durable.
fn add_durable(database: &Database, count: u64) {
    let first = database.position().0 + 1;
    let pending: Vec<_> = (first..first + count)
        .map(|number| database.write(event(database, number), Synced).unwrap())
        .collect();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for pending in pending {
        runtime.block_on(pending).unwrap();
    }
}

/// A database of several runs with this many durable events each.
fn folder_of_runs(counts: &[u64]) -> Folder {
    let folder = Folder::new();
    for count in counts {
        add_durable(&folder.open(), *count);
    }
    folder
}

fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files
        .filter(|path| path.is_file())
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect()
}

/// The database is not opened, and not changed by the attempt.
fn is_refused(folder: &Path) {
    let before = contents(folder);
    for _ in 0..2 {
        let error = Database::open(folder, Options::default()).unwrap_err();
        assert!(matches!(error, Error::Damaged(_)), "{error}");
        assert!(error.to_string().contains("wick check --salvage"), "{error}");
    }
    let after = contents(folder);
    let of_logs = |files: &BTreeMap<PathBuf, Vec<u8>>| {
        files.iter().filter(|(path, _)| path.extension().is_some_and(|e| e == "log")).count()
    };
    assert_eq!(of_logs(&before), of_logs(&after));
    for (path, content) in before {
        // RocksDB's own messages go there.
        if !path.file_name().unwrap().to_str().unwrap().starts_with("LOG") {
            assert!(after.get(&path) == Some(&content), "{} has changed", path.display());
        }
    }
}

/// After a salvage the database opens, and works.
fn is_salvaged(folder: &Path) -> u64 {
    assert!(Database::salvage(folder, &Options::default()).unwrap().is_some());
    let database = open(folder);
    // Like a copy, it lacks what was done since.
    assert!(database.is_copy().unwrap());
    let found = whole_events(&database);
    add_durable(&database, 1);
    database.adopt().unwrap();
    drop(database);
    assert_eq!(whole_events(&open(folder)), found + 1);
    assert_eq!(Database::salvage(folder, &Options::default()).unwrap(), None);
    assert!(!open(folder).is_copy().unwrap());
    found
}

fn flip(log: &Path, at: usize) {
    let mut bytes = fs::read(log).unwrap();
    bytes[at] ^= 0x55;
    fs::write(log, bytes).unwrap();
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// What a power loss can do to the end of a log.
#[derive(Clone, Debug)]
enum Damage {
    Cut(prop::sample::Index),
    CutAndGarbage(prop::sample::Index, Vec<u8>),
    Zeroes(prop::sample::Index),
    Flipped(prop::sample::Index),
}

fn damage() -> impl Strategy<Value = Damage> {
    let place = any::<prop::sample::Index>;
    prop_oneof![
        place().prop_map(Damage::Cut),
        (place(), proptest::collection::vec(any::<u8>(), 1..64))
            .prop_map(|(place, garbage)| Damage::CutAndGarbage(place, garbage)),
        place().prop_map(Damage::Zeroes),
        place().prop_map(Damage::Flipped),
    ]
}

impl Damage {
    /// Damages the log. Returns how many of its bytes are as they were.
    fn does_to(&self, log: &mut Vec<u8>) -> usize {
        match self {
            Self::Cut(place) => {
                let at = place.index(log.len());
                log.truncate(at);
                at
            }
            Self::CutAndGarbage(place, garbage) => {
                let at = place.index(log.len());
                log.truncate(at);
                log.extend(garbage);
                at
            }
            Self::Zeroes(place) => {
                let at = place.index(log.len());
                log[at..].fill(0);
                at
            }
            Self::Flipped(place) => {
                let at = place.index(log.len());
                log[at] ^= 0x55;
                at
            }
        }
    }
}

#[test]
fn a_torn_log_ends_at_a_commit_and_damage_to_what_was_durable_is_refused() {
    let (durable, count) = (20, 40);
    let folder = Folder::new();
    let database = folder.open();
    add_durable(&database, durable);
    let log = logs(&folder.path()).pop().unwrap();
    let durable_bytes = fs::metadata(&log).unwrap().len();
    for number in durable + 1..=count {
        drop(database.write(event(&database, number), Flushed).unwrap());
    }
    drop(database);
    let whole = fs::read(&log).unwrap();
    let copies = tempfile::tempdir().unwrap();
    let number = std::cell::Cell::new(0);
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(48) };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    runner
        .run(&damage(), |damage| {
            number.set(number.get() + 1);
            let torn = copies.path().join(number.get().to_string());
            copy(&folder.path(), &torn);
            let mut bytes = whole.clone();
            let intact = damage.does_to(&mut bytes) as u64;
            let is_intact = bytes == whole;
            fs::write(torn.join(log.file_name().unwrap()), bytes).unwrap();

            let found = if intact < durable_bytes && !is_intact {
                is_refused(&torn);
                is_salvaged(&torn)
            } else {
                let database = open(&torn);
                let found = whole_events(&database);
                prop_assert!(found >= durable, "{found} of at least {durable}");
                add_durable(&database, 1);
                drop(database);
                prop_assert_eq!(whole_events(&open(&torn)), found + 1);
                found
            };
            // Nothing before the damage is lost, but for the commit that the damage is in. The first
            // commit is longer: it has the format version beside it.
            let size = whole.len() as u64 / count;
            let expected = (intact / size).saturating_sub(3);
            prop_assert!(found >= expected, "{found} of at least {expected}");
            fs::remove_dir_all(&torn).unwrap();
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_torn_log_that_looks_like_a_reused_one_is_read_to_its_torn_end() {
    let folder = folder_of_runs(&[5]);
    let log = logs(&folder.path()).pop().unwrap();
    let whole = fs::read(&log).unwrap();
    let copies = tempfile::tempdir().unwrap();
    for kind in [0, 1, 4, 5, 8, 9, 11, 12, 130, 131, 255] {
        let torn = copies.path().join(kind.to_string());
        copy(&folder.path(), &torn);
        let garbage = [7, 7, 7, 7, 12, 0, kind, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14];
        fs::write(torn.join(log.file_name().unwrap()), [&*whole, &garbage].concat()).unwrap();
        let database = open(&torn);
        assert_eq!(whole_events(&database), 5);
        add_durable(&database, 1);
        drop(database);
        assert_eq!(whole_events(&open(&torn)), 6);
    }
}

#[test]
fn a_flipped_byte_in_the_middle_of_the_only_log_is_refused() {
    let folder = folder_of_runs(&[300]);
    let log = logs(&folder.path()).pop().unwrap();
    flip(&log, fs::read(&log).unwrap().len() / 2);
    is_refused(&folder.path());
    let found = is_salvaged(&folder.path());
    assert!((100..200).contains(&found), "{found}");
}

#[test]
fn damage_to_any_log_but_the_end_of_the_newest_is_refused() {
    // The logs of three runs, and that of the last one.
    let folder = folder_of_runs(&[30, 30, 30, 10]);
    let copies = tempfile::tempdir().unwrap();
    let all = logs(&folder.path());
    assert!(all.len() >= 4, "{all:?}");
    let with_events: Vec<_> =
        all.iter().filter(|log| fs::metadata(log).unwrap().len() > 0).cloned().collect();
    for (index, log) in with_events.iter().enumerate() {
        let bytes = fs::read(log).unwrap().len();
        for (kind, at) in [("begin", 6), ("middle", bytes / 2), ("end", bytes - 3)] {
            let damaged = copies.path().join(format!("{kind}{index}"));
            copy(&folder.path(), &damaged);
            flip(&damaged.join(log.file_name().unwrap()), at);
            is_refused(&damaged);
            let found = is_salvaged(&damaged);
            assert!((30 * index as u64..=30 * (index as u64 + 1)).contains(&found), "{found}");
        }
    }
}

#[test]
fn a_deleted_log_is_refused() {
    let folder = folder_of_runs(&[30, 30, 10]);
    let copies = tempfile::tempdir().unwrap();
    for (index, log) in logs(&folder.path()).iter().enumerate() {
        if fs::metadata(log).unwrap().len() == 0 {
            continue;
        }
        let damaged = copies.path().join(index.to_string());
        copy(&folder.path(), &damaged);
        fs::remove_file(damaged.join(log.file_name().unwrap())).unwrap();
        is_refused(&damaged);
    }
    let only = folder_of_runs(&[30]);
    fs::remove_file(logs(&only.path()).pop().unwrap()).unwrap();
    is_refused(&only.path());
    assert_eq!(is_salvaged(&only.path()), 0);
}

#[test]
fn without_a_note_of_what_was_durable_a_torn_end_is_told_by_what_follows() {
    let folder = folder_of_runs(&[40]);
    fs::remove_file(folder.path().join("DURABLE")).unwrap();
    let log = logs(&folder.path()).pop().unwrap();
    let bytes = fs::read(&log).unwrap().len();
    let copies = tempfile::tempdir().unwrap();
    let damaged = copies.path().join("damaged");
    copy(&folder.path(), &damaged);
    flip(&damaged.join(log.file_name().unwrap()), bytes / 2);
    is_refused(&damaged);

    fs::OpenOptions::new().write(true).open(&log).unwrap().set_len(bytes as u64 - 3).unwrap();
    assert_eq!(whole_events(&folder.open()), 39);
}

#[test]
fn a_folder_in_use_is_refused_and_not_touched() {
    let folder = Folder::new();
    let database = folder.open();
    add_durable(&database, 3);
    let before = contents(&folder.path());
    let error = Database::open(&folder.path(), Options::default()).unwrap_err();
    assert!(error.to_string().contains("in use"), "{error}");
    assert!(Database::salvage(&folder.path(), &Options::default()).is_err());
    assert!(contents(&folder.path()) == before);
    add_durable(&database, 1);
    drop(database);
    assert_eq!(whole_events(&folder.open()), 4);
}

#[tokio::test]
async fn a_closed_database_knows_that_all_of_its_log_is_durable() {
    let folder = Folder::new();
    let database = folder.open();
    for number in 1..=5 {
        drop(database.write(event(&database, number), Flushed).unwrap());
    }
    database.close().await.unwrap();
    drop(database);
    let log = logs(&folder.path()).pop().unwrap();
    let bytes = fs::metadata(&log).unwrap().len();
    fs::OpenOptions::new().write(true).open(&log).unwrap().set_len(bytes - 1).unwrap();
    is_refused(&folder.path());
}

#[test]
fn a_backup_opens_without_the_note() {
    let folder = folder_of_runs(&[10]);
    let copies = tempfile::tempdir().unwrap();
    let copied = copies.path().join("backup");
    let database = folder.open();
    add_durable(&database, 5);
    database.backup(&copied).unwrap();
    assert_eq!(whole_events(&open(&copied)), 15);
}
