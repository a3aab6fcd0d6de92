//! Short ids: one number for each name, whatever fails.

use std::{collections::BTreeMap, sync::Barrier, thread};

use ruma::{OwnedRoomId, RoomId, events::StateEventType, room_id};

use super::{At, Folder};
use crate::{
    Durability::Flushed,
    FaultAction, Range, Read,
    schema::{
        intern::{ROOM_BY_SHORT, SHORT_BY_ROOM},
        probe::NUMBER_BY_NAME,
    },
};

fn some_room() -> &'static RoomId {
    room_id!("!a:example.org")
}

#[tokio::test]
async fn a_name_keeps_its_number() {
    let folder = Folder::new();
    let database = folder.open();
    let mut batch = database.batch();
    let intern = database.intern();
    let member = StateEventType::RoomMember;
    let room = intern.room(some_room(), &mut batch).unwrap();
    let one = intern.state_key(&member, "@a:b.c", &mut batch).unwrap();
    let two = intern.state_key(&member, "", &mut batch).unwrap();
    assert_ne!(one, two);
    assert_eq!(intern.room(some_room(), &mut batch).unwrap(), room);
    assert_eq!(intern.lookup_room(&batch, some_room()).unwrap(), Some(room));
    assert_eq!(intern.lookup_room(&database.latest(), some_room()).unwrap(), None);
    database.commit(batch, Flushed).await.unwrap();
    assert_eq!(intern.lookup_room(&database.published(), some_room()).unwrap(), Some(room));
    drop(database);

    let database = folder.open();
    let (intern, read) = (database.intern(), database.published());
    assert_eq!(intern.room(some_room(), &mut database.batch()).unwrap(), room);
    let tuple = intern.state_key_tuple(&read, one).unwrap();
    assert_eq!(tuple, Some((member.clone(), "@a:b.c".to_owned())));
    assert_eq!(intern.lookup_state_key(&read, &member, "").unwrap(), Some(two));
    let other = intern.room(room_id!("!b:example.org"), &mut database.batch()).unwrap();
    assert!(other > room, "numbers go on after a restart");
}

#[tokio::test]
async fn a_number_of_a_batch_that_was_not_written_is_written_by_the_next() {
    let folder = Folder::new();
    let database = folder.open_with(At { at: 1, action: FaultAction::Fail });
    let intern = database.intern();

    let mut dropped = database.batch();
    intern.room(some_room(), &mut dropped).unwrap();
    drop(dropped);
    let mut failing = database.batch();
    intern.room(some_room(), &mut failing).unwrap();
    // Still to be written when the first one fails: its rows must not be missing.
    let mut second = database.batch();
    let short = intern.room(some_room(), &mut second).unwrap();
    assert!(database.write(failing, Flushed).is_err());
    assert_eq!(intern.lookup_room(&database.latest(), some_room()).unwrap(), None);
    let mut third = database.batch();
    assert_eq!(intern.room(some_room(), &mut third).unwrap(), short);
    database.commit(second, Flushed).await.unwrap();
    database.commit(third, Flushed).await.unwrap();
    let stored = database.published();
    assert_eq!(stored.get(&SHORT_BY_ROOM, some_room()).unwrap(), Some(short));
    assert_eq!(stored.get(&ROOM_BY_SHORT, &short).unwrap().as_deref(), Some(some_room()));
    assert_eq!(stored.scan(&ROOM_BY_SHORT, Range::all()).count(), 1);
}

#[tokio::test]
async fn a_conflict_takes_the_number_back() {
    let folder = Folder::new();
    let database = folder.open();
    let mut batch = database.batch();
    let short = database.intern().room(some_room(), &mut batch).unwrap();
    batch.require(&NUMBER_BY_NAME, "a", Some(&1));
    assert!(database.write(batch, Flushed).unwrap_err().is_conflict());
    assert!(!database.latest().contains(&ROOM_BY_SHORT, &short).unwrap());
    assert_eq!(database.intern().lookup_room(&database.latest(), some_room()).unwrap(), None);
}

#[test]
fn names_asked_for_at_once_get_one_number_each() {
    let folder = Folder::new();
    // Some of the commits fail.
    struct EveryFifth;
    impl crate::Fault for EveryFifth {
        fn before_commit(&self, number: u64) -> FaultAction {
            if number.is_multiple_of(5) { FaultAction::Fail } else { FaultAction::Proceed }
        }
    }
    let database = folder.open_with(EveryFifth);
    let rooms: Vec<OwnedRoomId> =
        (0..200).map(|index| format!("!{index}:example.org").try_into().unwrap()).collect();
    let barrier = Barrier::new(8);
    let answers: Vec<Vec<_>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    barrier.wait();
                    let mut written = Vec::new();
                    for room in &rooms {
                        let mut batch = database.batch();
                        let short = database.intern().room(room, &mut batch).unwrap();
                        // Every second batch is dropped; a failed one is not tried again.
                        batch.put(&NUMBER_BY_NAME, room.as_str(), &1);
                        if short.0.is_multiple_of(2) || database.write(batch, Flushed).is_ok() {
                            written.push((room.clone(), short));
                        }
                    }
                    written
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let latest = database.latest();
    let stored: BTreeMap<_, _> =
        latest.scan(&SHORT_BY_ROOM, Range::all()).map(Result::unwrap).collect();
    for (room, short) in &stored {
        assert_eq!(latest.get(&ROOM_BY_SHORT, short).unwrap().as_ref(), Some(room));
    }
    assert_eq!(latest.scan(&ROOM_BY_SHORT, Range::all()).count(), stored.len());
    for (room, short) in answers.into_iter().flatten().filter(|(_, short)| short.0 % 2 == 1) {
        assert_eq!(stored.get(&room), Some(&short));
    }
}
