//! Crashes: a process that dies, a disk that fails, a log whose end is torn.

use std::{
    fs,
    path::{Path, PathBuf},
};

use proptest::prelude::*;
use wick_core::{Position, ShortRoomId};

use super::{At, Disk, Folder, is_ready, open};
use crate::{
    Batch, Database,
    Durability::{Flushed, Synced},
    Error, FaultAction, Range, Read,
    schema::probe::{NAME_BY_PLACE, NUMBER_BY_NAME},
};

const ROOM: ShortRoomId = ShortRoomId(1);

fn event(database: &Database, number: u64) -> Batch {
    let mut batch = database.batch();
    let slot = batch.reserve_position();
    batch.put(&NUMBER_BY_NAME, "last", &number);
    batch.put_at(slot, &NAME_BY_PLACE, move |at| ((ROOM, at), number.to_string()));
    batch
}

/// How many events there are, having checked that they are the first ones, each of them whole.
fn whole_events(database: &Database) -> u64 {
    let snapshot = database.published();
    let count = snapshot.position().0;
    let names: Vec<String> =
        snapshot.scan(&NAME_BY_PLACE, Range::all()).map(|row| row.unwrap().1).collect();
    assert_eq!(names, (1..=count).map(|number| number.to_string()).collect::<Vec<_>>());
    let last = snapshot.get(&NUMBER_BY_NAME, "last").unwrap();
    assert_eq!(last, (count > 0).then_some(count));
    count
}

#[tokio::test]
async fn a_process_that_dies_at_a_commit_leaves_whole_commits() {
    for (action, survives) in [(FaultAction::StopBefore, 2), (FaultAction::StopAfter, 3)] {
        let folder = Folder::new();
        let database = folder.open_with(At { at: 3, action });
        for number in 1..=2 {
            database.commit(event(&database, number), Synced).await.unwrap();
        }
        for number in 3..=4 {
            let dead = database.commit(event(&database, number), Synced).await.unwrap_err();
            assert!(matches!(dead, Error::Stopped), "{dead}");
        }
        assert_eq!(database.position(), Position(2), "nobody is told of a commit that died");
        drop(database);
        let database = folder.open();
        assert_eq!(whole_events(&database), survives);
        database.commit(event(&database, survives + 1), Synced).await.unwrap();
        assert_eq!(whole_events(&database), survives + 1);
    }
}

#[tokio::test]
async fn those_who_wait_when_the_process_dies_are_told_so() {
    let folder = Folder::new();
    struct Dying(Disk);
    impl crate::Fault for Dying {
        fn before_commit(&self, number: u64) -> FaultAction {
            if number == 3 { FaultAction::StopAfter } else { FaultAction::Proceed }
        }
        fn before_sync(&self) -> bool {
            self.0.before_sync()
        }
    }
    let disk = Disk::default();
    let database = folder.open_with(Dying(disk.clone()));
    disk.hold();
    let waiting = [1, 2].map(|number| database.write(event(&database, number), Synced).unwrap());
    assert!(database.write(event(&database, 3), Synced).is_err());
    disk.release();
    for waiting in waiting {
        assert!(matches!(waiting.await, Err(Error::Stopped)));
    }
    assert_eq!(database.position(), Position(0));
    drop(database);
    assert_eq!(whole_events(&folder.open()), 3);
}

#[tokio::test]
async fn a_failed_sync_is_told_to_all_who_wait_and_nothing_builds_on_it() {
    let folder = Folder::new();
    let disk = Disk::default();
    let database = folder.open_with(disk.clone());
    database.commit(event(&database, 1), Synced).await.unwrap();
    disk.hold();
    let mut waiting =
        [2, 3].map(|number| database.write(event(&database, number), Synced).unwrap());
    disk.break_down();
    assert!(waiting.iter_mut().all(|waiting| !is_ready(waiting)));
    disk.release();
    for waiting in waiting {
        assert!(matches!(waiting.await, Err(Error::Broken(_))));
    }
    let refused = database.write(event(&database, 4), Flushed).unwrap_err();
    assert!(matches!(refused, Error::Broken(_)), "{refused}");
    assert_eq!(database.position(), Position(1), "what was not durable is not published");
    assert!(matches!(database.close().await, Err(Error::Broken(_))));
    drop(database);
    let database = folder.open();
    assert_eq!(whole_events(&database), 3);
    database.commit(event(&database, 4), Synced).await.unwrap();
}

/// A folder with this many events in its log, and its newest log file.
fn folder_with_events(count: u64) -> (Folder, PathBuf) {
    let folder = Folder::new();
    let database = folder.open();
    for number in 1..=count {
        drop(database.write(event(&database, number), Synced).unwrap());
    }
    drop(database);
    let newest = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .max()
        .unwrap();
    (folder, newest)
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
    /// Damages the log; says how many of its bytes are as they were.
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
fn a_torn_log_ends_at_a_commit() {
    let count = 40;
    let (folder, log) = folder_with_events(count);
    let whole = fs::read(&log).unwrap();
    let copies = tempfile::tempdir().unwrap();
    let number = std::cell::Cell::new(0);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(48));
    runner
        .run(&damage(), |damage| {
            number.set(number.get() + 1);
            let torn = copies.path().join(number.get().to_string());
            copy(&folder.path(), &torn);
            let mut bytes = whole.clone();
            let intact = damage.does_to(&mut bytes);
            fs::write(torn.join(log.file_name().unwrap()), bytes).unwrap();

            let database = open(&torn);
            let found = whole_events(&database);
            // Nothing before the damage is lost, but for the commit that the damage is in. The first
            // commit is longer: it has the format version beside it.
            let size = whole.len() as u64 / count;
            let expected = (intact as u64 / size).saturating_sub(3);
            prop_assert!(found >= expected, "{found} of at least {expected}");
            drop(database.write(event(&database, found + 1), Synced).unwrap());
            drop(database);
            prop_assert_eq!(whole_events(&open(&torn)), found + 1);
            fs::remove_dir_all(&torn).unwrap();
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_torn_log_that_looks_like_a_reused_one_is_read_to_its_torn_end() {
    let (folder, log) = folder_with_events(5);
    let whole = fs::read(&log).unwrap();
    let copies = tempfile::tempdir().unwrap();
    for kind in [0, 1, 4, 5, 8, 9, 11, 12, 130, 131, 255] {
        let torn = copies.path().join(kind.to_string());
        copy(&folder.path(), &torn);
        let garbage = [7, 7, 7, 7, 12, 0, kind, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14];
        fs::write(torn.join(log.file_name().unwrap()), [&*whole, &garbage].concat()).unwrap();
        let database = open(&torn);
        assert_eq!(whole_events(&database), 5);
        drop(database.write(event(&database, 6), Synced).unwrap());
        drop(database);
        assert_eq!(whole_events(&open(&torn)), 6);
    }
}
