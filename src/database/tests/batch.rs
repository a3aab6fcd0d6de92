//! Batches: all or nothing, conditions, reading what is to be written.

use wick_core::{Position, ShortRoomId, ShortUserId};

use super::Folder;
use crate::{
    Durability::{Flushed, Synced},
    Error, FaultAction, Range, Read,
    schema::probe::{BYTES_BY_NUMBER, NAME_BY_PLACE, NUMBER_BY_DEVICE, NUMBER_BY_NAME},
    tests::At,
};

const ROOM: ShortRoomId = ShortRoomId(1);

#[tokio::test]
async fn a_batch_reads_what_it_is_about_to_write() {
    let folder = Folder::new();
    let database = folder.open();
    let mut first = database.batch();
    first.put(&NUMBER_BY_NAME, "a", &1);
    first.put(&NUMBER_BY_NAME, "b", &2);
    database.commit(first, Synced).await.unwrap();

    let mut batch = database.batch();
    batch.put(&NUMBER_BY_NAME, "a", &10);
    batch.delete(&NUMBER_BY_NAME, "b");
    batch.put(&NUMBER_BY_NAME, "c", &30);
    assert_eq!(batch.get(&NUMBER_BY_NAME, "a").unwrap(), Some(10));
    assert!(!batch.contains(&NUMBER_BY_NAME, "b").unwrap());
    let names = ["a", "b", "c", "d"];
    let seen = batch.multi_get(&NUMBER_BY_NAME, names).unwrap();
    assert_eq!(seen, [Some(10), None, Some(30), None]);
    let before = database.latest().multi_get(&NUMBER_BY_NAME, names).unwrap();
    assert_eq!(before, [Some(1), Some(2), None, None]);

    database.commit(batch, Synced).await.unwrap();
    let after = database.published().multi_get(&NUMBER_BY_NAME, names).unwrap();
    assert_eq!(after, seen);
}

#[tokio::test]
async fn a_batch_whose_condition_fails_writes_nothing() {
    let folder = Folder::new();
    let database = folder.open();
    let mut batch = database.batch();
    batch.require(&NUMBER_BY_NAME, "a", None);
    batch.put(&NUMBER_BY_NAME, "a", &1);
    database.commit(batch, Synced).await.unwrap();

    for expected in [None, Some(2)] {
        let mut batch = database.batch();
        let slot = batch.reserve_position();
        batch.require(&NUMBER_BY_NAME, "a", expected.as_ref());
        batch.put(&NUMBER_BY_NAME, "a", &5);
        batch.put(&BYTES_BY_NUMBER, &1, &vec![1]);
        batch.put_at(slot, &NAME_BY_PLACE, |position| ((ROOM, position), "x".to_owned()));
        let refused = database.commit(batch, Synced).await.unwrap_err();
        assert!(refused.is_conflict(), "{refused}");
    }
    let latest = database.latest();
    assert_eq!(latest.get(&NUMBER_BY_NAME, "a").unwrap(), Some(1));
    assert!(!latest.contains(&BYTES_BY_NUMBER, &1).unwrap());
    assert_eq!(database.position(), Position(0), "a refused batch takes no position");

    let mut batch = database.batch();
    batch.require(&NUMBER_BY_NAME, "a", Some(&1));
    batch.delete(&NUMBER_BY_NAME, "a");
    database.commit(batch, Synced).await.unwrap();
    assert!(!database.published().contains(&NUMBER_BY_NAME, "a").unwrap());
}

#[tokio::test]
async fn of_two_batches_with_the_same_condition_one_wins() {
    let folder = Folder::new();
    let database = folder.open();
    let [one, two] = [1, 2].map(|number| {
        let mut batch = database.batch();
        batch.require(&NUMBER_BY_NAME, "once", None);
        batch.put(&NUMBER_BY_NAME, "once", &number);
        batch
    });
    let pending = database.write(one, Synced).unwrap();
    // The condition is about what is written, not about what is published.
    assert!(database.write(two, Synced).unwrap_err().is_conflict());
    pending.await.unwrap();
    assert_eq!(database.published().get(&NUMBER_BY_NAME, "once").unwrap(), Some(1));
}

#[tokio::test]
async fn a_failed_write_leaves_nothing_and_the_next_one_works() {
    let folder = Folder::new();
    let database = folder.open_with(At { at: 2, action: FaultAction::Fail });
    let batch = |number: u64| {
        let mut batch = database.batch();
        let slot = batch.reserve_position();
        batch.put(&NUMBER_BY_NAME, &number.to_string(), &number);
        batch.put_at(slot, &NAME_BY_PLACE, move |at| ((ROOM, at), number.to_string()));
        batch
    };
    database.commit(batch(1), Synced).await.unwrap();
    let failed = database.commit(batch(2), Synced).await.unwrap_err();
    assert!(matches!(failed, Error::Engine(_)), "{failed}");
    database.commit(batch(3), Synced).await.unwrap();

    let rows: Vec<_> =
        database.published().scan(&NAME_BY_PLACE, Range::all()).map(Result::unwrap).collect();
    let expected =
        [(1, "1"), (2, "3")].map(|(position, name)| ((ROOM, Position(position)), name.to_owned()));
    assert_eq!(rows, expected);
    assert!(!database.published().contains(&NUMBER_BY_NAME, "2").unwrap());
}

#[tokio::test]
async fn positions_of_a_batch_follow_one_another() {
    let folder = Folder::new();
    let database = folder.open();
    for round in 0..2_u64 {
        let mut batch = database.batch();
        let slots = [(); 3].map(|()| batch.reserve_position());
        for slot in slots {
            batch.put_at(slot, &NAME_BY_PLACE, |at| ((ROOM, at), at.to_string()));
        }
        let committed = database.commit(batch, Synced).await.unwrap();
        let first = round * 3 + 1;
        let positions = slots.map(|slot| committed.at(slot).unwrap().0);
        assert_eq!(positions, [first, first + 1, first + 2]);
        assert_eq!(committed.position.0, first + 2);
    }
    assert_eq!(database.position(), Position(6));
    let last = database.published().last(&NAME_BY_PLACE, Range::prefix((ROOM,))).unwrap();
    assert_eq!(last, Some(((ROOM, Position(6)), "6".to_owned())));
}

#[tokio::test]
async fn a_slot_of_another_batch_is_refused() {
    let folder = Folder::new();
    let database = folder.open();
    let slot = database.batch().reserve_position();
    let mut batch = database.batch();
    batch.put_at(slot, &NAME_BY_PLACE, |at| ((ROOM, at), String::new()));
    assert!(database.commit(batch, Synced).await.is_err());
}

#[tokio::test]
async fn scans_stay_within_their_range_in_both_directions() {
    let folder = Folder::new();
    let database = folder.open();
    let mut batch = database.batch();
    for user in 1..=3 {
        for device in ["a", "b", "c"] {
            batch.put(&NUMBER_BY_DEVICE, &(ShortUserId(user), device), &user);
        }
    }
    database.commit(batch, Flushed).await.unwrap();
    let snapshot = database.published();
    let user = ShortUserId(2);
    let devices = |keys: crate::ScanKeys<'_, (ShortUserId, String)>| -> Vec<String> {
        keys.map(|key| key.unwrap())
            .inspect(|key| assert_eq!(key.0, user))
            .map(|key| key.1)
            .collect()
    };
    let of_user = || Range::prefix((user,));
    let after = || of_user().and(Range::after(&(user, "a")));
    assert_eq!(devices(snapshot.scan(&NUMBER_BY_DEVICE, of_user()).keys()), ["a", "b", "c"]);
    assert_eq!(devices(snapshot.scan_back(&NUMBER_BY_DEVICE, of_user()).keys()), ["c", "b", "a"]);
    assert_eq!(devices(snapshot.scan(&NUMBER_BY_DEVICE, after()).keys()), ["b", "c"]);
    assert_eq!(devices(snapshot.scan_back(&NUMBER_BY_DEVICE, after()).keys()), ["c", "b"]);

    let mut batch = database.batch();
    batch.put(&NUMBER_BY_DEVICE, &(user, "d"), &9);
    batch.put(&NUMBER_BY_DEVICE, &(ShortUserId(4), "d"), &9);
    batch.delete_range(&NUMBER_BY_DEVICE, after()).unwrap();
    database.commit(batch, Flushed).await.unwrap();
    let left = database.published();
    assert_eq!(devices(left.scan(&NUMBER_BY_DEVICE, of_user()).keys()), ["a"]);
    assert_eq!(left.scan(&NUMBER_BY_DEVICE, Range::all()).count(), 3 + 1 + 3 + 1);
    assert_eq!(snapshot.scan(&NUMBER_BY_DEVICE, of_user()).count(), 3, "a snapshot stays");
}

#[tokio::test]
async fn large_values_come_back() {
    let folder = Folder::new();
    let database = folder.open();
    let value: Vec<u8> = (0..1 << 20).map(|index: u32| index.to_le_bytes()[1]).collect();
    let mut batch = database.batch();
    batch.put(&BYTES_BY_NUMBER, &1, &value);
    database.commit(batch, Synced).await.unwrap();
    drop(database);
    assert_eq!(folder.open().published().get(&BYTES_BY_NUMBER, &1).unwrap(), Some(value));
}

#[tokio::test]
async fn a_row_of_another_form_is_an_error_and_not_absent() {
    let folder = Folder::new();
    let database = folder.open();
    let as_text =
        crate::Table::<String, String>::new(NUMBER_BY_NAME.name(), NUMBER_BY_NAME.profile());
    let mut batch = database.batch();
    batch.put(&as_text, "a", &"not a number".to_owned());
    database.commit(batch, Flushed).await.unwrap();
    let latest = database.latest();
    assert!(matches!(latest.get(&NUMBER_BY_NAME, "a"), Err(Error::Codec { .. })));
    let mut rows = latest.scan(&NUMBER_BY_NAME, Range::all());
    assert!(matches!(rows.next(), Some(Err(Error::Codec { .. }))));
    assert!(rows.next().is_none());
}
