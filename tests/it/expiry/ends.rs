//! How timers end, and how that is shown.

use http::StatusCode;
use serde_json::json;

use super::call::{Call, errcode, seconds};

#[tokio::test]
async fn the_duration_is_hidden_and_the_copy_says_what_became_of_the_event() {
    let call = Call::new().await;
    let armed = call.arm("t", 10).await;
    let original = call.event(&armed.event_id);
    assert_eq!(original["content"], json!({ "body": "here", "m.will_expire": "running" }));
    assert_eq!(original["unsigned"]["m.will_expire"], json!({ "status": "running" }));

    call.server.clock.advance(seconds(10)).await;
    call.until(&armed.event_id, "expired").await;
    let terminals = call.terminals(&armed.event_id);
    assert_eq!(terminals.len(), 1);
    let copy = &terminals[0];
    assert_eq!(copy["type"], original["type"]);
    assert_eq!(copy["sender"], original["sender"]);
    assert_eq!(
        copy["content"],
        json!({
            "body": "here",
            "m.will_expire": "expired",
            "m.relates_to": { "rel_type": "m.expire.relationship", "event_id": armed.event_id },
        })
    );
    let status = call.status(&armed.event_id);
    assert_eq!(status["event_id"], copy["event_id"]);
    assert_eq!(status["origin_server_ts"], copy["origin_server_ts"]);
    // The signed event is as it was (R11).
    assert_eq!(call.event(&armed.event_id)["content"], original["content"]);
}

#[tokio::test]
async fn row_12_a_newer_state_event_stops_the_timer_whoever_sent_it() {
    let call = Call::new().await;
    let bob = call.join("bob").await;
    let first = call.arm_state("seat", 10).await;
    let (status, body) = call.set(&bob, "seat", json!({ "body": "mine now" })).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert_eq!(call.running(), 0);
    call.server.clock.advance(seconds(60)).await;
    assert!(call.terminals(&first.event_id).is_empty());
    assert_eq!(errcode(&call.refresh(&first.token).await), (404, "M_NOT_FOUND"));

    let second = call.arm_state("seat", 10).await;
    let third = call.arm_state("seat", 20).await;
    assert_eq!(call.running(), 1);
    call.server.clock.advance(seconds(19)).await;
    assert!(call.terminals(&second.event_id).is_empty());
    assert_eq!(call.status(&third.event_id)["status"], "running");
    call.server.clock.advance(seconds(1)).await;
    call.until(&third.event_id, "expired").await;
}

#[tokio::test]
async fn row_14_a_redacted_event_is_never_copied() {
    let call = Call::new().await;
    let armed = call.arm("t", 10).await;
    let path = format!("/_matrix/client/v3/rooms/{}/redact/{}/r", call.room, armed.event_id);
    assert_eq!(call.server.put(&path, &call.alice.token, json!({})).await.0, StatusCode::OK);
    assert_eq!(call.running(), 0);
    call.server.clock.advance(seconds(60)).await;
    assert!(call.terminals(&armed.event_id).is_empty());
    let event = call.event(&armed.event_id);
    assert_eq!(event["content"], json!({}));
    assert!(event["unsigned"].get("m.will_expire").is_none());
    assert!(event["unsigned"].get("redacted_because").is_some());
}

#[tokio::test]
async fn row_15_the_auth_rules_decide_when_it_fires_and_the_status_is_set_all_the_same() {
    let call = Call::new().await;
    let bob = call.join("bob").await;
    let sent = call.send(&bob, "t", json!({ "m.will_expire": 10 })).await;
    let expired = super::call::Armed::from_answer(&sent);
    let sent = call.send(&bob, "t2", json!({ "m.will_expire": 60 })).await;
    let ended = super::call::Armed::from_answer(&sent);
    let kick = json!({ "user_id": bob.user_id });
    assert_eq!(call.post(&call.alice, "kick", kick).await.0, StatusCode::OK);

    call.server.clock.advance(seconds(10)).await;
    call.until(&expired.event_id, "expired").await;
    assert_eq!(call.status(&expired.event_id), json!({ "status": "expired" }));
    assert_eq!(call.end(&ended.token).await.0, StatusCode::OK);
    assert_eq!(call.status(&ended.event_id), json!({ "status": "ended" }));
    assert!(call.terminals(&expired.event_id).is_empty());
    assert!(call.terminals(&ended.event_id).is_empty());
    assert_eq!(call.running(), 0);
}

#[tokio::test]
async fn row_16_a_deactivated_accounts_timers_say_their_last_word_before_it_leaves() {
    let call = Call::new().await;
    let bob = call.join("bob").await;
    let sent = call.send(&bob, "t", json!({ "m.will_expire": 600 })).await;
    let armed = super::call::Armed::from_answer(&sent);
    call.deactivate(&bob).await;
    call.until(&armed.event_id, "expired").await;
    let terminals = call.terminals(&armed.event_id);
    assert_eq!(terminals.len(), 1);
    assert_eq!(terminals[0]["content"]["m.will_expire"], "expired");
    assert_eq!(call.running(), 0);
    assert_eq!(errcode(&call.refresh(&armed.token).await), (404, "M_NOT_FOUND"));
}

#[tokio::test]
async fn row_17_a_logged_out_devices_timer_runs_out_by_itself() {
    let call = Call::new().await;
    let armed = call.arm("t", 10).await;
    let logout = "/_matrix/client/v3/logout";
    assert_eq!(call.server.post(logout, &call.alice.token, json!({})).await.0, StatusCode::OK);
    call.server.clock.advance(seconds(9)).await;
    assert_eq!(call.refresh(&armed.token).await.0, StatusCode::OK);
    call.server.clock.advance(seconds(10)).await;
    call.until(&armed.event_id, "expired").await;
    assert_eq!(call.terminals(&armed.event_id).len(), 1);
}

#[tokio::test]
async fn rows_18_and_19_ciphertext_is_copied_as_it_is_and_the_relation_replaced() {
    let call = Call::new().await;
    let parent = call.send(&call.alice, "parent", json!({ "body": "hello" })).await.1;
    let relation = json!({ "rel_type": "m.thread", "event_id": parent["event_id"] });
    let content = json!({
        "algorithm": "m.megolm.v1.aes-sha2", "ciphertext": "AwgAEnAC+/=", "session_id": "s",
        "m.relates_to": relation, "m.will_expire": 5,
    });
    let sent = call.send_type(&call.alice, "m.room.encrypted", "t", content).await;
    let armed = super::call::Armed::from_answer(&sent);
    call.server.clock.advance(seconds(5)).await;
    call.until(&armed.event_id, "expired").await;
    let copy = &call.terminals(&armed.event_id)[0];
    assert_eq!(copy["type"], "m.room.encrypted");
    assert_eq!(copy["content"]["ciphertext"], "AwgAEnAC+/=");
    assert_eq!(copy["content"]["session_id"], "s");
    assert_eq!(call.event(&armed.event_id)["content"]["m.relates_to"], relation);
    // The copy is no reply of the thread.
    let root = call.event(parent["event_id"].as_str().unwrap());
    assert_eq!(root["unsigned"]["m.relations"]["m.thread"]["count"], 1);
    let relations = &call.event(&armed.event_id)["unsigned"]["m.relations"];
    assert!(relations.is_null(), "{relations}");
}

#[tokio::test]
async fn row_20_the_copy_of_a_state_event_is_the_rooms_state_and_carries_no_timer() {
    let call = Call::new().await;
    let armed = call.arm_state("seat", 10).await;
    call.server.clock.advance(seconds(10)).await;
    call.until(&armed.event_id, "expired").await;
    let copy = call.terminals(&armed.event_id)[0]["event_id"].as_str().unwrap().to_owned();
    assert_eq!(call.state("org.example.presence", "seat"), Some(copy.clone()));
    assert_eq!(call.running(), 0);
    call.server.clock.advance(seconds(100)).await;
    assert!(call.terminals(&copy).is_empty());
}

#[tokio::test]
async fn ending_by_hand_says_ended_and_happens_once_however_often_it_is_asked() {
    let call = Call::new().await;
    let armed = call.arm_state("seat", 10).await;
    let (a, b, c) =
        tokio::join!(call.end(&armed.token), call.end(&armed.token), call.end(&armed.token));
    for answer in [a, b, c] {
        assert_eq!(answer, (StatusCode::OK, json!({})));
    }
    let terminals = call.terminals(&armed.event_id);
    assert_eq!(terminals.len(), 1);
    assert_eq!(terminals[0]["content"]["m.will_expire"], "ended");
    assert_eq!(call.status(&armed.event_id)["status"], "ended");
    call.server.clock.advance(seconds(60)).await;
    assert_eq!(call.terminals(&armed.event_id).len(), 1);
}

#[tokio::test]
async fn many_due_at_once_end_in_the_order_in_which_they_are_due() {
    let call = Call::new().await;
    let mut armed = Vec::new();
    for number in 0..50_u64 {
        armed.push(call.arm(&format!("t{number}"), 50 - number % 10).await);
    }
    call.server.clock.advance(seconds(120)).await;
    for event in &armed {
        call.until(&event.event_id, "expired").await;
    }
    let mut last = 0;
    for event in call.timeline() {
        let Some(original) = event["content"]["m.relates_to"]["event_id"].as_str() else {
            continue;
        };
        let index = armed.iter().position(|armed| armed.event_id == original).unwrap() as u64;
        let due = 50 - index % 10;
        assert!(due >= last, "{due} after {last}");
        last = due;
    }
    assert_eq!(last, 50);
}
