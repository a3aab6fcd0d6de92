//! Clients that break off in the middle of a sync: whether they have left the call is what they answer LiveKit.

use std::time::Duration;

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

    /// From now on the client takes this long to answer.
    fn slow(&self, seat: &Seat, milliseconds: u64) {
        let takes = Duration::from_millis(milliseconds);
        self.livekit.state().slow.insert(seat.identity.clone(), takes);
    }

    /// Lets less than a second pass.
    async fn pass_milliseconds(&self, milliseconds: u64) {
        self.call.server.clock.advance(Duration::from_millis(milliseconds)).await;
        self.settle().await;
    }
}

#[tokio::test]
async fn a_client_that_breaks_off_and_does_not_answer_livekit_has_left() {
    let stage = Stage::new().await;
    let (seat, ..) = stage.delegated().await;
    // How soon it answers is asked when it has connected.
    stage.pass(6).await;
    assert_eq!(stage.questions(), 1);
    stage.silence(&seat);
    stage.breaks_off(&stage.call.alice).await;
    stage.until("the question", || stage.questions() == 2).await;
    stage.pass_milliseconds(1100).await;
    assert!(!stage.is_over(), "what was lost is sent again");
    stage.pass_milliseconds(200).await;
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
async fn a_client_that_answers_slowly_is_given_the_time_it_usually_takes() {
    let stage = Stage::new().await;
    let (seat, ..) = stage.delegated().await;
    stage.slow(&seat, 1600);
    stage.pass(8).await;
    let asked = stage.questions();
    stage.breaks_off(&stage.call.alice).await;
    stage.until("the question", || stage.questions() > asked).await;
    stage.pass(20).await;
    assert_eq!((stage.call.running(), stage.call.said().len()), (1, 0));

    // A little longer than usual.
    stage.slow(&seat, 1900);
    stage.breaks_off(&stage.call.alice).await;
    stage.pass(20).await;
    assert_eq!((stage.call.running(), stage.call.said().len()), (1, 0));

    stage.silence(&seat);
    stage.breaks_off(&stage.call.alice).await;
    stage.pass(6).await;
    assert!(!stage.is_over(), "what was lost is sent again after three times as long");
    stage.pass(4).await;
    stage.call.until_said("gone").await;
}

#[tokio::test]
async fn a_client_that_connects_anew_is_asked_anew_how_soon_it_answers() {
    let stage = Stage::new().await;
    let (seat, ..) = stage.delegated().await;
    stage.pass(20).await;
    assert_eq!(stage.questions(), 1, "a session is asked once");
    stage.slow(&seat, 1600);
    stage.livekit.connect(&seat);
    stage.pass(40).await;
    assert_eq!(stage.questions(), 3, "the new session is asked once, and again after a second");
    stage.breaks_off(&stage.call.alice).await;
    stage.until("the question", || stage.questions() > 3).await;
    stage.pass(20).await;
    assert_eq!((stage.call.running(), stage.call.said().len()), (1, 0));
}

#[tokio::test]
async fn a_client_that_makes_another_request_is_given_ten_seconds() {
    for comes_back in [true, false] {
        let stage = Stage::new().await;
        let (seat, ..) = stage.delegated().await;
        stage.pass(6).await;
        stage.silence(&seat);
        stage.breaks_off(&stage.call.alice).await;
        if comes_back {
            let sync = stage.call.server.get("/_matrix/client/v3/sync", &stage.call.alice.token);
            assert_eq!(sync.await.0, 200);
            stage.pass(8).await;
            assert!(!stage.is_over(), "its connection for media is made anew");
            stage.livekit.state().silent.clear();
            stage.pass(20).await;
            assert!(!stage.is_over(), "it has answered");
            stage.silence(&seat);
            stage.breaks_off(&stage.call.alice).await;
            let sync = stage.call.server.get("/_matrix/client/v3/sync", &stage.call.alice.token);
            assert_eq!(sync.await.0, 200);
            stage.pass(14).await;
        } else {
            stage.pass(2).await;
        }
        stage.call.until_said("gone").await;
    }
}

#[tokio::test]
async fn a_livekit_that_hangs_is_no_client_that_does_not_answer() {
    let stage = Stage::new().await;
    let (seat, ..) = stage.delegated().await;
    stage.pass(6).await;
    stage.livekit.state().hangs = true;
    stage.silence(&seat);
    stage.breaks_off(&stage.call.alice).await;
    stage.pass(10).await;
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
    stage.settle().await;
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
    stage.pass(4).await;
    stage.call.until_said("gone").await;
    stage.livekit.state().silent.clear();
    let leave = stage.leave("again").await;
    let again = Seat::of(&stage.token(&stage.call.alice, "m", Some(&leave)).await);
    stage.enters(&again).await;
    stage.pass(60).await;
    assert_eq!((stage.call.running(), stage.call.said()), (1, vec!["gone".to_owned()]));
}

#[tokio::test]
async fn a_client_that_cannot_answer_livekit_stays_when_it_breaks_off() {
    let stage = Stage::new().await;
    let (seat, ..) = stage.delegated().await;
    stage.silence(&seat);
    stage.pass(15).await;
    let asked = stage.questions();
    assert!(asked > 0, "how soon it answers");
    for _ in 0..2 {
        stage.breaks_off(&stage.call.alice).await;
        stage.pass(20).await;
    }
    assert!(stage.questions() > asked);
    assert_eq!((stage.call.running(), stage.call.said().len()), (1, 0));

    // Another client with the same identity answers.
    stage.livekit.state().silent.clear();
    stage.enters(&seat).await;
    stage.pass(30).await;
    stage.silence(&seat);
    stage.breaks_off(&stage.call.alice).await;
    stage.pass(4).await;
    stage.call.until_said("gone").await;
}

#[tokio::test]
async fn a_client_that_broke_off_before_it_connected_is_given_time_to_answer() {
    let stage = Stage::new().await;
    let leave = stage.leave("gone").await;
    let seat = Seat::of(&stage.token(&stage.call.alice, "m", Some(&leave)).await);
    stage.breaks_off(&stage.call.alice).await;
    stage.pass(20).await;
    stage.enters(&seat).await;
    stage.slow(&seat, 3000);
    stage.pass(30).await;
    assert!(stage.questions() > 0);
    assert_eq!((stage.call.running(), stage.call.said().len()), (1, 0));
}

#[tokio::test]
async fn a_page_that_is_loaded_anew_outlives_the_silence_of_the_one_before() {
    let stage = Stage::new().await;
    let (seat, sid, _) = stage.delegated().await;
    stage.pass(6).await;
    stage.silence(&seat);
    let newer = stage.leave("newer").await;
    Seat::of(&stage.token(&stage.call.alice, "m", Some(&newer)).await);
    stage.settle().await;
    stage.breaks_off(&stage.call.alice).await;
    stage.pass(10).await;
    assert_eq!((stage.call.running(), stage.call.said().len()), (1, 0));
    stage.leaves(&seat, &sid, "CONNECTION_TIMEOUT").await;
    stage.pass(10).await;
    stage.slow(&seat, 1600);
    stage.livekit.state().silent.clear();
    stage.enters(&seat).await;
    stage.pass(100).await;
    assert_eq!((stage.call.running(), stage.call.said().len()), (1, 0));
}
