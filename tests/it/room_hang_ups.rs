//! Changes of rooms whose client hangs up after any number of steps: they are made wholly or not at all, and
//! a restart shows the same.

use std::sync::Arc;

use http::StatusCode;
use tokio::{task::yield_now, time::timeout};
use wick_database::Durability;
use wick_harness::{Strike, hang_up_after};

use crate::{
    expiry::call::PATIENCE,
    room_changes::{Change, Step, World, all},
};

/// Waits until no more than `tasks` run and all that was written is published.
async fn settle(world: &World, tasks: usize) {
    let services = Arc::clone(world.server.services());
    let settled = async {
        while services.supervisor.tasks() > tasks {
            yield_now().await;
        }
        let batch = services.database.batch();
        services.database.commit(batch, Durability::Synced).await
    };
    timeout(PATIENCE, settled).await.expect("the change ends").expect("the disk is sound");
}

async fn at_each_step(change: &Change) {
    let mut outcomes = Vec::new();
    for polls in 0.. {
        let mut world = World::before(change, Strike::new()).await;
        let before = world.outcome();
        let tasks = world.server.idle_tasks().await;
        let answer = hang_up_after(polls, world.take(&change.step)).await;
        settle(&world, tasks).await;
        let outcome = world.outcome();
        world.server.restart().await;
        assert_eq!(world.outcome(), outcome, "{} after {polls} polls and a restart", change.name);
        outcomes.push((before, outcome));
        if let Some((status, body)) = answer {
            assert_eq!(status, StatusCode::OK, "{}: {body}", change.name);
            break;
        }
    }
    let (_, done) = outcomes.last().expect("one is answered");
    for (polls, (before, outcome)) in outcomes.iter().enumerate() {
        let whole = outcome == before || outcome == done;
        assert!(whole, "{} after {polls} polls: {outcome:#}", change.name);
    }
}

#[tokio::test]
async fn a_change_of_a_room_happens_wholly_or_not_at_all_if_the_client_hangs_up() {
    for change in all() {
        if !matches!(change.step, Step::Pass(_)) {
            at_each_step(&change).await;
        }
    }
}
