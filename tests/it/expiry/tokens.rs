//! Refresh tokens: what they permit, and how often.

use std::net::IpAddr;

use axum::body::Body;
use http::{Method, Request};
use serde_json::json;
use wick_api::Peer;
use wick_core::config::Rate;
use wick_database::{Range, Read, schema::timer::TIMER_BY_ID};

use super::call::{Armed, Call, END, REFRESH, errcode, seconds};

#[tokio::test]
async fn row_7_the_same_request_again_is_the_same_event_with_the_same_token() {
    let call = Call::new().await;
    let first = call.arm("same", 10).await;
    let again = call.arm("same", 10).await;
    assert_eq!((&first.event_id, &first.token), (&again.event_id, &again.token));
    // The body does not matter, and neither does that the timer has been refreshed.
    assert_eq!(call.refresh(&first.token).await.0, 200);
    let other = Armed::from_answer(&call.send(&call.alice, "same", json!({})).await);
    assert_eq!(other.token, first.token);
    assert_eq!(call.running(), 1);

    let state = call.arm_state("key", 10).await;
    let replaced = call.arm_state("key", 10).await;
    assert_ne!(state.event_id, replaced.event_id);
    assert_eq!(errcode(&call.refresh(&state.token).await), (404, "M_NOT_FOUND"));
    assert_eq!(call.refresh(&replaced.token).await.0, 200);
}

#[tokio::test]
async fn row_9_an_answered_refresh_puts_the_end_off_by_the_whole_duration() {
    let call = Call::new().await;
    let armed = call.arm("t", 10).await;
    for _ in 0..3 {
        call.server.clock.advance(seconds(9)).await;
        let refreshed = call.refresh(&armed.token).await;
        assert_eq!(refreshed, (http::StatusCode::OK, json!({})));
    }
    call.server.clock.advance(seconds(9)).await;
    assert_eq!(call.status(&armed.event_id), json!({ "status": "running" }));
    assert!(call.terminals(&armed.event_id).is_empty());
    call.server.clock.advance(seconds(1)).await;
    call.until(&armed.event_id, "expired").await;
    assert_eq!(call.terminals(&armed.event_id).len(), 1);
}

#[tokio::test]
async fn row_9_a_refresh_changes_the_row_also_when_the_wall_clock_went_back() {
    let call = Call::new().await;
    let armed = call.arm("t", 10).await;
    let row = || {
        let latest = call.server.services().database.latest();
        latest.last(&TIMER_BY_ID, Range::all()).unwrap().unwrap().1
    };
    let before = row();
    call.server.clock.jump(-3_600_000);
    assert_eq!(call.refresh(&armed.token).await.0, 200);
    // A firing that was decided on the row as it was finds it changed.
    assert_ne!(row(), before);
}

#[tokio::test]
async fn row_10_every_token_without_a_running_timer_gets_the_same_answer() {
    let call = Call::new().await;
    let superseded = call.arm_state("a", 10).await;
    call.set(&call.alice, "a", json!({ "body": "gone" })).await;
    let redacted = call.arm("t", 10).await;
    let path = format!("/_matrix/client/v3/rooms/{}/redact/{}/r", call.room, redacted.event_id);
    assert_eq!(call.server.put(&path, &call.alice.token, json!({})).await.0, 200);
    let running = call.arm("running", 10).await;
    // The right timer with a wrong proof.
    let mut forged: Vec<char> = running.token.chars().collect();
    forged[30] = if forged[30] == 'A' { 'B' } else { 'A' };
    let forged: String = forged.into_iter().collect();
    let tokens =
        ["", "rubbish", "ä\u{0}", &forged, &superseded.token, &redacted.token, &"A".repeat(54)];
    let mut answers = Vec::new();
    for token in tokens.into_iter().filter(|token| **token != running.token) {
        answers.push(call.refresh(token).await);
        answers.push(call.end(token).await);
    }
    for answer in &answers {
        assert_eq!(errcode(answer), (404, "M_NOT_FOUND"));
        assert_eq!(answer, &answers[0]);
    }
}

#[tokio::test]
async fn row_11_after_the_end_a_token_does_nothing_more_but_a_second_end_is_forgiven() {
    let call = Call::new().await;
    let ended = call.arm("ended", 10).await;
    assert_eq!(call.end(&ended.token).await, (http::StatusCode::OK, json!({})));
    assert_eq!(errcode(&call.refresh(&ended.token).await), (404, "M_NOT_FOUND"));
    assert_eq!(call.end(&ended.token).await.0, 200);
    call.server.clock.advance(seconds(5 * 60 + 1)).await;
    assert_eq!(errcode(&call.end(&ended.token).await), (404, "M_NOT_FOUND"));
    assert_eq!(call.terminals(&ended.event_id).len(), 1);

    let expired = call.arm("expired", 10).await;
    call.server.clock.advance(seconds(10)).await;
    call.until(&expired.event_id, "expired").await;
    assert_eq!(errcode(&call.refresh(&expired.token).await), (404, "M_NOT_FOUND"));
    assert_eq!(errcode(&call.end(&expired.token).await), (404, "M_NOT_FOUND"));
}

#[tokio::test]
async fn row_25_requests_that_make_no_sense_get_the_errors_of_the_specification() {
    let call = Call::new().await;
    let server = &call.server;
    let token = json!({ "expire_refresh_token": "x" });
    let unstable = "/_matrix/client/unstable/org.matrix.msc4140/expiration";
    for base in ["/_matrix/client/v3/expiration", unstable] {
        let unknown = server.put(&format!("{base}/prolong"), "", token.clone()).await;
        assert_eq!(errcode(&unknown), (404, "M_UNRECOGNIZED"));
        for body in ["", "{no json", "[]", "{}", "\u{0}"] {
            let path = format!("{base}/prolong");
            let request = Request::put(path).body(Body::from(body)).unwrap();
            let answer = server.send(request).await;
            assert_eq!(errcode(&(answer.status, answer.body)), (404, "M_UNRECOGNIZED"), "{body}");
        }
        for method in [Method::GET, Method::POST, Method::DELETE] {
            let path = format!("{base}/refresh");
            let wrong = server.request(method, &path, "", token.clone()).await;
            assert_eq!(errcode(&wrong), (405, "M_UNRECOGNIZED"));
        }
        for method in ["refresh", "end"] {
            let path = format!("{base}/{method}");
            for body in [json!({}), json!({ "expire_refresh_token": 5 }), json!([]), json!("x")] {
                let bad = server.put(&path, "", body.clone()).await;
                assert_eq!(errcode(&bad), (400, "M_BAD_JSON"), "{body}");
            }
            let request = Request::put(&path).body(Body::from("{no json")).unwrap();
            let answer = server.send(request).await;
            assert_eq!(errcode(&(answer.status, answer.body)), (400, "M_NOT_JSON"));
        }
    }
}

#[tokio::test]
async fn row_26_guesses_are_limited_by_address_and_keep_alives_by_token() {
    let call = Call::with(|config| {
        config.timers.invalid = Rate { per_second: 0.5, burst: 5 };
        config.timers.keep_alive = Rate { per_second: 2.0, burst: 10 };
    })
    .await;
    let armed = call.arm("t", 60).await;
    let other = call.arm("other", 60).await;
    let guess = |address: [u8; 4], token: &str| {
        let body = json!({ "expire_refresh_token": token }).to_string();
        let mut request = Request::put(REFRESH).body(Body::from(body)).unwrap();
        request.extensions_mut().insert(Peer::Address(IpAddr::from(address)));
        call.server.send(request)
    };
    for _ in 0..5 {
        assert_eq!(guess([10, 0, 0, 1], "wrong").await.status, 404);
    }
    let limited = guess([10, 0, 0, 1], "wrong").await;
    assert_eq!(limited.status, 429);
    assert!(limited.headers.contains_key("retry-after"));
    assert_eq!(guess([10, 0, 0, 2], "wrong").await.status, 404, "another address");
    // Valid tokens are not counted against the address.
    for _ in 0..10 {
        assert_eq!(guess([10, 0, 0, 1], &armed.token).await.status, 200);
    }
    assert_eq!(guess([10, 0, 0, 3], &armed.token).await.status, 429);
    assert_eq!(guess([10, 0, 0, 1], &other.token).await.status, 200, "another token");
    call.server.clock.advance(seconds(1)).await;
    assert_eq!(guess([10, 0, 0, 3], &armed.token).await.status, 200);
}

#[tokio::test]
async fn the_token_alone_is_the_right_and_it_is_nowhere_in_the_event() {
    let call = Call::new().await;
    let armed = call.arm("t", 10).await;
    let event = call.event(&armed.event_id).to_string();
    assert!(!event.contains(&armed.token));
    assert!(event.contains("\"m.will_expire\":\"running\""), "{event}");
    let stranger = call.server.put(
        END,
        "no such access token",
        json!({
            "expire_refresh_token": armed.token,
        }),
    );
    assert_eq!(stranger.await.0, 200, "an access token is neither needed nor looked at");
    assert_eq!(call.status(&armed.event_id)["status"], "ended");
}
