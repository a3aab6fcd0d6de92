//! A batch reads its own rows, as if they were stored already.

use std::collections::BTreeMap;

use proptest::prelude::*;
use wick_core::{Position, ShortRoomId};

use super::Folder;
use crate::{
    Batch, Database,
    Durability::Flushed,
    Error, Range, Read, Slot,
    schema::probe::{NAME_BY_PLACE, NUMBER_BY_NAME},
};

type Place = (ShortRoomId, Position);

const ROOM: ShortRoomId = ShortRoomId(1);

/// What a batch can do with the rows of a table.
#[derive(Clone, Debug)]
enum Step {
    Put(Place, String),
    Delete(Place),
    DeleteRange(Place, Place),
    PutAt(ShortRoomId, String),
    /// Deletes the row with this number among those of the batch that have a position.
    DeleteAt(prop::sample::Index),
}

fn place() -> impl Strategy<Value = Place> {
    (0..3_u64, 0..6_u64).prop_map(|(room, position)| (ShortRoomId(room), Position(position)))
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (place(), "[a-c]").prop_map(|(place, name)| Step::Put(place, name)),
        3 => place().prop_map(Step::Delete),
        1 => (place(), place()).prop_map(|(one, two)| Step::DeleteRange(one.min(two), one.max(two))),
        3 => (0..3_u64, "[a-c]").prop_map(|(room, name)| Step::PutAt(ShortRoomId(room), name)),
        1 => any::<prop::sample::Index>().prop_map(Step::DeleteAt),
    ]
}

/// Does the steps to a batch and to a map. Returns the rows of the map that have a position of the batch.
fn run(steps: &[Step], batch: &mut Batch, map: &mut BTreeMap<Place, String>) -> Vec<(Place, Slot)> {
    let mut late = Vec::new();
    for step in steps {
        match step.clone() {
            Step::Put(place, name) => {
                batch.put(&NAME_BY_PLACE, &place, &name);
                map.insert(place, name);
            }
            Step::Delete(place) => {
                batch.delete(&NAME_BY_PLACE, &place);
                map.remove(&place);
            }
            Step::DeleteRange(first, end) => {
                batch.delete_range(&NAME_BY_PLACE, Range::between(&first, &end)).unwrap();
                map.retain(|place, _| *place < first || *place >= end);
                late.retain(|(place, _)| *place < first || *place >= end);
            }
            Step::PutAt(room, name) => {
                let slot = batch.reserve_position();
                let last = batch.last(&NAME_BY_PLACE, Range::prefix((room,))).unwrap();
                batch.put_at(slot, &NAME_BY_PLACE, {
                    let name = name.clone();
                    move |position| ((room, position), name)
                });
                let (place, _) =
                    batch.last(&NAME_BY_PLACE, Range::prefix((room,))).unwrap().unwrap();
                assert!(last.is_none_or(|(last, _)| last < place), "it is above all others");
                map.insert(place, name);
                late.push((place, slot));
            }
            Step::DeleteAt(index) if !late.is_empty() => {
                let (place, _) = late.remove(index.index(late.len()));
                batch.delete(&NAME_BY_PLACE, &place);
                map.remove(&place);
            }
            Step::DeleteAt(_) => {}
        }
    }
    late
}

fn reads_as(read: &impl Read, map: &BTreeMap<Place, String>, bounds: &[(Place, Place)]) {
    for (one, two) in bounds {
        let (first, end) = (*one.min(two), *one.max(two));
        let expected: Vec<_> =
            map.range(first..end).map(|(place, name)| (*place, name.clone())).collect();
        let range = || Range::between(&first, &end);
        let rows: Vec<_> = read.scan(&NAME_BY_PLACE, range()).map(Result::unwrap).collect();
        assert_eq!(rows, expected);
        let keys = read.scan(&NAME_BY_PLACE, range()).keys().map(Result::unwrap);
        assert!(keys.eq(expected.iter().map(|(place, _)| *place)));
        let mut back: Vec<_> =
            read.scan_back(&NAME_BY_PLACE, range()).map(Result::unwrap).collect();
        back.reverse();
        assert_eq!(back, expected);
        assert_eq!(read.first(&NAME_BY_PLACE, range()).unwrap().as_ref(), expected.first());
        assert_eq!(read.last(&NAME_BY_PLACE, range()).unwrap().as_ref(), expected.last());
        let found = read.get(&NAME_BY_PLACE, &first).unwrap();
        assert_eq!(found.as_ref(), map.get(&first));
        assert_eq!(read.contains(&NAME_BY_PLACE, &first).unwrap(), map.contains_key(&first));
    }
}

fn write(database: &Database, batch: Batch) -> crate::Committed {
    database.write(batch, Flushed).unwrap().written()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn a_batch_reads_as_a_plain_map_does(
        stored in proptest::collection::btree_map(place(), "[d-f]", 0..12),
        steps in proptest::collection::vec(step(), 0..16),
        bounds in proptest::collection::vec((place(), place()), 1..4),
    ) {
        let folder = Folder::new();
        let database = folder.open();
        let mut batch = database.batch();
        for (place, name) in &stored {
            batch.put(&NAME_BY_PLACE, place, name);
        }
        write(&database, batch);

        let mut batch = database.batch();
        let mut map = stored;
        let late = run(&steps, &mut batch, &mut map);
        let everything = ((ShortRoomId(0), Position(0)), (ShortRoomId(9), Position(0)));
        let bounds: Vec<_> = bounds.into_iter().chain([everything]).collect();
        reads_as(&batch, &map, &bounds);

        // What is written has the true positions in place of the provisional ones. They are small, and
        // so may be those of rows that were put without.
        let committed = write(&database, batch);
        let moved: Vec<_> = late
            .into_iter()
            .map(|(place, slot)| {
                ((place.0, committed.at(slot).unwrap()), map.remove(&place).unwrap())
            })
            .collect();
        map.extend(moved);
        reads_as(&database.latest(), &map, &bounds);
    }
}

#[test]
fn what_is_filed_under_a_provisional_position_can_be_moved_within_the_batch() {
    let folder = Folder::new();
    let database = folder.open();
    let mut batch = database.batch();
    for name in ["one", "two", "three"] {
        let slot = batch.reserve_position();
        // An index by the newest position: as of the threads of a room.
        if let Some((old, _)) = batch.last(&NAME_BY_PLACE, Range::prefix((ROOM,))).unwrap() {
            batch.delete(&NAME_BY_PLACE, &old);
        }
        batch.put_at(slot, &NAME_BY_PLACE, move |position| ((ROOM, position), name.to_owned()));
        batch.put_at(slot, &NUMBER_BY_NAME, |position| ("last".to_owned(), position.0));
    }
    assert_eq!(batch.scan(&NAME_BY_PLACE, Range::all()).count(), 1);
    write(&database, batch);
    let rows: Vec<_> =
        database.latest().scan(&NAME_BY_PLACE, Range::all()).map(Result::unwrap).collect();
    assert_eq!(rows, [((ROOM, Position(3)), "three".to_owned())]);
    assert_eq!(database.latest().get(&NUMBER_BY_NAME, "last").unwrap(), Some(3));
}

#[test]
fn a_provisional_position_that_goes_into_another_row_is_resolved() {
    let folder = Folder::new();
    let database = folder.open();
    let mut batch = database.batch();
    let slot = batch.reserve_position();
    batch.put_at(slot, &NAME_BY_PLACE, |position| ((ROOM, position), String::new()));
    write(&database, batch);

    let mut batch = database.batch();
    for _ in 0..2 {
        let slot = batch.reserve_position();
        batch.put_at(slot, &NAME_BY_PLACE, |position| ((ROOM, position), String::new()));
    }
    let places: Vec<Place> =
        batch.scan(&NAME_BY_PLACE, Range::all()).keys().map(Result::unwrap).collect();
    for (number, (_, position)) in places.into_iter().enumerate() {
        batch.put_resolved(&NUMBER_BY_NAME, move |positions| {
            (number.to_string(), positions.of(position).0)
        });
        batch.put_resolved(&NUMBER_BY_NAME, move |positions| {
            let place = i64::try_from(position.0).unwrap();
            (format!("place {number}"), positions.of_place(place).unsigned_abs())
        });
    }
    write(&database, batch);
    let numbers: Vec<u64> =
        database.latest().scan(&NUMBER_BY_NAME, Range::all()).map(|row| row.unwrap().1).collect();
    assert_eq!(numbers, [1, 2, 3, 1, 2, 3]);
}

#[test]
fn a_plain_row_under_a_provisional_position_is_refused() {
    let folder = Folder::new();
    let database = folder.open();
    let mut batch = database.batch();
    let slot = batch.reserve_position();
    batch.put_at(slot, &NAME_BY_PLACE, |position| ((ROOM, position), String::new()));
    let (place, _) = batch.first(&NAME_BY_PLACE, Range::all()).unwrap().unwrap();
    batch.put(&NAME_BY_PLACE, &place, &"other".to_owned());
    assert!(matches!(database.write(batch, Flushed), Err(Error::Engine(_))));
    assert!(database.latest().first(&NAME_BY_PLACE, Range::all()).unwrap().is_none());
}
