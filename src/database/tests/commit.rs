//! The commit path: order, publication, group commit, restarts, backups.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use ruma::room_id;
use wick_core::{Position, ShortRoomId};

use super::{At, Disk, Folder, is_ready, open};
use crate::{
    Batch, Database,
    Durability::{Flushed, Logged, Synced},
    Error, FaultAction, Options, Range, Read, Slot,
    schema::{
        meta::{self, META},
        probe::{NAME_BY_PLACE, NUMBER_BY_NAME},
    },
};

const ROOM: ShortRoomId = ShortRoomId(1);

/// A batch with one event, whose position is in both a row and its key.
fn event(database: &Database, name: &str) -> (Batch, Slot) {
    let mut batch = database.batch();
    let slot = batch.reserve_position();
    let name = name.to_owned();
    batch.put_at(slot, &NUMBER_BY_NAME, {
        let name = name.clone();
        move |at| (name, at.0)
    });
    batch.put_at(slot, &NAME_BY_PLACE, move |at| ((ROOM, at), name));
    (batch, slot)
}

fn refresh(database: &Database, number: u64) -> Batch {
    let mut batch = database.batch();
    batch.put(&NUMBER_BY_NAME, "refresh", &number);
    batch
}

#[tokio::test]
async fn a_committed_row_is_published_and_survives_a_drop_without_close() {
    let folder = Folder::new();
    let database = folder.open();
    let (mut batch, slot) = event(&database, "a");
    let room = room_id!("!room:example.org");
    let short = database.intern().room(room, &mut batch).unwrap();
    let committed = database.commit(batch, Synced).await.unwrap();
    assert_eq!(committed.at(slot), Some(Position(1)));
    drop(database);

    let database = folder.open();
    let snapshot = database.published();
    assert_eq!(snapshot.position(), Position(1));
    assert_eq!(snapshot.get(&NUMBER_BY_NAME, "a").unwrap(), Some(1));
    assert_eq!(database.intern().room_id(&snapshot, short).unwrap().as_deref(), Some(room));
    drop((snapshot, database));

    let database = folder.open();
    let (batch, _) = event(&database, "b");
    let committed = database.commit(batch, Synced).await.unwrap();
    assert_eq!(committed.position, Position(2), "positions never go backwards");
}

#[tokio::test]
async fn a_closed_database_refuses_commits_and_has_all_that_were_written() {
    let folder = Folder::new();
    let database = folder.open();
    let pending: Vec<_> = (0..20)
        .map(|number| database.write(event(&database, &number.to_string()).0, Synced).unwrap())
        .collect();
    database.close().await.unwrap();
    database.close().await.unwrap();
    for pending in pending {
        pending.await.unwrap();
    }
    let late = database.write(event(&database, "late").0, Synced).unwrap_err();
    assert!(matches!(late, Error::Stopped), "{late}");
    drop(database);
    assert_eq!(folder.open().published().scan(&NAME_BY_PLACE, Range::all()).count(), 20);
}

#[test]
fn a_reader_never_sees_something_new_below_a_position_it_saw() {
    let folder = Folder::new();
    let database = folder.open();
    let done = AtomicBool::new(false);
    let (writers, each) = (8_u64, 150_u64);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (mut seen, mut looks) = (0, 0_u64);
            loop {
                let last_look = done.load(Ordering::SeqCst);
                let snapshot = database.published();
                let position = snapshot.position().0;
                assert!(position >= seen, "the published position went back");
                // Every position up to the published one has its row, and none above it has.
                let rows = snapshot.scan(&NAME_BY_PLACE, Range::prefix((ROOM,)));
                let places: Vec<u64> = rows.map(|row| row.unwrap().0.1.0).collect();
                assert_eq!(places, (1..=position).collect::<Vec<_>>());
                (seen, looks) = (position, looks + 1);
                if last_look {
                    return (seen, looks);
                }
            }
        });
        let threads: Vec<_> = (0..writers)
            .map(|writer| {
                let database = &database;
                scope.spawn(move || {
                    for number in 0..each {
                        let (batch, slot) = event(database, &format!("{writer}.{number}"));
                        let durability = if number % 3 == 0 { Flushed } else { Synced };
                        let pending = database.write(batch, durability).unwrap();
                        let at = pending.written().at(slot).unwrap();
                        let committed = futures(pending);
                        assert_eq!(committed.at(slot), Some(at));
                        assert!(database.position() >= at, "woken before it was published");
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        done.store(true, Ordering::SeqCst);
        assert_eq!(reader.join().unwrap().0, writers * each);
    });
}

/// Waits for a commit outside of a runtime.
fn futures(pending: crate::Pending) -> crate::Committed {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(pending).unwrap()
}

#[tokio::test]
async fn a_commit_that_is_only_logged_does_not_wait_for_a_sync() {
    let folder = Folder::new();
    let disk = Disk::default();
    let database = folder.open_with(disk.clone());
    disk.hold();
    let mut synced = database.write(event(&database, "a").0, Synced).unwrap();
    let mut logged = database.write(refresh(&database, 1), Logged).unwrap();
    let mut with_position = database.write(event(&database, "b").0, Logged).unwrap();
    assert!(is_ready(&mut logged));
    assert!(!is_ready(&mut synced));
    assert!(!is_ready(&mut with_position), "positions are published in order");
    assert_eq!(database.position(), Position(0));
    assert_eq!(database.latest().get(&NUMBER_BY_NAME, "refresh").unwrap(), Some(1));
    assert_eq!(database.latest().get(&NUMBER_BY_NAME, "b").unwrap(), Some(2));

    disk.release();
    assert_eq!(with_position.await.unwrap().position, Position(2));
    assert!(is_ready(&mut synced));
    assert_eq!(database.position(), Position(2));
    assert_eq!(database.published().get(&NUMBER_BY_NAME, "refresh").unwrap(), Some(1));
}

#[tokio::test]
async fn a_flushed_commit_is_answered_once_readers_see_it() {
    let folder = Folder::new();
    let disk = Disk::default();
    let database = folder.open_with(disk.clone());
    disk.hold();
    let synced = database.write(event(&database, "a").0, Synced).unwrap();
    let mut flushed = database.write(refresh(&database, 1), Flushed).unwrap();
    assert!(!is_ready(&mut flushed));
    disk.release();
    flushed.await.unwrap();
    assert_eq!(database.published().get(&NUMBER_BY_NAME, "refresh").unwrap(), Some(1));
    synced.await.unwrap();
}

#[tokio::test]
async fn a_flushed_commit_is_published_at_once_when_nothing_waits() {
    let folder = Folder::new();
    let disk = Disk::default();
    let database = folder.open_with(disk.clone());
    disk.hold();
    let mut pending = database.write(event(&database, "a").0, Flushed).unwrap();
    assert!(is_ready(&mut pending));
    assert_eq!(database.position(), Position(1));
    disk.release();
}

#[tokio::test]
async fn a_refresh_during_a_sync_is_published_after_it() {
    let folder = Folder::new();
    let disk = Disk::default();
    let database = folder.open_with(disk.clone());
    disk.hold();
    let synced = database.write(event(&database, "a").0, Synced).unwrap();
    let mut watch = database.watch().topic(crate::Topic::Named("refresh"));
    // The syncer may or may not have begun: in both cases no later commit is needed for the refresh.
    let mut batch = refresh(&database, 1);
    batch.wake(crate::Topic::Named("refresh"));
    database.commit(batch, Logged).await.unwrap();
    disk.release();
    watch.changed().await;
    assert_eq!(database.published().get(&NUMBER_BY_NAME, "refresh").unwrap(), Some(1));
    synced.await.unwrap();
}

#[tokio::test]
async fn a_wait_for_what_was_written_is_no_commit_and_ends_once_that_is_published() {
    let folder = Folder::new();
    let disk = Disk::default();
    let database = folder.open_with(disk.clone());
    assert!(is_ready(&mut database.settle(database.batch()).unwrap()), "nothing is waited for");
    disk.hold();
    let synced = database.write(event(&database, "a").0, Synced).unwrap();
    let mut batch = database.batch();
    assert_eq!(batch.read_for_update(&NUMBER_BY_NAME, "a").unwrap(), Some(1));
    let mut settled = database.settle(batch).unwrap();
    assert!(!is_ready(&mut settled));
    disk.release();
    settled.await.unwrap();
    assert_eq!(database.published().get(&NUMBER_BY_NAME, "a").unwrap(), Some(1));
    synced.await.unwrap();

    let mut batch = database.batch();
    batch.read_for_update(&NUMBER_BY_NAME, "a").unwrap();
    let mut change = database.batch();
    change.delete(&NUMBER_BY_NAME, "a");
    database.commit(change, Synced).await.unwrap();
    assert!(database.settle(batch).unwrap_err().is_conflict());
    assert!(database.settle(event(&database, "b").0).is_err(), "it would be lost");
}

#[tokio::test]
async fn a_fault_at_the_next_commit_leaves_a_wait_alone() {
    let folder = Folder::new();
    let database = folder.open_with(At { at: 1, action: FaultAction::Fail });
    database.settle(database.batch()).unwrap().await.unwrap();
    assert!(database.write(event(&database, "a").0, Synced).is_err());
}

#[tokio::test]
async fn durability_can_be_traded_away_for_all() {
    let folder = Folder::new();
    let disk = Disk::default();
    let options = Options {
        durability: Some(Flushed),
        fault: Some(std::sync::Arc::new(disk.clone())),
        ..Options::default()
    };
    let database = Database::open(&folder.path(), options).unwrap();
    disk.hold();
    assert!(is_ready(&mut database.write(event(&database, "a").0, Synced).unwrap()));
    disk.release();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_made_under_load_opens_as_a_database() {
    let folder = Folder::new();
    let database = folder.open();
    let copy = folder.0.path().join("copy");
    let done = AtomicBool::new(false);
    let before = thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0_u64.. {
                drop(database.write(event(&database, &number.to_string()).0, Synced).unwrap());
                if done.load(Ordering::SeqCst) {
                    return;
                }
            }
        });
        while database.position() == Position(0) {
            thread::yield_now();
        }
        let before = database.position();
        database.backup(&copy).unwrap();
        done.store(true, Ordering::SeqCst);
        before
    });
    assert!(database.backup(&copy).is_err(), "a folder that exists is not written over");
    let copied = open(&copy);
    let snapshot = copied.published();
    assert!(snapshot.position() >= before);
    let places: Vec<u64> =
        snapshot.scan(&NAME_BY_PLACE, Range::all()).map(|row| row.unwrap().0.1.0).collect();
    assert_eq!(places, (1..=snapshot.position().0).collect::<Vec<_>>());
    assert_eq!(copied.latest().scan(&NUMBER_BY_NAME, Range::all()).count(), places.len());
    copied.commit(event(&copied, "more").0, Synced).await.unwrap();
    database.commit(event(&database, "more").0, Synced).await.unwrap();
}

#[tokio::test]
async fn a_newer_format_is_refused() {
    let folder = Folder::new();
    let database = folder.open();
    assert_eq!(database.latest().get(&META, meta::FORMAT).unwrap(), Some(crate::FORMAT_VERSION));
    let mut batch = database.batch();
    batch.put(&META, meta::FORMAT, &(crate::FORMAT_VERSION + 1));
    database.commit(batch, Synced).await.unwrap();
    drop(database);
    let refused = Database::open(&folder.path(), Options::default()).unwrap_err();
    assert!(matches!(refused, Error::Newer(_)), "{refused}");
}

#[test]
fn an_unknown_table_is_refused_and_a_missing_one_is_made() {
    let folder = Folder::new();
    drop(folder.open());
    let with_tables = |change: &dyn Fn(&mut rocksdb::DB)| {
        let tables = rocksdb::DB::list_cf(&rocksdb::Options::default(), folder.path()).unwrap();
        let mut db =
            rocksdb::DB::open_cf(&rocksdb::Options::default(), folder.path(), tables).unwrap();
        change(&mut db);
    };
    with_tables(&|db| db.drop_cf(NUMBER_BY_NAME.name()).unwrap());
    assert_eq!(folder.open().latest().get(&NUMBER_BY_NAME, "a").unwrap(), None);
    with_tables(&|db| db.create_cf("from_the_future", &rocksdb::Options::default()).unwrap());
    let refused = Database::open(&folder.path(), Options::default()).unwrap_err();
    assert!(matches!(refused, Error::Newer(_)), "{refused}");
    assert!(refused.to_string().contains("from_the_future"), "{refused}");
}

#[test]
fn a_folder_is_opened_once_at_a_time() {
    let folder = Folder::new();
    let database = folder.open();
    assert!(Database::open(&folder.path(), Options::default()).is_err());
    let snapshot = database.published();
    drop(database);
    assert_eq!(snapshot.get(&META, meta::FORMAT).unwrap(), Some(crate::FORMAT_VERSION));
    drop(snapshot);
    drop(folder.open());
}
