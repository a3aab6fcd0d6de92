//! How many may be scheduled, how often what may be done, and how long what is over is remembered.

use std::net::IpAddr;

use axum::body::Body;
use http::{Method, Request, header};
use wick_api::Peer;
use wick_core::config::Rate;
use wick_database::{
    Durability, Range, Read,
    schema::{
        delayed::{DELAYED_BY_TIMER, FINALISED_BY_OWNER, FINALISED_BY_TIMER, FinalOutcome},
        timer::TIMER_BY_ID,
    },
};
use wick_harness::Answer;
use wick_room::{delayed, invariants};

use super::later::{By, CONFLICT, FORMS, Later, UNSTABLE, WAYS, delay_id, ok};
use crate::expiry::call::{Call, errcode, seconds};

/// `put` with the headers of the answer.
async fn put_with_headers(call: &Call, by: By, later: &Later<'_>) -> Answer {
    let (path, body) = later.request(call, by);
    let request = Request::put(path)
        .header(header::AUTHORIZATION, format!("Bearer {}", call.alice.token))
        .body(Body::from(body.to_string()));
    call.server.send(request.expect("it is well-formed")).await
}

#[tokio::test]
async fn row_18_a_user_has_only_so_many_and_is_told_when_the_next_is_due() {
    let mut call = Call::with(|config| config.delayed_events.max_scheduled = 2).await;
    call.put_off(&Later::message("one").after(&seconds(30))).await;
    let second = call.put_off(&Later::state("k", "two").after(&seconds(20))).await;
    for crashed in [false, true] {
        for by in FORMS {
            for later in [Later::message("more"), Later::state("k", "more")] {
                let answer = put_with_headers(&call, by, &later).await;
                let told = (answer.status, answer.body);
                assert_eq!(errcode(&told), (429, "M_LIMIT_EXCEEDED"), "{by:?}");
                assert_eq!(told.1["retry_after_ms"], 20_000);
                assert_eq!(answer.headers[header::RETRY_AFTER], "20");
            }
        }
        // Those that are scheduled are answered again all the same.
        call.put_off(&Later::message("one")).await;
        if !crashed {
            call.server.crash().await;
        }
    }
    // The limit is each user's own, and expiring events do not count.
    let bob = call.join("bob").await;
    delay_id(&call.later(&bob, By::Path, &Later::message("bob")).await);
    call.arm("expiring", 600).await;

    // After `retry_after_ms` there is room for one.
    call.server.clock.advance(seconds(20)).await;
    call.until_said("two").await;
    let third = call.put_off(&Later::message("three").after(&seconds(60))).await;
    assert_eq!(put_with_headers(&call, By::Path, &Later::message("four")).await.status, 429);
    // So there is after one was cancelled or sent by hand.
    ok(&call.act(&third, "cancel").await);
    let fourth = call.put_off(&Later::message("four").after(&seconds(60))).await;
    ok(&call.act(&fourth, "send").await);
    call.put_off(&Later::message("five").after(&seconds(60))).await;
    assert_eq!(errcode(&call.act(&second, "cancel").await), CONFLICT);
}

#[tokio::test]
async fn row_18_refused_requests_take_no_place() {
    let call = Call::with(|config| config.delayed_events.max_scheduled = 1).await;
    let eve = call.server.register("eve").await;
    for by in FORMS {
        assert_eq!(call.later(&eve, by, &Later::message("t")).await.0, 403);
        let wrong = Later { delay: 0.into(), ..Later::message("t") };
        assert_eq!(call.later(&call.alice, by, &wrong).await.0, 400);
    }
    call.delay("one").await;
}

impl Call {
    /// An action, in the path, from an address.
    async fn act_from(&self, address: [u8; 4], id: &str, action: &str) -> Answer {
        let path = format!("{UNSTABLE}/delayed_events/{id}/{action}");
        let request = Request::post(path).body(Body::empty());
        let mut request = request.expect("it is well-formed");
        request.extensions_mut().insert(Peer::Address(IpAddr::from(address)));
        self.server.send(request).await
    }
}

#[tokio::test]
async fn row_33_guesses_are_limited_by_address_and_what_is_done_by_delay_id() {
    let call = Call::with(|config| {
        config.timers.invalid = Rate { per_second: 0.5, burst: 5 };
        config.timers.keep_alive = Rate { per_second: 2.0, burst: 10 };
    })
    .await;
    let (first, second) = (call.delay("first").await, call.delay("second").await);
    for _ in 0..5 {
        assert_eq!(call.act_from([10, 0, 0, 1], "wrong", "restart").await.status, 404);
    }
    let limited = call.act_from([10, 0, 0, 1], "wrong", "cancel").await;
    assert_eq!(limited.status, 429);
    assert_eq!(limited.headers[header::RETRY_AFTER], "2");
    assert_eq!(call.act_from([10, 0, 0, 2], "wrong", "send").await.status, 404);
    // Valid ids are not counted against the address.
    for _ in 0..10 {
        assert_eq!(call.act_from([10, 0, 0, 1], &first, "restart").await.status, 200);
    }
    for action in ["restart", "send", "cancel"] {
        let limited = call.act_from([10, 0, 0, 3], &first, action).await;
        assert_eq!(limited.status, 429, "{action}");
        assert!(limited.headers.contains_key(header::RETRY_AFTER));
    }
    assert_eq!(call.act_from([10, 0, 0, 1], &second, "restart").await.status, 200);
    call.server.clock.advance(seconds(1)).await;
    assert_eq!(call.act_from([10, 0, 0, 3], &first, "cancel").await.status, 200);
    assert_eq!(call.listed(&call.alice).await, [second]);
}

#[tokio::test]
async fn row_33_the_id_of_one_that_is_over_can_be_used_as_often_as_any() {
    let call =
        Call::with(|config| config.timers.keep_alive = Rate { per_second: 2.0, burst: 10 }).await;
    let id = call.delay("t").await;
    for _ in 0..10 {
        ok(&call.act(&id, "cancel").await);
    }
    assert_eq!(errcode(&call.act(&id, "cancel").await), (429, "M_LIMIT_EXCEEDED"));
    call.server.clock.advance(seconds(1)).await;
    ok(&call.act(&id, "cancel").await);
}

#[tokio::test]
async fn row_33_scheduling_and_sending_by_hand_count_as_messages_and_firing_does_not() {
    let call = Call::with(|config| {
        config.limits.enabled = true;
        let plenty = Rate { per_second: 1e6, burst: 1_000_000 };
        (config.limits.requests, config.limits.anonymous) = (plenty, plenty);
        config.limits.messages = Rate { per_second: 0.1, burst: 4 };
    })
    .await;
    let mut ids = Vec::new();
    for (by, name) in [(By::Query, "a"), (By::Path, "b"), (By::UnstablePath, "c")] {
        ids.push(delay_id(&call.later(&call.alice, by, &Later::message(name)).await));
    }
    ids.push(call.put_off(&Later::state("k", "d")).await);
    for by in FORMS {
        for later in [Later::message("more"), Later::state("k", "more")] {
            let limited = call.later(&call.alice, by, &later).await;
            assert_eq!(errcode(&limited), (429, "M_LIMIT_EXCEEDED"), "{by:?}");
        }
    }
    for way in WAYS {
        let limited = call.manage(way, "", &ids[0], "send").await;
        assert_eq!(errcode(&limited), (429, "M_LIMIT_EXCEEDED"), "{way:?}");
        ok(&call.manage(way, "", &ids[0], "restart").await);
    }
    assert_eq!(call.running(), 4);
    ok(&call.act(&ids[3], "cancel").await);
    // Half a message's time: not enough to send one.
    call.server.clock.advance(seconds(5)).await;
    ok(&call.act(&ids[0], "restart").await);
    call.server.clock.advance(seconds(5)).await;
    call.until_said("b").await;
    call.until_said("c").await;
    ok(&call.act(&ids[0], "send").await);
    let now = call.send(&call.alice, "now", serde_json::json!({ "body": "now" })).await;
    assert_eq!(errcode(&now), (429, "M_LIMIT_EXCEEDED"));
    assert_eq!(call.said(), ["b", "c", "a"]);
}

#[tokio::test]
async fn row_30_what_is_over_can_be_seen_by_id_for_seven_days() {
    let call = Call::new().await;
    let cancelled = call.delay("cancelled").await;
    ok(&call.act(&cancelled, "cancel").await);
    let sent = call.delay("sent").await;
    let running = call.put_off(&Later::message("running").after(&seconds(86_400))).await;
    ok(&call.act(&sent, "send").await);
    for _ in 0..7 {
        call.server.clock.advance(seconds(86_000)).await;
        ok(&call.act(&running, "restart").await);
    }
    for id in [&cancelled, &sent] {
        assert_eq!(call.seen(&call.alice, id).await.0, 200);
    }
    ok(&call.act(&sent, "send").await);
    call.server.clock.advance(seconds(7 * 400)).await;
    // Whenever the next look at them is.
    while call.seen(&call.alice, &cancelled).await.0 == 200 {
        call.server.clock.advance(seconds(600)).await;
        assert!(call.running() == 1, "it is looked at more than once a day");
    }
    for id in [&cancelled, &sent] {
        for action in ["send", "cancel", "restart"] {
            assert_eq!(errcode(&call.act(id, action).await), (404, "M_NOT_FOUND"));
        }
        assert_eq!(errcode(&call.seen(&call.alice, id).await), (404, "M_NOT_FOUND"));
    }
    assert_eq!(call.listed(&call.alice).await, [running]);
    // The event itself stays, and so does what it once was.
    let event = call.saying("sent").remove(0);
    assert_eq!(event["unsigned"]["delay_id"], sent.as_str());
    let read = call.server.services().database.published();
    assert_eq!(invariants::check(&read).unwrap(), []);
}

#[tokio::test]
async fn row_30_the_last_thousand_of_a_user_can_be_seen() {
    let call = Call::new().await;
    let bob = call.join("bob").await;
    let bobs = delay_id(&call.later(&bob, By::Query, &Later::message("bob")).await);
    ok(&call.act(&bobs, "cancel").await);
    let first = call.delay("first").await;
    let services = call.server.services();
    let (database, intern) = (&services.database, services.graph.intern());
    let model = call.last_timer();
    let row = database.latest().get(&TIMER_BY_ID, &model).unwrap().unwrap();
    let event = database.latest().get(&DELAYED_BY_TIMER, &model).unwrap().unwrap();
    ok(&call.act(&first, "cancel").await);

    // A thousand and one more, as if each had been scheduled and cancelled a millisecond later.
    let mut batch = database.batch();
    for number in 1..=1_001 {
        let timer = services.graph.next_timer();
        let mut event = event.clone();
        event.transaction = None;
        delayed::schedule(&mut batch, intern, (timer, &row), &event).unwrap();
        batch.delete(&TIMER_BY_ID, &timer);
        let at = wick_core::Timestamp(call.now() + number);
        let outcome = FinalOutcome::Cancelled;
        delayed::finalise(&mut batch, intern, (timer, &row), at, outcome).unwrap();
    }
    database.commit(batch, Durability::Flushed).await.unwrap();
    let last = call.delay("last").await;
    call.server.clock.advance(seconds(2)).await;
    ok(&call.act(&last, "cancel").await);
    let kept = || database.latest().scan(&FINALISED_BY_OWNER, Range::all()).count();
    assert_eq!(kept(), 1_004);

    let sweeps_by = call.now() + 86_400_000;
    while call.seen(&call.alice, &first).await.0 == 200 {
        call.server.clock.advance(seconds(600)).await;
        assert!(call.now() < sweeps_by, "it is looked at more than once a day");
    }
    assert_eq!(kept(), 1_001, "a thousand of Alice's, and Bob's one");
    assert_eq!(database.latest().scan(&FINALISED_BY_TIMER, Range::all()).count(), 1_001);
    assert_eq!(call.seen(&call.alice, &last).await.0, 200);
    assert_eq!(call.seen(&bob, &bobs).await.0, 200);
    // What is forgotten is no answer any more: the request is a new one.
    assert_ne!(call.delay("first").await, first);
    assert_eq!(call.delay("last").await, last);
    assert_eq!(invariants::check(&database.published()).unwrap(), []);
}

#[tokio::test]
async fn row_33_looking_at_ids_nobody_has_is_limited_as_well() {
    let call =
        Call::with(|config| config.timers.invalid = Rate { per_second: 0.5, burst: 5 }).await;
    let id = call.delay("t").await;
    for _ in 0..5 {
        assert_eq!(call.seen(&call.alice, "wrong").await.0, 404);
    }
    assert_eq!(errcode(&call.seen(&call.alice, "wrong").await), (429, "M_LIMIT_EXCEEDED"));
    assert_eq!(call.seen(&call.alice, &id).await.0, 200);
    let path = "/_matrix/client/v1/delayed_events/wrong/send";
    let told = call.server.request(Method::POST, path, "", serde_json::Value::Null).await;
    assert_eq!(errcode(&told), (429, "M_LIMIT_EXCEEDED"));
}

#[tokio::test]
async fn row_33_an_invitation_counts_as_one_when_it_is_scheduled_and_not_when_it_is_sent() {
    let call = Call::with(|config| {
        config.limits.enabled = true;
        config.limits.invites = Rate { per_second: 0.001, burst: 2 };
    })
    .await;
    let mut users = Vec::new();
    for name in ["bob", "carol", "dave"] {
        users.push(call.server.register(name).await);
    }
    for ((index, user), by) in users.iter().enumerate().zip(FORMS) {
        let content = serde_json::json!({ "membership": "invite" });
        let name = index.to_string();
        let later = Later::state(user.user_id.as_str(), &name).of_type("m.room.member", content);
        let answer = call.later(&call.alice, by, &later).await;
        if index < 2 {
            delay_id(&answer);
        } else {
            assert_eq!(errcode(&answer), (429, "M_LIMIT_EXCEEDED"), "there is room for two");
        }
    }
    // The two are sent, although the limit of invitations is used up.
    let body = serde_json::json!({ "user_id": users[2].user_id });
    assert_eq!(errcode(&call.post(&call.alice, "invite", body).await), (429, "M_LIMIT_EXCEEDED"));
    call.server.clock.advance(seconds(10)).await;
    for user in &users[..2] {
        let invited = || call.state("m.room.member", user.user_id.as_str()).is_some();
        call.until_so(|| format!("{} is not invited", user.user_id), invited).await;
    }
}
