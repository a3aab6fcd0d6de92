//! Calls while LiveKit, the clock or a part of the server fails.

use http::StatusCode;
use serde_json::json;
use wick_database::{Read, schema::calls::PARTICIPANT_BY_IDENTITY};

use super::stage::{Seat, Stage};
use crate::expiry::call::seconds;

#[tokio::test]
async fn a_livekit_that_comes_and_goes_does_not_keep_a_missing_participant_in_the_call() {
    let stage = Stage::new().await;
    let (seat, ..) = stage.delegated().await;
    stage.livekit.disconnect(&seat);
    for _ in 0..20 {
        stage.pass(4).await;
        stage.livekit.state().is_down = true;
        stage.pass(4).await;
        stage.livekit.state().is_down = false;
    }
    assert_eq!(stage.call.said(), ["gone"]);
}

#[tokio::test]
async fn an_absence_goes_on_after_a_restart() {
    let mut stage = Stage::new().await;
    let (seat, ..) = stage.delegated().await;
    stage.livekit.disconnect(&seat);
    for _ in 0..6 {
        stage.pass(20).await;
        stage.call.server.crash().await;
    }
    stage.settle().await;
    assert_eq!(stage.call.said(), ["gone"]);
}

#[tokio::test]
async fn keep_alives_wait_for_no_answer_of_livekit() {
    let stage = Stage::new().await;
    stage.delegated().await;
    stage.livekit.state().is_stuck = true;
    stage.pass(110).await;
    assert_eq!((stage.call.running(), stage.call.said().len()), (1, 0));
}

#[tokio::test]
async fn a_wall_clock_that_is_set_back_stops_no_keep_alive() {
    let stage = Stage::new().await;
    let (seat, sid, _) = stage.delegated().await;
    stage.call.server.clock.jump(-3_600_000);
    stage.pass(300).await;
    assert_eq!((stage.call.running(), stage.call.said().len()), (1, 0));
    stage.leaves(&seat, &sid, "CLIENT_INITIATED").await;
    stage.call.until_said("gone").await;
}

#[tokio::test]
async fn a_check_that_panics_stops_no_other_one() {
    let stage = Stage::new().await;
    let (seat, sid, _) = stage.delegated().await;
    let mut body = stage.body(&stage.call.alice, "m").await;
    body["slot_id"] = json!("another");
    let other = Seat::of(&stage.ask("/get_token", body.clone()).await);
    stage.livekit.state().panics_in = Some(other.room);
    body["delay_id"] = json!(stage.leave("other").await);
    assert_eq!(stage.ask("/get_token", body).await.0, StatusCode::OK);
    stage.pass(10).await;
    stage.leaves(&seat, &sid, "CLIENT_INITIATED").await;
    stage.call.until_said("gone").await;
    stage.livekit.state().panics_in = None;
    stage.pass(70).await;
    assert_eq!(stage.call.said(), ["gone", "other"], "its room is looked at again");
}

#[tokio::test]
async fn a_participant_that_stays_connected_for_long_is_still_removed_with_its_membership() {
    let stage = Stage::new().await;
    let mut seats = Vec::new();
    for name in ["bob", "carol"] {
        let user = stage.call.join(name).await;
        let seat = Seat::of(&stage.token(&user, "m", None).await);
        stage.enters(&seat).await;
        seats.push((user, seat));
    }
    let (bob, bobs) = &seats[0];
    let (_, carols) = &seats[1];
    stage.livekit.disconnect(carols);
    stage.call.server.clock.advance(seconds(8 * 86_400)).await;
    let known = |seat: &Seat| {
        let latest = stage.call.server.services().database.latest();
        latest.contains(&PARTICIPANT_BY_IDENTITY, &(&*seat.room, &*seat.identity)).unwrap()
    };
    stage.until("the long absent one is forgotten", || !known(carols)).await;
    assert!(known(bobs));
    let kicked = json!({ "user_id": bob.user_id });
    assert_eq!(stage.call.post(&stage.call.alice, "kick", kicked).await.0, 200);
    let removed = (bobs.room.clone(), bobs.identity.clone());
    stage.until("the removal", || stage.livekit.state().removed.contains(&removed)).await;
}

#[tokio::test]
async fn a_removal_that_livekit_does_not_answer_holds_up_no_other_one() {
    let mut stage = Stage::new().await;
    let mut seats = Vec::new();
    for (name, slot) in [("bob", "first"), ("carol", "second")] {
        let user = stage.call.join(name).await;
        let mut body = stage.body(&user, "m").await;
        body["slot_id"] = json!(slot);
        let seat = Seat::of(&stage.ask("/get_token", body).await);
        stage.enters(&seat).await;
        seats.push((user, seat));
    }
    let place = |index: usize| (seats[index].1.room.clone(), seats[index].1.identity.clone());
    stage.livekit.state().away.insert(seats[0].1.room.clone());
    for (user, _) in &seats {
        let kicked = json!({ "user_id": user.user_id });
        assert_eq!(stage.call.post(&stage.call.alice, "kick", kicked).await.0, 200);
    }
    stage.until("the other removal", || stage.livekit.state().removed.contains(&place(1))).await;
    stage.call.server.crash().await;
    stage.pass(10).await;
    stage.livekit.state().away.clear();
    stage.pass(60).await;
    assert!(stage.livekit.state().removed.contains(&place(0)));
}
