//! Restarting, sending and cancelling, in every way: permissions, and the answers once the event is over.

use axum::body::Body;
use http::{Method, Request, StatusCode};
use serde_json::{Value, json};
use wick_database::{Read, schema::timer::TIMER_BY_ID};
use wick_harness::User;

use super::later::{ACTIONS, By, Later, UNSTABLE, WAYS, delay_id, ok};
use crate::expiry::call::{Call, errcode, seconds};

#[tokio::test]
async fn row_4_a_restart_begins_the_whole_delay_anew() {
    let mut call = Call::new().await;
    for way in WAYS {
        let name = format!("{way:?}");
        let id = call.delay(&name).await;
        for _ in 0..3 {
            call.server.clock.advance(seconds(9)).await;
            ok(&call.manage(way, "", &id, "restart").await);
            let seen = call.seen(&call.alice, &id).await.1;
            assert_eq!(seen["scheduled_at"], call.now());
            assert_eq!(seen["delay_ms"], 10_000);
        }
        // An answered restart counts whatever happens.
        call.server.crash().await;
        call.server.clock.advance(seconds(9)).await;
        assert!(call.saying(&name).is_empty());
        call.server.clock.advance(seconds(1)).await;
        call.until_said(&name).await;
    }
}

#[tokio::test]
async fn row_4_a_restart_counts_also_when_the_wall_clock_went_back() {
    let call = Call::new().await;
    let id = call.delay("t").await;
    let row = || {
        let latest = call.server.services().database.latest();
        latest.get(&TIMER_BY_ID, &call.last_timer()).unwrap().unwrap()
    };
    let before = row();
    call.server.clock.jump(-3_600_000);
    call.server.clock.advance(seconds(9)).await;
    ok(&call.act(&id, "restart").await);
    // It is due by the present clock, and a decision on the earlier row finds it changed.
    assert_eq!(row().deadline.0, call.now() + 10_000);
    assert_ne!(row(), before);
    call.server.clock.advance(seconds(9)).await;
    assert!(call.saying("t").is_empty());
    call.server.clock.advance(seconds(1)).await;
    call.until_said("t").await;
}

#[tokio::test]
async fn row_4_a_clock_that_was_set_right_is_believed_at_the_next_start() {
    let mut call = Call::new().await;
    call.server.clock.jump(3_600_000);
    let id = call.delay("t").await;
    call.server.clock.jump(-3_600_000);
    call.server.clock.advance(seconds(5)).await;
    ok(&call.act(&id, "restart").await);
    call.server.restart().await;
    call.server.clock.advance(seconds(9)).await;
    assert!(call.saying("t").is_empty());
    call.server.clock.advance(seconds(1)).await;
    call.until_said("t").await;
}

#[tokio::test]
async fn row_5_what_is_sent_by_hand_is_in_the_room_when_the_answer_comes() {
    let call = Call::new().await;
    for way in WAYS {
        for (by, name) in [(By::Query, format!("{way:?}-q")), (By::Path, format!("{way:?}-p"))] {
            let message = delay_id(&call.later(&call.alice, by, &Later::message(&name)).await);
            ok(&call.manage(way, "", &message, "send").await);
            let [sent] = <[Value; 1]>::try_from(call.saying(&name)).unwrap();
            assert_eq!(sent["origin_server_ts"], call.now());
            let seen = call.seen(&call.alice, &message).await.1;
            assert_eq!(seen["event_id"], sent["event_id"]);
            let key = format!("{name}-state");
            let state = delay_id(&call.later(&call.alice, by, &Later::state(&key, &key)).await);
            ok(&call.manage(way, "", &state, "send").await);
            assert!(call.state("org.example.presence", &key).is_some());
        }
    }
    assert_eq!(call.running(), 0);
    let said = call.said();
    call.server.clock.advance(seconds(60)).await;
    assert_eq!(call.said(), said);
}

#[tokio::test]
async fn row_5_what_the_room_refuses_to_have_sent_by_hand_stays_scheduled() {
    let call = Call::new().await;
    let bob = call.join("bob").await;
    let message = delay_id(&call.later(&bob, By::Query, &Later::message("message")).await);
    let state = delay_id(&call.later(&bob, By::Path, &Later::state("k", "state")).await);
    let kick = json!({ "user_id": bob.user_id });
    assert_eq!(call.post(&call.alice, "kick", kick).await.0, 200);
    let before = call.timeline().len();
    for way in WAYS {
        for id in [&message, &state] {
            let refused = call.manage(way, "", id, "send").await;
            assert_eq!(errcode(&refused), (403, "M_FORBIDDEN"), "{way:?}");
        }
    }
    assert_eq!(call.timeline().len(), before);
    assert_eq!(call.listed(&bob).await, [message.as_str(), &state]);
    assert_eq!(call.post(&bob, "join", json!({})).await.0, 200);
    ok(&call.act(&message, "send").await);
    call.until_said("message").await;
    call.server.clock.advance(seconds(10)).await;
    call.until_said("state").await;
}

#[tokio::test]
async fn row_6_what_is_cancelled_is_never_sent() {
    let mut call = Call::new().await;
    for way in WAYS {
        for (by, name) in [(By::Query, format!("{way:?}-q")), (By::Path, format!("{way:?}-p"))] {
            for later in [Later::message(&name), Later::state("k", &name)] {
                let id = delay_id(&call.later(&call.alice, by, &later).await);
                ok(&call.manage(way, "", &id, "cancel").await);
                let seen = call.seen(&call.alice, &id).await.1;
                assert_eq!(seen["finalised_ts"], call.now());
                assert!(seen.get("event_id").is_none() && seen.get("error").is_none());
            }
        }
    }
    assert_eq!(call.running(), 0);
    call.server.clock.advance(seconds(10)).await;
    call.server.crash().await;
    call.server.clock.advance(seconds(10)).await;
    assert_eq!(call.said(), [""; 0]);
}

/// One that was sent when it was due, one that was sent by hand, one that was cancelled, one that failed:
/// all of Bob's, who is not in the room any more.
async fn over(call: &Call) -> ([String; 4], User) {
    let bob = call.join("bob").await;
    let schedule = async |name: &str, delay| {
        let later = Later::message(name).after(&seconds(delay));
        delay_id(&call.later(&bob, By::Query, &later).await)
    };
    let due = schedule("due", 10).await;
    let by_hand = schedule("by-hand", 20).await;
    let cancelled = schedule("cancelled", 20).await;
    let failed = schedule("failed", 20).await;
    ok(&call.act(&by_hand, "send").await);
    ok(&call.act(&cancelled, "cancel").await);
    call.server.clock.advance(seconds(10)).await;
    call.until_said("due").await;
    let kick = json!({ "user_id": bob.user_id });
    assert_eq!(call.post(&call.alice, "kick", kick).await.0, 200);
    call.server.clock.advance(seconds(10)).await;
    while call.running() > 0 {
        tokio::task::yield_now().await;
    }
    ([due, by_hand, cancelled, failed], bob)
}

#[tokio::test]
async fn rows_9_to_11_what_is_over_is_answered_as_it_ended_however_often_and_by_whomever() {
    let mut call = Call::new().await;
    let ([due, by_hand, cancelled, failed], bob) = over(&call).await;
    let said = call.said();
    let (gone, fine) = ((404, "M_NOT_FOUND"), (200, ""));
    for _ in 0..2 {
        for way in WAYS {
            let conflict = way.conflict();
            // In the order of `ACTIONS`: restart, send, cancel.
            let expected = [
                (&due, [gone, fine, conflict]),
                (&by_hand, [gone, fine, conflict]),
                (&cancelled, [conflict, conflict, fine]),
                (&failed, [conflict, conflict, fine]),
            ];
            for token in ["", &bob.token] {
                for (id, answers) in &expected {
                    for (action, answer) in ACTIONS.into_iter().zip(answers) {
                        let told = call.manage(way, token, id, action).await;
                        assert_eq!(errcode(&told), *answer, "{way:?} {action}: {}", told.1);
                    }
                }
            }
        }
        assert_eq!(call.said(), said);
        call.server.restart().await;
    }
}

#[tokio::test]
async fn row_12_an_id_of_nobodys_or_of_another_users_is_unknown() {
    let call = Call::new().await;
    let (over, bob) = over(&call).await;
    let running = call.delay("running").await;
    // The right timer with a wrong proof.
    let mut forged: Vec<char> = running.chars().collect();
    forged[30] = if forged[30] == 'A' { 'B' } else { 'A' };
    let forged: String = forged.into_iter().collect();
    let long = "A".repeat(54);
    let mut answers = Vec::new();
    let mut ask = async |token: &str, id: &str| {
        for way in WAYS {
            for action in ACTIONS {
                answers.push(call.manage(way, token, id, action).await);
            }
        }
        if !token.is_empty() {
            let path = format!("/_matrix/client/v1/delayed_events/{id}");
            answers.push(call.server.get(&path, token).await);
            answers.push(call.server.get(&format!("{UNSTABLE}/delayed_events/{id}"), token).await);
        }
    };
    for id in ["rubbish", "%C3%A4%00", forged.as_str(), long.as_str()] {
        for token in ["", &call.alice.token] {
            ask(token, id).await;
        }
    }
    ask(&bob.token, &running).await;
    for id in &over {
        ask(&call.alice.token, id).await;
    }
    for answer in &answers {
        assert_eq!(errcode(answer), (404, "M_NOT_FOUND"));
        assert_eq!(answer, &answers[0]);
    }
    assert_eq!(call.listed(&call.alice).await, [running]);
}

#[tokio::test]
async fn row_13_an_unknown_action_is_refused_and_changes_nothing() {
    let call = Call::with(|config| config.delayed_events.require_auth = true).await;
    let id = call.delay("t").await;
    let v1 = "/_matrix/client/v1/delayed_events";
    let unstable = format!("{UNSTABLE}/delayed_events");
    for id in [id.as_str(), "nobody's"] {
        for action in ["refresh", "Cancel", "restart%20", "update"] {
            for base in [v1, unstable.as_str()] {
                for body in ["", "{}", "{no json", "[]"] {
                    let request = Request::post(format!("{base}/{id}/{action}"));
                    let answer = call.server.send(request.body(Body::from(body)).unwrap()).await;
                    let told = (answer.status, answer.body);
                    assert_eq!(errcode(&told), (404, "M_UNRECOGNIZED"), "{action} {body}");
                }
            }
            let path = format!("{unstable}/{id}");
            let body = json!({ "action": action });
            let told = call.server.post(&path, &call.alice.token, body).await;
            assert_eq!(errcode(&told), (400, "M_INVALID_PARAM"), "{action}");
        }
        let path = format!("{unstable}/{id}");
        for body in [json!({}), json!({ "action": 1 }), json!([]), json!({ "action": null })] {
            let told = call.server.post(&path, &call.alice.token, body).await;
            assert_eq!(errcode(&told), (400, "M_BAD_JSON"));
        }
        for (method, path) in [
            (Method::PUT, format!("{v1}/{id}/restart")),
            (Method::GET, format!("{v1}/{id}/restart")),
            (Method::DELETE, format!("{v1}/{id}")),
            (Method::POST, v1.to_owned()),
        ] {
            let told = call.server.request(method, &path, &call.alice.token, json!({})).await;
            assert_eq!(errcode(&told), (405, "M_UNRECOGNIZED"), "{path}");
        }
    }
    assert_eq!(call.listed(&call.alice).await, [id]);
}

#[tokio::test]
async fn an_action_in_the_path_needs_no_body_and_takes_any() {
    let call = Call::new().await;
    for (number, body) in ["", "{}", r#"{"action":"cancel"}"#].into_iter().enumerate() {
        let name = format!("t{number}");
        let id = call.delay(&name).await;
        let request = Request::post(format!("/_matrix/client/v1/delayed_events/{id}/send"));
        let answer = call.server.send(request.body(Body::from(body)).unwrap()).await;
        assert_eq!((answer.status, answer.body), (StatusCode::OK, json!({})), "{body}");
        assert_eq!(call.saying(&name).len(), 1);
    }
}

#[tokio::test]
async fn the_delay_id_is_the_right_and_a_token_that_is_given_must_be_its_owners() {
    for require_auth in [false, true] {
        let call = Call::with(|config| config.delayed_events.require_auth = require_auth).await;
        let bob = call.join("bob").await;
        for way in WAYS {
            for action in ACTIONS {
                let name = format!("{way:?}-{action}");
                let id = call.delay(&name).await;
                let wrong = call.manage(way, "no such token", &id, action).await;
                assert_eq!(errcode(&wrong), (401, "M_UNKNOWN_TOKEN"), "{name}");
                let bobs = call.manage(way, &bob.token, &id, action).await;
                assert_eq!(errcode(&bobs), (404, "M_NOT_FOUND"), "{name}");
                if require_auth {
                    let none = call.manage(way, "", &id, action).await;
                    assert_eq!(errcode(&none), (401, "M_MISSING_TOKEN"), "{name}");
                    let nobodys = call.manage(way, "", "nobody's", action).await;
                    assert_eq!(errcode(&nobodys), (401, "M_MISSING_TOKEN"), "{name}");
                }
                assert_eq!(call.seen(&call.alice, &id).await.1.get("finalised_ts"), None);
                assert!(call.saying(&name).is_empty());
                let token = if require_auth { call.alice.token.as_str() } else { "" };
                ok(&call.manage(way, token, &id, action).await);
                let again = call.delay(&format!("{name}-again")).await;
                ok(&call.manage(way, &call.alice.token, &again, action).await);
            }
        }
        for base in ["/_matrix/client/v1", UNSTABLE] {
            for path in [format!("{base}/delayed_events"), format!("{base}/delayed_events/x")] {
                let none = call.server.get(&path, "").await;
                assert_eq!(errcode(&none), (401, "M_MISSING_TOKEN"));
                let wrong = call.server.get(&path, "no such token").await;
                assert_eq!(errcode(&wrong), (401, "M_UNKNOWN_TOKEN"));
            }
        }
    }
}
