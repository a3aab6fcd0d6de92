//! What cannot be scheduled.

use axum::body::Body;
use http::Request;
use serde_json::{Value, json};
use wick_core::config::Period;

use super::later::{ACTIONS, By, FORMS, Later, delay_id, ok, status};
use crate::expiry::call::{Call, errcode, seconds};

impl Call {
    /// Nothing is scheduled, and nothing was sent at once.
    fn nothing_came_of_it(&self, before: usize) {
        assert_eq!(self.running(), 0);
        assert_eq!(self.timeline().len(), before);
    }
}

#[tokio::test]
async fn row_16_a_delay_that_is_no_positive_whole_number_is_refused() {
    let call = Call::new().await;
    let before = call.timeline().len();
    for by in FORMS {
        for delay in ["0", "-1", "1.5", "-9007199254740993", "9007199254740992"] {
            let expected = match by {
                By::Path | By::UnstablePath if delay != "0" => "M_BAD_JSON",
                _ => "M_INVALID_PARAM",
            };
            let delay: Value = serde_json::from_str(delay).unwrap();
            for later in [Later::message("t"), Later::state("k", "t")] {
                let later = Later { delay: delay.clone(), ..later };
                let refused = call.later(&call.alice, by, &later).await;
                assert_eq!(errcode(&refused), (400, expected), "{by:?} {delay}");
            }
        }
    }
    for delay in ["", "ten", "1e3", "10s", "0x10", "null"] {
        for later in [Later::message("t"), Later::state("k", "t")] {
            let later = Later { delay: json!(delay), ..later };
            let refused = call.later(&call.alice, By::Query, &later).await;
            assert_eq!(errcode(&refused), (400, "M_INVALID_PARAM"), "{delay}");
        }
    }
    for delay in [json!("10"), json!(null), json!([10]), json!({}), json!(true)] {
        for by in [By::Path, By::UnstablePath] {
            let later = Later { delay: delay.clone(), ..Later::message("t") };
            let refused = call.later(&call.alice, by, &later).await;
            assert_eq!(errcode(&refused), (400, "M_BAD_JSON"), "{delay}");
        }
    }
    let room = &call.room;
    let path = format!("/_matrix/client/v3/rooms/{room}/delayed_event/m.room.message/t");
    for body in [json!({}), json!({ "content": {} }), json!({ "delay_ms": 10 })] {
        let refused = call.server.put(&path, &call.alice.token, body).await;
        assert_eq!(errcode(&refused), (400, "M_BAD_JSON"));
    }
    call.nothing_came_of_it(before);
}

#[tokio::test]
async fn row_17_a_delay_beyond_the_limit_is_refused_and_the_limit_is_named() {
    let call = Call::with(|config| config.delayed_events.max_delay = Period::from_secs(60)).await;
    let before = call.timeline().len();
    for later in [Later::message("t"), Later::state("k", "t")] {
        for delay in [60_001_u64, 9_007_199_254_740_991] {
            let later = Later { delay: json!(delay), ..later.clone() };
            let refused = call.later(&call.alice, By::Query, &later).await;
            assert_eq!(errcode(&refused), (400, "M_UNKNOWN"));
            assert_eq!(refused.1["org.matrix.msc4140.errcode"], "M_MAX_DELAY_EXCEEDED");
            assert_eq!(refused.1["org.matrix.msc4140.max_delay"], 60_000);
            for by in [By::Path, By::UnstablePath] {
                let refused = call.later(&call.alice, by, &later).await;
                assert_eq!(errcode(&refused), (403, "M_FORBIDDEN"));
            }
        }
    }
    call.nothing_came_of_it(before);
    for (by, transaction) in [(By::Query, "a"), (By::Path, "b"), (By::UnstablePath, "c")] {
        let later = Later { delay: json!(60_000), ..Later::message(transaction) };
        delay_id(&call.later(&call.alice, by, &later).await);
    }
}

#[tokio::test]
async fn row_19_switched_off_nothing_more_is_scheduled_and_what_is_scheduled_is_sent() {
    let mut call = Call::new().await;
    call.delay("due").await;
    let kept = call.delay("kept").await;
    let cancelled = call.delay("cancelled").await;
    for max_scheduled in [0, 100] {
        let enabled = max_scheduled == 0;
        call.server
            .restart_with(|config| {
                config.delayed_events.enabled = enabled;
                config.delayed_events.max_scheduled = max_scheduled;
            })
            .await;
        for by in FORMS {
            for later in [Later::message("new"), Later::state("k", "new")] {
                let refused = call.later(&call.alice, by, &later).await;
                assert_eq!(errcode(&refused), (403, "M_FORBIDDEN"), "{by:?}");
            }
        }
        let versions = call.server.get("/_matrix/client/versions", "").await.1;
        let path = "/_matrix/client/v3/capabilities";
        let capabilities = call.server.get(path, &call.alice.token).await.1;
        for name in ["org.matrix.msc4140", "org.matrix.msc4140.stable"] {
            assert_eq!(versions["unstable_features"][name], false);
        }
        for name in ["m.delayed_events", "org.matrix.msc4140.delayed_events"] {
            assert_eq!(capabilities["capabilities"][name]["max_scheduled"], 0);
        }
    }
    assert_eq!(call.running(), 3);
    call.server.clock.advance(seconds(9)).await;
    ok(&call.act(&kept, "restart").await);
    ok(&call.act(&cancelled, "cancel").await);
    call.server.clock.advance(seconds(1)).await;
    call.until_said("due").await;
    assert_eq!(call.saying("kept").len(), 0);
    ok(&call.act(&kept, "send").await);
    call.until_said("kept").await;
}

#[tokio::test]
async fn row_20_a_delay_that_is_not_understood_is_never_taken_for_none() {
    let call = Call::new().await;
    let before = call.timeline().len();
    let room = &call.room;
    for query in [
        "delay=10000",
        "delay_ms=10000",
        "future_timeout=10000",
        "ts=5&delay=10000",
        "org.matrix.msc4140.delay_ms=10000",
        "org.matrix.msc4140.future_timeout=10000",
        "org.matrix.msc4140.parent_delay_id=x",
        "org.matrix.msc4140.delay=10000&org.matrix.msc4140.parent_delay_id=x",
        "org.matrix.msc4140.delay=10000&delay=10000",
        "org.matrix.msc4140.delay=10000&org.matrix.msc4140.delay=10000",
    ] {
        let path = format!("/_matrix/client/v3/rooms/{room}/redact/$nothing/t?{query}");
        let refused = call.server.put(&path, &call.alice.token, json!({})).await;
        assert_eq!(errcode(&refused), (400, "M_INVALID_PARAM"), "{path}");
        for what in ["send/m.room.message/t", "state/org.example.presence/k"] {
            let path = format!("/_matrix/client/v3/rooms/{room}/{what}?{query}");
            let body = json!({ "body": "gone" });
            let refused = call.server.put(&path, &call.alice.token, body).await;
            assert_eq!(errcode(&refused), (400, "M_INVALID_PARAM"), "{path}");
        }
    }
    let path = format!("/_matrix/client/v3/rooms/{room}/redact/$nothing/t");
    let path = format!("{path}?org.matrix.msc4140.delay=10000");
    let refused = call.server.put(&path, &call.alice.token, json!({})).await;
    assert_eq!(errcode(&refused), (400, "M_INVALID_PARAM"));
    call.nothing_came_of_it(before);
}

#[tokio::test]
async fn row_21_a_room_the_sender_never_was_in_is_refused_and_all_else_is_asked_later() {
    let mut call = Call::new().await;
    let before = call.timeline().len();
    let eve = call.server.register("eve").await;
    for by in FORMS {
        for later in [Later::message("t"), Later::state("k", "t")] {
            let refused = call.later(&eve, by, &later).await;
            assert_eq!(errcode(&refused), (403, "M_FORBIDDEN"), "{by:?}");
        }
    }
    call.nothing_came_of_it(before);
    let room = std::mem::replace(&mut call.room, "!nowhere:localhost".try_into().unwrap());
    for by in FORMS {
        let refused = call.later(&call.alice, by, &Later::message("t")).await;
        assert_eq!(errcode(&refused), (403, "M_FORBIDDEN"), "{by:?}");
    }
    call.room = room;

    // Invited, and in the room by the time it is due.
    let invite = json!({ "user_id": eve.user_id });
    assert_eq!(call.post(&call.alice, "invite", invite).await.0, 200);
    delay_id(&call.later(&eve, By::Query, &Later::message("invited")).await);
    // Without the power by now, and with it by then.
    let power = Later::message("power").of_type("org.example.power", json!({ "body": "power" }));
    let power = Later { state_key: Some(""), ..power };
    delay_id(&call.later(&eve, By::Path, &power).await);
    assert_eq!(call.post(&eve, "join", json!({})).await.0, 200);
    let levels = json!({ "users": { eve.user_id.as_str(): 50 } });
    let path = format!("/_matrix/client/v3/rooms/{}/state/m.room.power_levels", call.room);
    let set = call.server.put(&path, &call.alice.token, levels).await;
    assert_eq!(set.0, 200, "{}", set.1);
    call.server.clock.advance(seconds(10)).await;
    call.until_said("invited").await;
    call.until_said("power").await;
}

#[tokio::test]
async fn row_22_what_can_never_be_sent_is_refused_at_once() {
    let call = Call::new().await;
    let before = call.timeline().len();
    let large = json!({ "body": "x".repeat(65_000) });
    let key = "k".repeat(256);
    let event_type = "t".repeat(256);
    let deep = (0..110).fold(json!(1), |deep, _| json!({ "a": deep }));
    let refused: [(Later<'_>, (u16, &str)); 10] = [
        (Later::message("t").of_type("m.room.message", deep), (400, "M_BAD_JSON")),
        (Later::state("", "t").of_type("m.room.create", json!({})), (400, "M_INVALID_PARAM")),
        (Later::message("t").of_type("m.room.create", json!({})), (400, "M_INVALID_PARAM")),
        (Later::message("t").of_type("m.room.redaction", json!({})), (400, "M_BAD_JSON")),
        (
            Later::state("", "t").of_type("m.room.redaction", json!({ "redacts": "$x" })),
            (400, "M_INVALID_PARAM"),
        ),
        (
            Later::state("nobody", "t").of_type("m.room.member", json!({ "membership": "leave" })),
            (400, "M_INVALID_PARAM"),
        ),
        (Later::message("t").of_type("m.room.message", json!({ "a": 1.5 })), (400, "M_BAD_JSON")),
        (Later::message("t").of_type("m.room.message", large), (413, "M_TOO_LARGE")),
        (Later::state(&key, "t"), (413, "M_TOO_LARGE")),
        (Later::message("t").of_type(&event_type, json!({})), (413, "M_TOO_LARGE")),
    ];
    for (later, expected) in &refused {
        for by in FORMS {
            let answer = call.later(&call.alice, by, later).await;
            let Later { event_type, state_key, .. } = later;
            assert_eq!(errcode(&answer), *expected, "{by:?} {event_type} {state_key:?}");
        }
    }
    for content in ["[]", "\"x\"", "{"] {
        let path = Later::message("t").request(&call, By::Query).0;
        let request = Request::put(path)
            .header("authorization", format!("Bearer {}", call.alice.token))
            .body(Body::from(content))
            .unwrap();
        let answer = call.server.send(request).await;
        assert_eq!(status(&(answer.status, answer.body)), 400, "{content}");
    }
    call.nothing_came_of_it(before);
}

#[tokio::test]
async fn row_22_what_is_refused_at_once_is_what_would_be_refused_if_it_were_sent_now() {
    let call = Call::new().await;
    let room = &call.room;
    for (what, content) in [
        ("state/m.room.create/", json!({})),
        ("send/m.room.create/t", json!({})),
        ("send/m.room.redaction/t", json!({})),
        ("state/m.room.redaction/", json!({ "redacts": "$x" })),
        ("state/m.room.member/nobody", json!({ "membership": "leave" })),
        ("send/m.room.message/t", json!({ "a": 1.5 })),
        ("send/m.room.message/t", json!({ "body": "x".repeat(65_600) })),
    ] {
        let path = format!("/_matrix/client/v3/rooms/{room}/{what}");
        let now = call.server.put(&path, &call.alice.token, content.clone()).await;
        let path = format!("{path}?org.matrix.msc4140.delay=10000");
        let later = call.server.put(&path, &call.alice.token, content).await;
        assert!(status(&now) >= 400);
        assert_eq!(errcode(&later), errcode(&now), "{what}");
    }
}

#[tokio::test]
async fn row_23_an_event_that_is_sent_later_cannot_expire() {
    let call = Call::new().await;
    let before = call.timeline().len();
    for value in [json!(10), json!("running"), json!(null)] {
        let content = json!({ "body": "here", "m.will_expire": value });
        for by in FORMS {
            for later in [Later::message("t"), Later::state("k", "t")] {
                let later = Later { content: content.clone(), ..later };
                let refused = call.later(&call.alice, by, &later).await;
                assert_eq!(errcode(&refused), (400, "M_INVALID_PARAM"), "{by:?} {value}");
            }
        }
    }
    call.nothing_came_of_it(before);
}

#[tokio::test]
async fn a_handle_of_one_feature_is_unknown_to_the_other() {
    let call = Call::new().await;
    let delayed = call.delay("later").await;
    let expiring = call.arm("expiring", 10).await;
    for answer in [call.refresh(&delayed).await, call.end(&delayed).await] {
        assert_eq!(errcode(&answer), (404, "M_NOT_FOUND"));
    }
    for action in ACTIONS {
        let answer = call.act(&expiring.token, action).await;
        assert_eq!(errcode(&answer), (404, "M_NOT_FOUND"));
    }
    let answer = call.seen(&call.alice, &expiring.token).await;
    assert_eq!(errcode(&answer), (404, "M_NOT_FOUND"));
    assert_eq!(call.running(), 2);
    assert_eq!(call.listed(&call.alice).await, [delayed]);
    call.server.clock.advance(seconds(10)).await;
    call.until_said("later").await;
    call.until(&expiring.event_id, "expired").await;
}
