//! Clients that break off in the middle of a sync: whether they have left the call is what they answer LiveKit.

use super::stage::{Seat, Stage};
use wick_harness::{User, hang_up_after};

impl Stage {
    /// A client waits for news and breaks off.
    async fn breaks_off(&self, user: &User) {
        let server = &self.call.server;
        let (_, sync) = server.get("/_matrix/client/v3/sync", &user.token).await;
        let since = sync["next_batch"].as_str().unwrap();
        let path = format!("/_matrix/client/v3/sync?timeout=30000&since={since}");
        let answer = hang_up_after(1, server.get(&path, &user.token)).await;
        assert!(answer.is_none(), "it waits");
    }

    fn silence(&self, seat: &Seat) {
        self.livekit.state().silent.insert(seat.identity.clone());
    }

    fn questions(&self) -> usize {
        self.livekit.state().questions
    }
}

#[tokio::test]
async fn a_client_that_breaks_off_and_does_not_answer_livekit_has_left() {
    let stage = Stage::new().await;
    let (seat, ..) = stage.delegated().await;
    stage.silence(&seat);
    stage.breaks_off(&stage.call.alice).await;
    stage.call.until_said("gone").await;
    assert!(stage.is_over());
    assert!(stage.livekit.state().rooms[&seat.room].contains_key(&seat.identity), "as before");
}

#[tokio::test]
async fn a_client_that_breaks_off_and_answers_livekit_stays() {
    let stage = Stage::new().await;
    stage.delegated().await;
    for broken in 1..=3 {
        stage.breaks_off(&stage.call.alice).await;
        stage.until("the question", || stage.questions() == broken).await;
    }
    stage.pass(20).await;
    assert_eq!((stage.call.running(), stage.call.said().len()), (1, 0));
}

#[tokio::test]
async fn a_livekit_that_cannot_ask_or_is_away_ends_nothing() {
    let stage = Stage::new().await;
    let (seat, ..) = stage.delegated().await;
    stage.silence(&seat);
    stage.livekit.state().is_old = true;
    stage.breaks_off(&stage.call.alice).await;
    stage.until("the question", || stage.questions() == 1).await;
    stage.livekit.state().is_down = true;
    stage.breaks_off(&stage.call.alice).await;
    stage.pass(10).await;
    assert_eq!((stage.call.running(), stage.call.said().len()), (1, 0));
}

#[tokio::test]
async fn a_client_is_asked_only_while_it_is_in_a_call_and_not_after_a_sync_that_ended_well() {
    let stage = Stage::new().await;
    let bob = stage.call.join("bob").await;
    let leave = stage.leave("gone").await;
    let seat = Seat::of(&stage.token(&stage.call.alice, "m", Some(&leave)).await);
    stage.settle().await;
    stage.breaks_off(&bob).await;
    stage.breaks_off(&stage.call.alice).await;
    stage.settle().await;
    assert_eq!(stage.questions(), 0, "one is in no call, the other one is not connected yet");
    stage.enters(&seat).await;
    stage.settle().await;
    let (status, _) =
        stage.call.server.get("/_matrix/client/v3/sync", &stage.call.alice.token).await;
    assert_eq!(status, 200);
    stage.settle().await;
    assert_eq!(stage.questions(), 0);
}

#[tokio::test]
async fn a_page_that_is_loaded_anew_is_not_taken_for_the_one_that_broke_off() {
    let stage = Stage::new().await;
    let (seat, ..) = stage.delegated().await;
    stage.silence(&seat);
    stage.breaks_off(&stage.call.alice).await;
    stage.call.until_said("gone").await;
    stage.livekit.state().silent.clear();
    let leave = stage.leave("again").await;
    let again = Seat::of(&stage.token(&stage.call.alice, "m", Some(&leave)).await);
    stage.enters(&again).await;
    stage.pass(60).await;
    assert_eq!((stage.call.running(), stage.call.said()), (1, vec!["gone".to_owned()]));
}
