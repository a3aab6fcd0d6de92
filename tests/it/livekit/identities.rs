//! Users with many identities in a room: the oldest give way, but for those in the call.

use serde_json::json;
use wick_database::{Read, schema::calls::PARTICIPANT_BY_IDENTITY};
use wick_harness::User;

use super::stage::{Seat, Stage};
use crate::expiry::call::{errcode, seconds};

/// How many identities a user has in a room at most.
const MOST: usize = 64;

/// Bob in the call for longer than his token works.
async fn bob_stays(stage: &Stage) -> (User, Seat) {
    let bob = stage.call.join("bob").await;
    let seat = Seat::of(&stage.token(&bob, "m0", None).await);
    stage.enters(&seat).await;
    stage.call.server.clock.advance(seconds(660)).await;
    (bob, seat)
}

async fn kick(stage: &Stage, user: &User) {
    let kicked = json!({ "user_id": user.user_id });
    assert_eq!(stage.call.post(&stage.call.alice, "kick", kicked).await.0, 200);
}

fn is_known(stage: &Stage, seat: &Seat) -> bool {
    let latest = stage.call.server.services().database.latest();
    latest.contains(&PARTICIPANT_BY_IDENTITY, &(&*seat.room, &*seat.identity)).unwrap()
}

#[tokio::test]
async fn one_more_identity_takes_none_out_of_the_call_and_hides_none_from_its_removal() {
    let stage = Stage::new().await;
    let (bob, seat) = bob_stays(&stage).await;
    for number in 1..MOST {
        Seat::of(&stage.token(&bob, &format!("m{number}"), None).await);
    }
    let told = stage.token(&bob, "one more", None).await;
    assert_eq!(errcode(&told), (429, "M_LIMIT_EXCEEDED"));
    stage.settle().await;
    assert_eq!(stage.livekit.state().removed, []);
    stage.enters(&seat).await;
    assert!(stage.livekit.is_connected(&seat));
    kick(&stage, &bob).await;
    stage.until("the removal", || !stage.livekit.is_connected(&seat)).await;
}

#[tokio::test]
async fn an_identity_that_stays_in_the_call_for_days_outlives_newer_ones() {
    let stage = Stage::new().await;
    let (bob, seat) = bob_stays(&stage).await;
    for number in 1..=2 * MOST {
        Seat::of(&stage.token(&bob, &format!("m{number}"), None).await);
        stage.call.server.clock.advance(seconds(30)).await;
    }
    stage.pass(60).await;
    assert!(stage.livekit.is_connected(&seat));
    kick(&stage, &bob).await;
    stage.until("the removal", || !stage.livekit.is_connected(&seat)).await;
}

#[tokio::test]
async fn an_identity_that_gave_way_is_known_and_kept_out_as_long_as_a_token_of_it_works() {
    let stage = Stage::new().await;
    let (bob, seat) = bob_stays(&stage).await;
    stage.livekit.disconnect(&seat);
    for number in 1..=MOST {
        Seat::of(&stage.token(&bob, &format!("m{number}"), None).await);
    }
    assert!(is_known(&stage, &seat));
    // LiveKit renewed its token.
    stage.livekit.connect(&seat);
    stage.pass(60).await;
    assert!(!stage.livekit.is_connected(&seat));
    stage.enters(&seat).await;
    stage.until("the removal", || !stage.livekit.is_connected(&seat)).await;
    stage.pass(700).await;
    assert!(!is_known(&stage, &seat));
    assert_eq!(Seat::of(&stage.token(&bob, "m0", None).await), seat);
    stage.enters(&seat).await;
    stage.pass(60).await;
    assert!(stage.livekit.is_connected(&seat));
}

#[tokio::test]
async fn requests_at_the_same_time_do_not_lose_an_identity() {
    let stage = Stage::new().await;
    let bob = stage.call.join("bob").await;
    let mut seats = Vec::new();
    for number in 0..MOST {
        seats.push(Seat::of(&stage.token(&bob, &format!("m{number}"), None).await));
        stage.call.server.clock.advance(seconds(20)).await;
    }
    stage.livekit.connect(&seats[1]);
    let (one, two) = tokio::join!(stage.token(&bob, "x", None), stage.token(&bob, "y", None));
    assert!(one.0 == 200 || two.0 == 200, "{one:?} {two:?}");
    assert!(seats.iter().all(|seat| is_known(&stage, seat)));
    stage.pass(10).await;
    assert!(stage.livekit.is_connected(&seats[1]));
}
