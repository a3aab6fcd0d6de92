//! Delegated leaves: kept alive while LiveKit has the participant, sent when it is gone.

use std::sync::{Arc, atomic::Ordering};

use http::StatusCode;
use serde_json::json;
use wick_harness::{FATES, Options, Strike};

use super::stage::{Seat, Stage, URL};
use crate::{
    delayed::later::{By, Later, delay_id},
    expiry::call::{errcode, seconds},
    struck::Moody,
};

#[tokio::test]
async fn a_delegated_leave_is_kept_alive_while_the_participant_is_connected_and_sent_when_it_is_gone()
 {
    let stage = Stage::new().await;
    let (seat, sid, _) = stage.delegated().await;
    stage.pass(600).await;
    assert_eq!((stage.call.running(), stage.call.said().len()), (1, 0));
    stage.leaves(&seat, &sid, "CLIENT_INITIATED").await;
    stage.call.until_said("gone").await;
    assert!(stage.is_over());
    stage.pass(300).await;
    assert_eq!(stage.call.said(), ["gone"]);
}

#[tokio::test]
async fn a_leave_can_be_delegated_by_each_endpoint() {
    let stage = Stage::new().await;
    let alice = &stage.call.alice;
    let client = "/_matrix/client/v1/rtc/livekit";
    let room_id = &stage.call.room;
    let newest = json!({ "url": URL, "room_id": room_id, "slot_id": "s", "member_id": "m" });
    for endpoint in ["legacy", "get_token", "delegate_delayed_leave", "client", "client_token"] {
        let leave = stage.leave(endpoint).await;
        let (told, seat) = match endpoint {
            "client" => {
                let mut body = newest.clone();
                let path = format!("{client}/get_token");
                let told = stage.call.server.post(&path, &alice.token, body.clone()).await;
                body["delay_id"] = json!(leave);
                let path = format!("{client}/delegate_delayed_leave");
                let delegated = stage.call.server.post(&path, &alice.token, body).await;
                assert_eq!(delegated, (StatusCode::OK, json!({})));
                (told, None)
            }
            "client_token" => {
                let mut body = newest.clone();
                (body["delay_id"], body["member_id"]) = (json!(leave), json!("other"));
                let path = format!("{client}/get_token");
                (stage.call.server.post(&path, &alice.token, body).await, None)
            }
            "legacy" => {
                let openid = stage.openid(alice).await;
                let body = json!({
                    "room": room_id, "openid_token": openid, "device_id": alice.device_id,
                    "delay_id": leave, "delay_timeout": 100_000, "delay_cs_api_url": "https://x",
                });
                (stage.ask("/sfu/get", body).await, None)
            }
            "get_token" => (stage.token(alice, endpoint, Some(&leave)).await, None),
            other => {
                let seat = Seat::of(&stage.token(alice, other, None).await);
                let mut body = stage.body(alice, other).await;
                body["delay_id"] = json!(leave);
                (stage.ask("/delegate_delayed_leave", body).await, Some(seat))
            }
        };
        assert_eq!(told.0, StatusCode::OK, "{endpoint}: {}", told.1);
        let seat = seat.unwrap_or_else(|| Seat::of(&told));
        let sid = stage.enters(&seat).await;
        stage.pass(150).await;
        assert!(!stage.is_over(), "{endpoint}");
        stage.leaves(&seat, &sid, "CLIENT_INITIATED").await;
        stage.call.until_said(endpoint).await;
    }
}

#[tokio::test]
async fn an_event_that_expires_can_be_handed_over_as_well_and_ends_with_the_participant() {
    let mut stage = Stage::new().await;
    let armed = stage.call.arm_state("alice", 10).await;
    let leave = stage.leave("gone").await;
    let mut body = stage.body(&stage.call.alice, "m").await;
    body["expire_refresh_token"] = json!(armed.token);
    body["delay_id"] = json!(leave);
    let seat = Seat::of(&stage.ask("/get_token", body).await);
    let sid = stage.enters(&seat).await;
    stage.pass(100).await;
    stage.call.server.crash().await;
    stage.pass(100).await;
    assert_eq!(
        (stage.call.status(&armed.event_id)["status"].as_str(), stage.call.running()),
        (Some("running"), 2)
    );
    stage.leaves(&seat, &sid, "CLIENT_INITIATED").await;
    stage.call.until(&armed.event_id, "ended").await;
    stage.call.until_said("gone").await;
    assert!(stage.is_over());
    assert_eq!(stage.call.terminals(&armed.event_id).len(), 1);
}

#[tokio::test]
async fn an_event_that_expires_is_handed_over_by_the_homeservers_endpoints_as_well() {
    let stage = Stage::new().await;
    let alice = &stage.call.alice;
    for endpoint in ["get_token", "delegate_delayed_leave"] {
        let armed = stage.call.arm(endpoint, 20).await;
        let path = |endpoint: &str| format!("/_matrix/client/v1/rtc/livekit/{endpoint}");
        let mut body = json!({
            "url": URL, "room_id": stage.call.room, "slot_id": "s", "member_id": endpoint,
        });
        let server = &stage.call.server;
        let nothing =
            server.post(&path("delegate_delayed_leave"), &alice.token, body.clone()).await;
        assert_eq!(errcode(&nothing), (400, "M_BAD_JSON"));
        let seat = Seat::of(&server.post(&path("get_token"), &alice.token, body.clone()).await);
        let sid = stage.enters(&seat).await;
        body["expire_refresh_token"] = json!(armed.token);
        let (status, told) = stage.call.server.post(&path(endpoint), &alice.token, body).await;
        assert_eq!(status, StatusCode::OK, "{endpoint}: {told}");
        stage.pass(100).await;
        assert_eq!(stage.call.status(&armed.event_id)["status"], "running", "{endpoint}");
        stage.leaves(&seat, &sid, "CLIENT_INITIATED").await;
        stage.call.until(&armed.event_id, "ended").await;
    }
}

#[tokio::test]
async fn a_refresh_token_is_handed_over_instead_of_a_delay_id_and_outages_let_it_expire() {
    let stage = Stage::new().await;
    let armed = stage.call.arm("1", 20).await;
    let seat = Seat::of(&stage.token(&stage.call.alice, "m", None).await);
    stage.enters(&seat).await;
    let mut body = stage.body(&stage.call.alice, "m").await;
    for token in ["nonsense", &*stage.leave("another").await] {
        body["expire_refresh_token"] = json!(token);
        let told = stage.ask("/delegate_delayed_leave", body.clone()).await;
        assert_eq!(errcode(&told), (400, "M_INVALID_PARAM"), "{token}");
    }
    body["expire_refresh_token"] = json!(armed.token);
    let told = stage.ask("/delegate_delayed_leave", body).await;
    assert_eq!(told, (StatusCode::OK, json!({})));
    stage.pass(60).await;
    assert_eq!(stage.call.status(&armed.event_id)["status"], "running");
    stage.livekit.state().is_down = true;
    stage.pass(170).await;
    stage.call.until(&armed.event_id, "expired").await;
}

#[tokio::test]
async fn only_a_users_own_scheduled_event_of_the_same_room_can_be_delegated() {
    let stage = Stage::new().await;
    let (alice, bob) = (&stage.call.alice, &stage.call.join("bob").await);
    let bobs = delay_id(&stage.call.later(bob, By::Query, &Later::message("bob")).await);
    let short = stage.call.put_off(&Later::message("short").after(&seconds(4))).await;
    let over = stage.leave("over").await;
    assert_eq!(stage.call.act(&over, "cancel").await.0, 200);
    for id in [&bobs, &short, &over, "nonsense"] {
        let told = stage.token(alice, "m", Some(id)).await;
        assert_eq!(errcode(&told), (400, "M_INVALID_PARAM"), "{id}");
    }
    let elsewhere = json!({ "preset": "public_chat" });
    let (_, room) =
        stage.call.server.post("/_matrix/client/v3/createRoom", &alice.token, elsewhere).await;
    let leave = stage.leave("here").await;
    let mut body = stage.body(alice, "m").await;
    (body["room_id"], body["delay_id"]) = (room["room_id"].clone(), json!(leave));
    assert_eq!(
        errcode(&stage.ask("/delegate_delayed_leave", body).await),
        (400, "M_INVALID_PARAM")
    );
}

#[tokio::test]
async fn a_lost_web_hook_is_made_up_for_by_asking() {
    let stage = Stage::new().await;
    let (seat, ..) = stage.delegated().await;
    stage.livekit.disconnect(&seat);
    stage.pass(40).await;
    assert!(!stage.is_over(), "clients may be connecting anew");
    stage.pass(20).await;
    assert_eq!(stage.call.said(), ["gone"]);
}

#[tokio::test]
async fn a_participant_that_never_connects_has_left_after_a_minute() {
    let stage = Stage::new().await;
    let leave = stage.leave("gone").await;
    Seat::of(&stage.token(&stage.call.alice, "m", Some(&leave)).await);
    stage.pass(56).await;
    assert!(!stage.is_over());
    stage.pass(10).await;
    assert_eq!(stage.call.said(), ["gone"]);
}

#[tokio::test]
async fn a_web_hook_that_comes_again_does_not_end_the_next_session() {
    let stage = Stage::new().await;
    let (seat, sid, _) = stage.delegated().await;
    let replayed = stage.hook("participant_left", &seat, &sid, "CLIENT_INITIATED");
    // The page was reloaded: the old session ends after the new one has begun.
    let new = stage.livekit.connect(&seat);
    for _ in 0..2 {
        assert_eq!(stage.deliver(&replayed).await, StatusCode::OK);
        stage.pass(10).await;
        assert_eq!(stage.call.said().len(), 0);
    }
    stage.leaves(&seat, &new, "CLIENT_INITIATED").await;
    stage.call.until_said("gone").await;
    assert_eq!(stage.deliver(&replayed).await, StatusCode::OK);
    stage.pass(10).await;
    assert_eq!(stage.call.said(), ["gone"]);
}

#[tokio::test]
async fn participants_have_time_to_come_back_after_a_restart_of_livekit() {
    let stage = Stage::new().await;
    let (seat, sid, _) = stage.delegated().await;
    stage.livekit.state().rooms.clear();
    stage.leaves(&seat, &sid, "SERVER_SHUTDOWN").await;
    stage.pass(10).await;
    assert_eq!(stage.call.said().len(), 0);
    assert!(stage.livekit.state().rooms.contains_key(&seat.room), "the room is made anew");
    stage.enters(&seat).await;
    stage.pass(300).await;
    assert_eq!((stage.call.running(), stage.call.said().len()), (1, 0));
}

#[tokio::test]
async fn a_livekit_that_cannot_be_reached_is_no_hang_up_until_the_delay_runs_out() {
    let stage = Stage::new().await;
    let (seat, ..) = stage.delegated().await;
    stage.livekit.state().is_down = true;
    stage.pass(110).await;
    assert!(!stage.is_over(), "kept alive for two minutes");
    stage.livekit.state().is_down = false;
    stage.pass(60).await;
    assert!(!stage.is_over(), "no participant was missing");
    stage.livekit.state().is_down = true;
    stage.pass(280).await;
    assert_eq!(stage.call.said(), ["gone"], "the delay has run out");
    assert!(stage.livekit.state().rooms[&seat.room].contains_key(&seat.identity));
}

#[tokio::test]
async fn a_newer_delegation_takes_the_place_of_the_older_one() {
    let stage = Stage::new().await;
    let (seat, sid, _) = stage.delegated().await;
    let newer = stage.leave("newer").await;
    Seat::of(&stage.token(&stage.call.alice, "m", Some(&newer)).await);
    stage.settle().await;
    stage.leaves(&seat, &sid, "CLIENT_INITIATED").await;
    stage.call.until_said("newer").await;
    assert!(stage.is_over(), "the older one has ended");
    stage.pass(100).await;
    assert_eq!(stage.call.said(), ["newer"]);
}

#[tokio::test]
async fn the_end_of_the_session_before_does_not_send_the_leave_of_a_page_that_is_loaded_anew() {
    for connects in [true, false] {
        let stage = Stage::new().await;
        let (seat, sid, _) = stage.delegated().await;
        let newer = stage.leave("newer").await;
        Seat::of(&stage.token(&stage.call.alice, "m", Some(&newer)).await);
        stage.settle().await;
        stage.leaves(&seat, &sid, "CONNECTION_TIMEOUT").await;
        stage.pass(10).await;
        assert_eq!((stage.call.running(), stage.call.said().len()), (1, 0));
        if connects {
            let new = stage.enters(&seat).await;
            stage.pass(100).await;
            assert_eq!((stage.call.running(), stage.call.said().len()), (1, 0));
            stage.leaves(&seat, &new, "CONNECTION_TIMEOUT").await;
        } else {
            stage.pass(60).await;
        }
        stage.call.until_said("newer").await;
    }
}

#[tokio::test]
async fn a_replaced_leave_is_never_sent_whatever_becomes_of_its_commits() {
    for fate in FATES {
        for commit in 2..=3 {
            let strike = Strike::new();
            let options = Options { fault: Some(Arc::clone(&strike) as _), ..Options::lenient() };
            let mut stage = Stage::with(options).await;
            let (seat, sid, _) = stage.delegated().await;
            let newer = stage.leave("newer").await;
            let mut body = stage.body(&stage.call.alice, "m").await;
            body["delay_id"] = json!(newer);
            strike.at(commit, fate);
            stage.ask("/delegate_delayed_leave", body).await;
            stage.until("the strike", || strike.has_struck()).await;
            if fate != wick_database::FaultAction::Fail {
                stage.call.server.crash().await;
            }
            stage.pass(300).await;
            assert_eq!(stage.call.said().len(), 0, "{fate:?} at {commit}");
            assert_eq!(stage.call.running(), 1, "{fate:?} at {commit}");
            stage.leaves(&seat, &sid, "CLIENT_INITIATED").await;
            stage.call.until_said("newer").await;
        }
    }
}

#[tokio::test]
async fn an_event_that_expires_ends_when_a_newer_one_takes_its_place() {
    let stage = Stage::new().await;
    let (older, newer) = (stage.call.arm("older", 30).await, stage.call.arm("newer", 30).await);
    let mut body = stage.body(&stage.call.alice, "m").await;
    for armed in [&older, &newer] {
        body["expire_refresh_token"] = json!(armed.token);
        let told = stage.ask("/delegate_delayed_leave", body.clone()).await;
        assert_eq!(told, (StatusCode::OK, json!({})));
    }
    stage.call.until(&older.event_id, "ended").await;
    let seat = Seat::of(&stage.token(&stage.call.alice, "m", None).await);
    stage.enters(&seat).await;
    stage.pass(100).await;
    assert_eq!(stage.call.status(&newer.event_id)["status"], "running");
}

#[tokio::test]
async fn a_leave_that_is_delegated_for_another_member_moves_there() {
    let stage = Stage::new().await;
    let (first, sid, leave) = stage.delegated().await;
    let second = Seat::of(&stage.token(&stage.call.alice, "m2", Some(&leave)).await);
    let second_sid = stage.enters(&second).await;
    stage.leaves(&first, &sid, "CLIENT_INITIATED").await;
    stage.pass(200).await;
    assert_eq!((stage.call.running(), stage.call.said().len()), (1, 0));
    stage.leaves(&second, &second_sid, "CLIENT_INITIATED").await;
    stage.call.until_said("gone").await;
}

#[tokio::test]
async fn a_connection_that_never_was_made_is_no_hang_up() {
    let stage = Stage::new().await;
    let (seat, sid, _) = stage.delegated().await;
    stage.livekit.disconnect(&seat);
    let aborted = stage.hook("participant_connection_aborted", &seat, &sid, "JOIN_FAILURE");
    assert_eq!(stage.deliver(&aborted).await, StatusCode::OK);
    stage.pass(10).await;
    assert_eq!(stage.call.said().len(), 0, "the client tries again");
    stage.enters(&seat).await;
    stage.pass(100).await;
    assert_eq!((stage.call.running(), stage.call.said().len()), (1, 0));
}

#[tokio::test]
async fn the_timers_of_a_former_member_end_with_the_removal_although_its_web_hook_is_lost() {
    let stage = Stage::new().await;
    let armed = stage.call.arm("1", 100).await;
    let mut body = stage.body(&stage.call.alice, "m").await;
    body["expire_refresh_token"] = json!(armed.token);
    let seat = Seat::of(&stage.ask("/get_token", body).await);
    stage.enters(&seat).await;
    stage.settle().await;
    assert_eq!(stage.call.post(&stage.call.alice, "leave", json!({})).await.0, 200);
    stage.pass(4).await;
    assert!(!stage.livekit.state().rooms[&seat.room].contains_key(&seat.identity));
    assert!(stage.is_over());
}

#[tokio::test]
async fn a_token_that_is_fetched_again_keeps_the_delegation() {
    let stage = Stage::new().await;
    let (seat, sid, _) = stage.delegated().await;
    assert_eq!(Seat::of(&stage.token(&stage.call.alice, "m", None).await), seat);
    stage.pass(200).await;
    stage.leaves(&seat, &sid, "CLIENT_INITIATED").await;
    stage.call.until_said("gone").await;
}

#[tokio::test]
async fn what_the_client_sends_or_cancels_itself_is_not_sent_again() {
    for (action, said) in [("cancel", 0), ("send", 1)] {
        let stage = Stage::new().await;
        let (seat, sid, leave) = stage.delegated().await;
        assert_eq!(stage.call.act(&leave, action).await.0, 200);
        stage.leaves(&seat, &sid, "CLIENT_INITIATED").await;
        stage.pass(200).await;
        assert_eq!(stage.call.said().len(), said, "{action}");
    }
}

#[tokio::test]
async fn a_delegation_survives_a_restart_and_a_kill_and_the_disconnect_in_between() {
    for kill in [false, true] {
        let mut stage = Stage::new().await;
        let (seat, sid, _) = stage.delegated().await;
        if kill {
            stage.call.server.crash().await;
        } else {
            stage.call.server.restart().await;
        }
        stage.pass(300).await;
        assert!(!stage.is_over(), "it is kept alive");
        stage.call.server.crash().await;
        stage.settle().await;
        stage.leaves(&seat, &sid, "CLIENT_INITIATED").await;
        stage.call.until_said("gone").await;
    }
    let mut stage = Stage::new().await;
    let (seat, ..) = stage.delegated().await;
    stage.call.server.stop().await;
    stage.livekit.disconnect(&seat);
    stage.call.server.restart().await;
    stage.pass(60).await;
    assert_eq!(stage.call.said(), ["gone"]);
}

#[tokio::test]
async fn a_leave_is_sent_once_through_a_failure_at_any_commit() {
    for fate in FATES {
        for commit in 1..=2 {
            let strike = Strike::new();
            let options = Options { fault: Some(Arc::clone(&strike) as _), ..Options::lenient() };
            let mut stage = Stage::with(options).await;
            let (seat, sid, _) = stage.delegated().await;
            strike.at(commit, fate);
            stage.leaves(&seat, &sid, "CLIENT_INITIATED").await;
            stage.until("the strike", || strike.has_struck()).await;
            if fate != wick_database::FaultAction::Fail {
                stage.call.server.crash().await;
            }
            stage.pass(60).await;
            assert_eq!(stage.call.said(), ["gone"], "{fate:?} at {commit}");
            assert!(stage.is_over());
        }
    }
}

#[tokio::test]
async fn a_delegation_is_answered_only_if_it_is_written_and_can_be_repeated() {
    for fate in FATES {
        let strike = Strike::new();
        let options = Options { fault: Some(Arc::clone(&strike) as _), ..Options::lenient() };
        let mut stage = Stage::with(options).await;
        let leave = stage.leave("gone").await;
        let mut body = stage.body(&stage.call.alice, "m").await;
        body["delay_id"] = json!(leave);
        strike.at(1, fate);
        let (status, _) = stage.ask("/get_token", body.clone()).await;
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR, "{fate:?}");
        if fate != wick_database::FaultAction::Fail {
            stage.call.server.crash().await;
        }
        let seat = Seat::of(&stage.ask("/get_token", body).await);
        let sid = stage.enters(&seat).await;
        stage.pass(200).await;
        assert!(!stage.is_over(), "{fate:?}");
        stage.leaves(&seat, &sid, "CLIENT_INITIATED").await;
        stage.call.until_said("gone").await;
    }
}

#[tokio::test]
async fn a_full_disk_puts_the_leave_off_and_loses_nothing() {
    let moody = Arc::new(Moody::default());
    let options = Options { fault: Some(Arc::clone(&moody) as _), ..Options::lenient() };
    let stage = Stage::with(options).await;
    let (seat, sid, _) = stage.delegated().await;
    moody.is_full.store(true, Ordering::Relaxed);
    stage.leaves(&seat, &sid, "CLIENT_INITIATED").await;
    stage.call.server.clock.advance(seconds(10)).await;
    assert_eq!(stage.call.said().len(), 0);
    moody.is_full.store(false, Ordering::Relaxed);
    stage.pass(6).await;
    assert_eq!(stage.call.said(), ["gone"]);
}

#[tokio::test]
async fn a_quiet_call_is_asked_about_four_times_a_minute_and_written_once_per_delay() {
    let strike = Strike::new();
    let options = Options { fault: Some(Arc::clone(&strike) as _), ..Options::lenient() };
    let stage = Stage::with(options).await;
    stage.delegated().await;
    stage.pass(20).await;
    let asked = stage.livekit.state().asked;
    let renewals = || stage.call.server.services().timers.list(None, None, 9).unwrap();
    let before = renewals();
    stage.pass(50).await;
    let asked = stage.livekit.state().asked - asked;
    assert!((3..=6).contains(&asked), "{asked}");
    assert_eq!(format!("{before:?}"), format!("{:?}", renewals()), "no row was written");
}
