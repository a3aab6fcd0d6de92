//! Watching: nothing that is published after a registration is missed.

use std::{sync::Arc, thread};

use wick_core::{ShortRoomId, ShortUserId};

use super::{Disk, Folder, is_ready};
use crate::{
    Database,
    Durability::{Flushed, Synced},
    Read, Topic,
    schema::{
        device_lists::DEVICE_LIST_CHANGE_BY_POSITION,
        ephemeral::PRESENCE_CHANGE_BY_POSITION,
        probe::{NAME_BY_PLACE, NUMBER_BY_DEVICE, NUMBER_BY_NAME},
    },
};

const ROOM: ShortRoomId = ShortRoomId(1);
const USER: ShortUserId = ShortUserId(1);

fn tell_room(database: &Database, room: ShortRoomId) -> crate::Pending {
    let mut batch = database.batch();
    let slot = batch.reserve_position();
    batch.put_at(slot, &NAME_BY_PLACE, move |at| ((room, at), String::new()));
    database.write(batch, Synced).unwrap()
}

#[tokio::test]
async fn a_commit_wakes_those_who_watch_what_it_touched() {
    let folder = Folder::new();
    let database = folder.open();
    let mut room = database.watch().room(ROOM);
    let mut user = database.watch().user(USER).room(ShortRoomId(7));
    let mut stream = database.watch().topic(Topic::Stream);
    let mut named = database.watch().topic(Topic::Named("other"));

    tell_room(&database, ROOM).await.unwrap();
    room.changed().await;
    stream.changed().await;
    assert!(!is_ready(&mut Box::pin(room.changed())), "once for one commit");
    assert!(!is_ready(&mut Box::pin(user.changed())));

    let mut batch = database.batch();
    batch.delete(&NUMBER_BY_DEVICE, &(USER, "device"));
    batch.wake(Topic::Named("other"));
    database.commit(batch, Flushed).await.unwrap();
    user.changed().await;
    named.changed().await;
    assert!(!is_ready(&mut Box::pin(room.changed())));
    assert!(!is_ready(&mut Box::pin(stream.changed())), "the commit has no position");
}

#[tokio::test]
async fn a_room_is_quiet_until_something_is_written_there() {
    let folder = Folder::new();
    let database = folder.open();
    let quiet = ShortRoomId(7);
    tell_room(&database, quiet).await.unwrap();
    let since = database.position();
    assert!(!database.is_busy_since(quiet, since));
    // Marked as busy before any reader can see it.
    let pending = tell_room(&database, ROOM);
    assert!(database.is_busy_since(ROOM, since));
    let committed = pending.await.unwrap();
    assert!(!database.is_busy_since(ROOM, committed.position));
    assert!(!database.is_busy_since(quiet, since));
    drop(database);

    let database = folder.open();
    assert!(database.is_busy_since(quiet, since), "of what came before nothing is known");
    assert!(!database.is_busy_since(quiet, database.position()));
}

#[tokio::test]
async fn a_user_and_a_table_are_unchanged_until_something_is_written_there() {
    let folder = Folder::new();
    let database = folder.open();
    let (table, other) = (&DEVICE_LIST_CHANGE_BY_POSITION, &PRESENCE_CHANGE_BY_POSITION);
    let since = database.position();
    assert!(!database.is_user_changed_since(USER, since));
    assert!(!database.is_table_changed_since(table, since));
    let mut batch = database.batch();
    let slot = batch.reserve_position();
    batch.put(&NUMBER_BY_DEVICE, &(USER, "device"), &1);
    batch.put_at(slot, table, |position| (position, USER));
    let pending = database.write(batch, Flushed).unwrap();
    // Before any reader can see it.
    assert!(database.is_user_changed_since(USER, since));
    assert!(database.is_table_changed_since(table, since));
    assert!(!database.is_user_changed_since(ShortUserId(7), since));
    assert!(!database.is_table_changed_since(other, since));
    let committed = pending.await.unwrap();
    assert!(!database.is_user_changed_since(USER, committed.position));
    assert!(!database.is_table_changed_since(table, committed.position));
    assert!(
        database.is_table_changed_since(&NUMBER_BY_DEVICE, committed.position),
        "it is not noted"
    );
    drop(database);

    let database = folder.open();
    assert!(
        database.is_user_changed_since(ShortUserId(7), since),
        "of what came before nothing is known"
    );
    assert!(database.is_table_changed_since(other, since));
}

#[tokio::test]
async fn a_room_that_is_woken_for_something_elsewhere_stays_quiet() {
    let folder = Folder::new();
    let database = folder.open();
    let mut watch = database.watch().room(ROOM);
    let since = database.position();
    let mut batch = database.batch();
    batch.wake_only(Topic::Room(ROOM));
    database.commit(batch, Flushed).await.unwrap();
    watch.changed().await;
    assert!(!database.is_busy_since(ROOM, since));
}

#[tokio::test]
async fn a_batch_of_wakes_alone_wakes() {
    let folder = Folder::new();
    let database = folder.open();
    let mut watch = database.watch().topic(Topic::Numbered("device", 3));
    let mut batch = database.batch();
    batch.wake(Topic::Numbered("device", 3));
    database.commit(batch, Flushed).await.unwrap();
    watch.changed().await;
}

#[tokio::test]
async fn what_is_published_between_registration_and_wait_ends_the_wait() {
    let folder = Folder::new();
    let database = folder.open();
    let mut watch = database.watch().room(ROOM);
    tell_room(&database, ROOM).await.unwrap();
    // Dropping a wait half-way loses nothing.
    drop(Box::pin(watch.changed()));
    watch.changed().await;
}

#[tokio::test]
async fn nobody_is_woken_before_the_commit_can_be_read() {
    let folder = Folder::new();
    let disk = Disk::default();
    let database = folder.open_with(disk.clone());
    let mut watch = database.watch().room(ROOM);
    disk.hold();
    let pending = tell_room(&database, ROOM);
    assert!(!is_ready(&mut Box::pin(watch.changed())));
    disk.release();
    watch.changed().await;
    let at = pending.written().position;
    assert!(database.published().contains(&NAME_BY_PLACE, &(ROOM, at)).unwrap());
    pending.await.unwrap();
}

#[tokio::test]
async fn a_position_is_waited_for_until_it_is_published() {
    let folder = Folder::new();
    let disk = Disk::default();
    let database = folder.open_with(disk.clone());
    database.reached(database.position()).await;
    let next = database.position().next();
    let mut reached = Box::pin(database.reached(next));
    assert!(!is_ready(&mut reached));
    disk.hold();
    let pending = tell_room(&database, ROOM);
    assert!(!is_ready(&mut reached), "written is not published");
    disk.release();
    reached.await;
    assert_eq!(database.position(), next);
    pending.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_wake_up_is_lost_under_load() {
    let folder = Folder::new();
    let database = folder.open();
    let rounds = 500;
    let writer = {
        let database = database.clone();
        thread::spawn(move || {
            for round in 1..=rounds {
                let mut batch = database.batch();
                batch.put(&NUMBER_BY_NAME, "round", &round);
                batch.wake(Topic::Named("round"));
                let durability = if round % 3 == 0 { Synced } else { Flushed };
                drop(database.write(batch, durability).unwrap());
            }
        })
    };
    // Register, read, wait: if a wake-up were lost, this would never end.
    let mut watch = database.watch().topic(Topic::Named("round"));
    while database.published().get(&NUMBER_BY_NAME, "round").unwrap() != Some(rounds) {
        watch.changed().await;
    }
    writer.join().unwrap();
}

#[test]
fn a_dropped_watch_is_forgotten() {
    let folder = Folder::new();
    let database = folder.open();
    let watch = database.watch().room(ROOM);
    let registry = Arc::clone(watch.registry());
    assert!(!registry.is_empty());
    drop(watch);
    assert!(registry.is_empty());
}
