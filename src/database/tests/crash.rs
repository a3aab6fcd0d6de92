//! Crashes: a process that is killed, a disk that fails.

use wick_core::{Position, ShortRoomId};

use super::{At, Disk, Folder, is_ready};
use crate::{
    Batch, Database,
    Durability::{Flushed, Synced},
    Error, FaultAction, Range, Read,
    schema::probe::{NAME_BY_PLACE, NUMBER_BY_NAME},
};

const ROOM: ShortRoomId = ShortRoomId(1);

pub(super) fn event(database: &Database, number: u64) -> Batch {
    let mut batch = database.batch();
    let slot = batch.reserve_position();
    batch.put(&NUMBER_BY_NAME, "last", &number);
    batch.put_at(slot, &NAME_BY_PLACE, move |at| ((ROOM, at), number.to_string()));
    batch
}

/// How many events there are, having checked that they are the first ones, each of them whole.
pub(super) fn whole_events(database: &Database) -> u64 {
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
            let crashed = database.commit(event(&database, number), Synced).await.unwrap_err();
            assert!(matches!(crashed, Error::Stopped), "{crashed}");
        }
        assert_eq!(database.position(), Position(2), "a commit that crashed is not published");
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
