//! Members whose membership state resolution ends, without a member event in the stream.

use std::sync::Arc;

use http::StatusCode;
use ruma::{RoomVersionId, UserId};
use serde_json::json;
use wick_calls::{Handed, Member};
use wick_harness::{Options, TestServer};

use super::stage::{FakeLiveKit, Seat, configure, settle, until};
use crate::sync_resolved::{ALICE, BOB, Joined};

async fn start() -> (Joined, Arc<FakeLiveKit>) {
    let mut options = Options::lenient();
    configure(&mut options.config);
    let livekit = Arc::new(FakeLiveKit::default());
    options.livekit = Some(Arc::clone(&livekit) as _);
    (Joined::on(TestServer::start_from(options).await, RoomVersionId::V11).await, livekit)
}

/// A user connects to the call of the room.
async fn connect(joined: &Joined, livekit: &FakeLiveKit, user: &UserId) -> Seat {
    let member = Member::Member("m".to_owned());
    let seat = wick_calls::Seat { room_id: joined.room.room_id(), slot_id: None, member };
    let calls = joined.server.services().calls.clone().unwrap();
    let token = calls.token(user, &seat, Handed::default()).await.unwrap();
    let seat = Seat::of(&(StatusCode::OK, json!({ "jwt": token.jwt })));
    livekit.connect(&seat);
    seat
}

#[tokio::test]
async fn a_member_that_is_kicked_in_the_state_of_another_branch_is_removed_from_the_call() {
    for says in [&[][..], &["before"][..]] {
        let (mut joined, livekit) = start().await;
        let seat = connect(&joined, &livekit, &joined.dave.user_id).await;
        let bobs = connect(&joined, &livekit, BOB.try_into().unwrap()).await;
        settle(&joined.server).await;
        joined.remove(says).await;
        until("the removal", || !livekit.is_connected(&seat)).await;
        assert!(livekit.is_connected(&bobs));
    }
}

#[tokio::test]
async fn members_whose_joins_state_resolution_refuses_are_removed_from_the_call() {
    let (mut joined, livekit) = start().await;
    let erin = "@erin:a.test";
    let join = joined.room.member(&joined.room.tips(), erin, erin, "join");
    joined.receive(&join).await;
    let daves = connect(&joined, &livekit, &joined.dave.user_id).await;
    let erins = connect(&joined, &livekit, erin.try_into().unwrap()).await;
    let bobs = connect(&joined, &livekit, BOB.try_into().unwrap()).await;
    settle(&joined.server).await;
    let order = joined.room.order();
    let before = order[order.len() - 3].clone();
    let rules = json!({ "join_rule": "invite" });
    let rules = joined.room.state(&[before], ALICE, "m.room.join_rules", rules);
    joined.receive(&rules).await;
    until("the removal of dave", || !livekit.is_connected(&daves)).await;
    until("the removal of erin", || !livekit.is_connected(&erins)).await;
    assert!(livekit.is_connected(&bobs));
}
