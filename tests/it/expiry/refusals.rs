//! What cannot be armed.

use serde_json::{Value, json};
use wick_core::Clock;

use super::call::{Call, errcode, seconds};

#[tokio::test]
async fn row_1_a_duration_that_is_no_positive_whole_number_is_refused_and_nothing_is_sent() {
    let call = Call::new().await;
    let before = call.timeline().len();
    let huge: Value = serde_json::from_str("9223372036854775808").unwrap();
    let wrong = [
        json!(0),
        json!(-1),
        json!(1.5),
        json!(10.0),
        json!("10"),
        json!("running"),
        json!("expired"),
        json!(true),
        json!(null),
        json!([10]),
        json!({}),
        huge,
    ];
    for (number, value) in wrong.into_iter().enumerate() {
        let content = json!({ "m.will_expire": value });
        let sent = call.send(&call.alice, &format!("t{number}"), content.clone()).await;
        assert_eq!(errcode(&sent), (400, "M_BAD_JSON"), "{content}");
        let set = call.set(&call.alice, "", content.clone()).await;
        assert_eq!(errcode(&set), (400, "M_BAD_JSON"), "{content}");
    }
    assert_eq!(call.timeline().len(), before);
    assert_eq!(call.running(), 0);
}

#[tokio::test]
async fn row_2_a_duration_beyond_the_limits_is_refused_and_the_limit_is_named() {
    let call = Call::with(|config| {
        config.expiry.min_duration = 5;
        config.expiry.max_duration = 60;
    })
    .await;
    for (duration, limit) in [(4, "5"), (61, "60")] {
        let sent = call.send(&call.alice, "t", json!({ "m.will_expire": duration })).await;
        assert_eq!(errcode(&sent), (400, "M_INVALID_PARAM"));
        assert!(sent.1["error"].as_str().unwrap().contains(limit), "{}", sent.1);
    }
    call.arm("five", 5).await;
    call.arm("sixty", 60).await;
}

#[tokio::test]
async fn row_3_events_that_a_server_must_not_repeat_cannot_expire() {
    let call = Call::new().await;
    let room = &call.room;
    for event_type in [
        "m.room.create",
        "m.room.member",
        "m.room.power_levels",
        "m.room.join_rules",
        "m.room.history_visibility",
        "m.room.server_acl",
        "m.room.encryption",
        "m.room.tombstone",
    ] {
        let key = if event_type == "m.room.member" { call.alice.user_id.as_str() } else { "" };
        let path = format!("/_matrix/client/v3/rooms/{room}/state/{event_type}/{key}");
        let content = json!({
            "m.will_expire": 10, "membership": "join", "join_rule": "public",
            "history_visibility": "shared", "algorithm": "m.megolm.v1.aes-sha2",
        });
        let set = call.server.put(&path, &call.alice.token, content).await;
        assert_eq!(errcode(&set), (400, "M_INVALID_PARAM"), "{event_type}: {}", set.1);
    }
    let sent =
        call.send_type(&call.alice, "m.room.redaction", "r", json!({ "m.will_expire": 10 })).await;
    assert_eq!(errcode(&sent), (400, "M_INVALID_PARAM"));
    let message = call.arm("t", 10).await;
    let path = format!("/_matrix/client/v3/rooms/{room}/redact/{}/r2", message.event_id);
    let redacted = call.server.put(&path, &call.alice.token, json!({ "m.will_expire": 10 })).await;
    assert_eq!(errcode(&redacted), (400, "M_INVALID_PARAM"));
    assert_eq!(call.running(), 1);
}

#[tokio::test]
async fn row_4_an_event_whose_copy_would_be_too_large_is_refused_at_once() {
    let call = Call::new().await;
    let before = call.timeline().len();
    // Small enough to be sent, too large to be sent again with a relation.
    let body = "x".repeat(64_900);
    let plain = call.send(&call.alice, "plain", json!({ "body": body })).await;
    assert_eq!(plain.0.as_u16(), 200, "{}", plain.1);
    let sent = call.send(&call.alice, "t", json!({ "body": body, "m.will_expire": 10 })).await;
    assert_eq!(errcode(&sent), (413, "M_TOO_LARGE"));
    assert_eq!(call.timeline().len(), before + 1);
    assert_eq!(call.running(), 0);
}

#[tokio::test]
async fn row_5_without_the_feature_it_is_refused_and_never_sent_plain() {
    let call = Call::with(|config| config.expiry.enabled = false).await;
    let before = call.timeline().len();
    let sent = call.send(&call.alice, "t", json!({ "m.will_expire": 10 })).await;
    assert_eq!(errcode(&sent), (403, "M_FORBIDDEN"));
    assert_eq!(call.timeline().len(), before);
}

#[tokio::test]
async fn row_6_a_user_has_only_so_many_timers_and_is_told_when_the_next_is_due() {
    let call = Call::with(|config| config.expiry.max_running = 2).await;
    call.arm("one", 30).await;
    call.arm("two", 20).await;
    let third = call.send(&call.alice, "three", json!({ "m.will_expire": 10 })).await;
    assert_eq!(errcode(&third), (429, "M_LIMIT_EXCEEDED"));
    assert_eq!(third.1["retry_after_ms"], 20_000);
    let bob = call.join("bob").await;
    let other = call.send(&bob, "one", json!({ "m.will_expire": 10 })).await;
    assert_eq!(other.0.as_u16(), 200, "the limit is each user's own: {}", other.1);

    let none = Call::with(|config| config.expiry.max_running = 0).await;
    let sent = none.send(&none.alice, "t", json!({ "m.will_expire": 10 })).await;
    assert_eq!(errcode(&sent), (403, "M_FORBIDDEN"));
}

#[tokio::test]
async fn row_8_an_event_that_is_refused_arms_nothing() {
    let call = Call::new().await;
    let eve = call.server.register("eve").await;
    let sent = call.send(&eve, "t", json!({ "m.will_expire": 10 })).await;
    assert_eq!(errcode(&sent), (403, "M_FORBIDDEN"));
    assert!(sent.1.get("expire_refresh_token").is_none());
    assert_eq!(call.running(), 0);
}

#[tokio::test]
async fn what_a_room_begins_with_cannot_expire_nor_pretend_to() {
    let call = Call::new().await;
    for value in [json!(10), json!("running"), json!("expired"), json!(null)] {
        let content = json!({ "m.will_expire": value });
        let state = json!({ "type": "org.example.presence", "state_key": "", "content": content });
        let body = json!({ "initial_state": [state] });
        let path = "/_matrix/client/v3/createRoom";
        let made = call.server.post(path, &call.alice.token, body).await;
        assert_eq!(errcode(&made), (400, "M_INVALID_PARAM"), "{value}");
    }
}

#[tokio::test]
async fn row_22_a_ts_of_a_user_who_is_no_appservice_changes_nothing() {
    let call = Call::new().await;
    let room = &call.room;
    let path = format!("/_matrix/client/v3/rooms/{room}/send/org.example.here/t?ts=1000");
    let content = json!({ "m.will_expire": 10 });
    let (status, sent) = call.server.put(&path, &call.alice.token, content).await;
    assert_eq!(status.as_u16(), 200, "{sent}");
    let event_id = sent["event_id"].as_str().unwrap();
    let stamp = call.event(event_id)["origin_server_ts"].clone();
    assert_eq!(stamp, json!(call.server.clock.now().0));
    call.server.clock.advance(seconds(9)).await;
    assert_eq!(call.status(event_id)["status"], "running");
    call.server.clock.advance(seconds(1)).await;
    call.until(event_id, "expired").await;
}
