//! Changes of rooms when another change comes between the look at the room and the write: they are made all
//! the same, on the room as it is by then, and once.

use http::StatusCode;
use wick_database::FaultAction;
use wick_harness::Strike;

use crate::room_changes::{Change, World, all, without_ids};

/// Makes a change with a conflict at each of its commits, one at a time.
async fn at_each_commit(change: &Change) {
    let strike = Strike::new();
    let world = World::before(change, strike.clone()).await;
    let before = strike.commits();
    let (status, body) = world.take(&change.step).await;
    assert_eq!(status, StatusCode::OK, "{}: {body}", change.name);
    let commits = strike.commits() - before;
    let (answer, outcome) = (without_ids(body), world.outcome());
    for commit in 1..=commits {
        let strike = Strike::new();
        let world = World::before(change, strike.clone()).await;
        strike.at(commit, FaultAction::Conflict);
        let (status, body) = world.take(&change.step).await;
        let at = format!("{}, commit {commit} of {commits}", change.name);
        assert!(strike.has_struck(), "{at}: never came");
        assert_eq!((status, without_ids(body)), (StatusCode::OK, answer.clone()), "{at}");
        assert_eq!(world.outcome(), outcome, "{at}");
    }
}

#[tokio::test]
async fn every_change_of_a_room_survives_a_conflict_at_each_of_its_commits() {
    for change in all() {
        at_each_commit(&change).await;
    }
}
