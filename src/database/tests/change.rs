//! Changes: what they were computed from is what they require, and what follows from them in memory.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use proptest::prelude::*;
use wick_core::ShortUserId;

use super::{At, Disk, Folder, is_ready};
use crate::{
    Batch, Database,
    Durability::{Flushed, Synced},
    Error, FaultAction, Range, Read,
    read::sealed::Source,
    schema::probe::{NUMBER_BY_DEVICE, NUMBER_BY_NAME},
};

fn set(database: &Database, name: &str, number: u64) {
    let mut batch = database.batch();
    batch.put(&NUMBER_BY_NAME, name, &number);
    drop(database.write(batch, Flushed).unwrap());
}

fn number(database: &Database, name: &str) -> Option<u64> {
    database.latest().get(&NUMBER_BY_NAME, name).unwrap()
}

/// An effect that counts how often it runs.
fn counted(batch: &mut Batch) -> Arc<AtomicU64> {
    let count = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&count);
    batch.on_applied(move || {
        counter.fetch_add(1, Ordering::SeqCst);
    });
    count
}

#[test]
fn a_change_of_a_value_that_changed_meanwhile_is_a_conflict() {
    let folder = Folder::new();
    let database = folder.open();
    set(&database, "a", 1);
    let mut batch = database.batch();
    assert_eq!(batch.read_for_update(&NUMBER_BY_NAME, "a").unwrap(), Some(1));
    assert_eq!(batch.read_for_update(&NUMBER_BY_NAME, "b").unwrap(), None);
    set(&database, "a", 2);
    // However often it is read, it is what was read first: nothing else is required than was seen.
    assert_eq!(batch.read_for_update(&NUMBER_BY_NAME, "a").unwrap(), Some(1));
    assert_eq!(batch.get(&NUMBER_BY_NAME, "a").unwrap(), Some(1));
    assert_eq!(batch.multi_get(&NUMBER_BY_NAME, ["a", "b"]).unwrap(), [Some(1), None]);
    batch.put(&NUMBER_BY_NAME, "c", &2);
    assert!(database.write(batch, Flushed).unwrap_err().is_conflict());
    assert_eq!(number(&database, "c"), None);

    let mut batch = database.batch();
    assert!(!batch.contains(&NUMBER_BY_NAME, "b").unwrap());
    assert_eq!(batch.read_for_update(&NUMBER_BY_NAME, "b").unwrap(), None);
    set(&database, "b", 1);
    batch.put(&NUMBER_BY_NAME, "b", &2);
    assert!(database.write(batch, Flushed).unwrap_err().is_conflict());
}

#[test]
fn a_value_that_the_batch_wrote_itself_is_computed_from_as_written() {
    let folder = Folder::new();
    let database = folder.open();
    set(&database, "a", 1);
    let mut batch = database.batch();
    for expected in 1..=3 {
        batch
            .update(&NUMBER_BY_NAME, "a", |old| {
                assert_eq!(old, Some(expected));
                old.map(|old| old + 1)
            })
            .unwrap();
    }
    batch.update(&NUMBER_BY_NAME, "b", |old| old).unwrap();
    assert_eq!(batch.len(), 1, "what is not there and stays so needs no row");
    drop(database.write(batch, Flushed).unwrap());
    assert_eq!(number(&database, "a"), Some(4));
    let mut batch = database.batch();
    batch.update(&NUMBER_BY_NAME, "a", |_| None).unwrap();
    drop(database.write(batch, Flushed).unwrap());
    assert_eq!(number(&database, "a"), None);
}

#[test]
fn two_different_expectations_of_one_row_are_a_conflict() {
    let folder = Folder::new();
    let database = folder.open();
    set(&database, "a", 2);
    for first_is_read in [true, false] {
        let mut batch = database.batch();
        if first_is_read {
            batch.read_for_update(&NUMBER_BY_NAME, "a").unwrap();
            batch.require(&NUMBER_BY_NAME, "a", Some(&1));
        } else {
            batch.require(&NUMBER_BY_NAME, "a", Some(&1));
            batch.require(&NUMBER_BY_NAME, "a", Some(&2));
        }
        batch.put(&NUMBER_BY_NAME, "b", &1);
        assert!(database.write(batch, Flushed).unwrap_err().is_conflict());
    }
    let mut batch = database.batch();
    batch.read_for_update(&NUMBER_BY_NAME, "a").unwrap();
    batch.require(&NUMBER_BY_NAME, "a", Some(&2));
    drop(database.write(batch, Flushed).unwrap());
}

#[test]
fn a_change_of_a_range_that_changed_meanwhile_is_a_conflict() {
    let folder = Folder::new();
    let database = folder.open();
    let user = ShortUserId(1);
    let put = |device: &str, number: Option<u64>| {
        let mut batch = database.batch();
        match number {
            Some(number) => batch.put(&NUMBER_BY_DEVICE, &(user, device), &number),
            None => batch.delete(&NUMBER_BY_DEVICE, &(user, device)),
        }
        drop(database.write(batch, Flushed).unwrap());
    };
    put("b", Some(1));
    put("c", Some(1));
    let others: [(&str, Option<u64>, bool); 4] =
        [("a", Some(1), true), ("b", Some(2), true), ("c", None, true), ("z", Some(1), false)];
    for (device, number, is_conflict) in others {
        let mut batch = database.batch();
        batch.delete(&NUMBER_BY_DEVICE, &(user, "b"));
        batch.put(&NUMBER_BY_DEVICE, &(user, "d"), &7);
        let range = Range::between(&(user, "a"), &(user, "e"));
        let before: Vec<_> =
            batch.scan(&NUMBER_BY_DEVICE, range.clone()).map(Result::unwrap).collect();
        assert_eq!(batch.scan_for_update(&NUMBER_BY_DEVICE, range).unwrap(), before);
        put(device, number);
        assert_eq!(database.write(batch, Flushed).is_err(), is_conflict, "{device}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(16) })]

    /// Counters that are read and written by interleaved changes lose nothing.
    #[test]
    fn no_change_is_lost_whatever_runs_beside_it(
        order in proptest::collection::vec((0..3_usize, 0..2_usize), 1..40),
    ) {
        let folder = Folder::new();
        let database = folder.open();
        let names = ["a", "b"];
        let mut open: [Option<Batch>; 3] = [None, None, None];
        let mut expected = [0_u64; 2];
        for (writer, name) in order {
            match open[writer].take() {
                Some(batch) => {
                    let changed = names.map(|name| {
                        let key = crate::KeyLike::<String>::encoded(name);
                        batch.pending(NUMBER_BY_NAME.name(), &key).is_some()
                    });
                    if database.write(batch, Flushed).is_ok() {
                        for (expected, changed) in expected.iter_mut().zip(changed) {
                            *expected += u64::from(changed);
                        }
                    }
                }
                None => {
                    let mut batch = database.batch();
                    batch
                        .update(&NUMBER_BY_NAME, names[name], |old| Some(old.unwrap_or(0) + 1))
                        .unwrap();
                    open[writer] = Some(batch);
                }
            }
        }
        for (name, expected) in names.iter().zip(expected) {
            prop_assert_eq!(number(&database, name).unwrap_or(0), expected);
        }
    }
}

#[test]
fn an_effect_runs_although_nobody_waits_for_the_commit() {
    let folder = Folder::new();
    let disk = Disk::default();
    let database = folder.open_with(disk.clone());
    disk.hold();
    let mut batch = database.batch();
    batch.put(&NUMBER_BY_NAME, "a", &1);
    let count = counted(&mut batch);
    let mut commit = Box::pin(database.commit(batch, Synced));
    assert!(!is_ready(&mut commit));
    assert_eq!(count.load(Ordering::SeqCst), 1, "before the answer");
    assert!(!database.published().contains(&NUMBER_BY_NAME, "a").unwrap(), "before readers");
    drop(commit);
    disk.release();
    assert_eq!(count.load(Ordering::SeqCst), 1, "once");
}

#[test]
fn an_effect_of_a_commit_that_did_not_happen_does_not_run() {
    let folder = Folder::new();
    let database = folder.open_with(At { at: 2, action: FaultAction::Fail });
    set(&database, "a", 1);
    let mut failed = database.batch();
    failed.put(&NUMBER_BY_NAME, "b", &1);
    let of_failed = counted(&mut failed);
    assert!(matches!(database.write(failed, Synced), Err(Error::Engine(_))));
    let mut conflict = database.batch();
    conflict.require(&NUMBER_BY_NAME, "a", Some(&2));
    conflict.put(&NUMBER_BY_NAME, "b", &1);
    let of_conflict = counted(&mut conflict);
    assert!(database.write(conflict, Synced).unwrap_err().is_conflict());
    let mut dropped = database.batch();
    let of_dropped = counted(&mut dropped);
    drop(dropped);
    for count in [of_failed, of_conflict, of_dropped] {
        assert_eq!(count.load(Ordering::SeqCst), 0);
    }
}

#[test]
fn effects_see_what_was_written_and_run_in_the_order_of_the_commits() {
    let folder = Folder::new();
    let database = folder.open();
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..50 {
                    let mut batch = database.batch();
                    let slot = batch.reserve_position();
                    batch.put_at(slot, &NUMBER_BY_NAME, |at| ("last".to_owned(), at.0));
                    let (latest, seen) = (database.latest(), Arc::clone(&seen));
                    batch.on_applied(move || {
                        let last = latest.get(&NUMBER_BY_NAME, "last").unwrap().unwrap();
                        seen.lock().unwrap().push(last);
                    });
                    drop(database.write(batch, Flushed).unwrap());
                }
            });
        }
    });
    assert_eq!(*seen.lock().unwrap(), (1..=200).collect::<Vec<_>>());
}

#[test]
fn an_effect_that_panics_or_commits_leaves_the_database_working() {
    let folder = Folder::new();
    let database = folder.open();
    let mut batch = database.batch();
    batch.put(&NUMBER_BY_NAME, "a", &1);
    let inner = database.clone();
    batch.on_applied(move || {
        let mut batch = inner.batch();
        batch.put(&NUMBER_BY_NAME, "b", &1);
        assert!(matches!(inner.write(batch, Flushed), Err(Error::Engine(_))));
    });
    batch.on_applied(|| panic!("an effect"));
    let after = counted(&mut batch);
    drop(database.write(batch, Flushed).unwrap());
    assert_eq!(after.load(Ordering::SeqCst), 1);
    assert!(database.published().contains(&NUMBER_BY_NAME, "a").unwrap());
    set(&database, "c", 1);
    assert_eq!(number(&database, "b"), None);
}
