//! Scheduling: what is answered, what survives, and what the same request again is answered.

use serde_json::{Value, json};
use wick_database::{Read, schema::delayed::DELAYED_BY_TIMER};

use super::later::{By, FORMS, Later, UNSTABLE, delay_id, ok, without_body};
use crate::expiry::call::{Call, errcode, seconds};

#[tokio::test]
async fn row_1_what_is_scheduled_is_answered_with_a_delay_id_and_not_sent_yet() {
    let mut call = Call::new().await;
    let before = call.timeline().len();
    let mut ids = Vec::new();
    for (by, message, state) in
        [(By::Query, "a", "b"), (By::Path, "c", "d"), (By::UnstablePath, "e", "f")]
    {
        for later in [Later::message(message), Later::state(state, state)] {
            ids.push(delay_id(&call.later(&call.alice, by, &later).await));
        }
    }
    assert_eq!(call.timeline().len(), before);
    assert_eq!(call.running(), 6);
    assert!(ids.iter().all(|id| id.len() >= 43), "each has 256 bits: {ids:?}");
    let listed = call.listed(&call.alice).await;
    assert_eq!(listed, ids);
    call.server.crash().await;
    assert_eq!(call.running(), 6);
    assert_eq!(call.listed(&call.alice).await, ids);
    call.server.clock.advance(seconds(10)).await;
    for said in ["a", "b", "c", "d", "e", "f"] {
        call.until_said(said).await;
    }
}

#[tokio::test]
async fn row_1_the_server_says_that_it_can_and_how_much() {
    let call = Call::with(|config| {
        config.delayed_events.max_delay = wick_core::config::Period::from_secs(60);
        config.delayed_events.max_scheduled = 7;
    })
    .await;
    let versions = call.server.get("/_matrix/client/versions", "").await.1;
    let path = "/_matrix/client/v3/capabilities";
    let capabilities = call.server.get(path, &call.alice.token).await.1;
    for name in ["org.matrix.msc4140", "org.matrix.msc4140.stable"] {
        assert_eq!(versions["unstable_features"][name], true);
    }
    for name in ["m.delayed_events", "org.matrix.msc4140.delayed_events"] {
        let expected = json!({ "max_delay_ms": 60_000, "max_scheduled": 7 });
        assert_eq!(capabilities["capabilities"][name], expected);
    }
}

#[tokio::test]
async fn row_14_the_same_request_again_is_the_same_delayed_event() {
    let mut call = Call::new().await;
    for (by, name) in [(By::Query, "query"), (By::Path, "path"), (By::UnstablePath, "unstable")] {
        let later = Later::message(name);
        let first = delay_id(&call.later(&call.alice, by, &later).await);
        assert_eq!(delay_id(&call.later(&call.alice, by, &later).await), first, "{by:?}");

        // Whatever the body has.
        let other = Later { delay: json!(99_000), content: json!({ "body": "other" }), ..later };
        let again = call.later(&call.alice, by, &other).await;
        assert_eq!(delay_id(&again), first, "{by:?}");
        let (path, _) = other.request(&call, by);
        let again = without_body(&call.server, &path, &call.alice).await;
        assert_eq!(again.body, json!({ "delay_id": first }), "{by:?}");

        // Another device's is another request.
        let tablet = call.server.log_in(&call.alice).await;
        let second = Later { content: json!({ "body": "tablet" }), ..other };
        assert_ne!(delay_id(&call.later(&tablet, by, &second).await), first);
    }
    assert_eq!(call.running(), 6);

    call.server.crash().await;
    for (by, name) in [(By::Query, "query"), (By::Path, "path"), (By::UnstablePath, "unstable")] {
        delay_id(&call.later(&call.alice, by, &Later::message(name)).await);
    }
    assert_eq!(call.running(), 6);
    call.server.clock.advance(seconds(10)).await;
    for name in ["query", "path", "unstable"] {
        call.until_said(name).await;
    }
    assert_eq!(call.saying("other").len(), 0);
}

#[tokio::test]
async fn row_14_the_same_request_again_is_answered_whatever_has_become_of_the_event() {
    let call = Call::new().await;
    let bob = call.join("bob").await;
    for by in FORMS {
        let name = format!("{by:?}");
        let [sent, cancelled, failed] =
            ["sent", "cancelled", "failed"].map(|what| format!("{what}-{name}"));
        let later = |transaction| Later::message(transaction);
        let sent_id = delay_id(&call.later(&bob, by, &later(&sent)).await);
        ok(&call.act(&sent_id, "send").await);
        let cancelled_id = delay_id(&call.later(&bob, by, &later(&cancelled)).await);
        ok(&call.act(&cancelled_id, "cancel").await);
        let failed_id = delay_id(&call.later(&bob, by, &later(&failed)).await);
        let kick = json!({ "user_id": bob.user_id });
        assert_eq!(call.post(&call.alice, "kick", kick).await.0, 200);
        call.server.clock.advance(seconds(10)).await;
        while call.running() > 0 {
            tokio::task::yield_now().await;
        }
        for (transaction, id) in
            [(&sent, &sent_id), (&cancelled, &cancelled_id), (&failed, &failed_id)]
        {
            let again = call.later(&bob, by, &later(transaction)).await;
            assert_eq!(delay_id(&again), *id, "{transaction}");
        }
        assert_eq!(call.running(), 0);
        assert_eq!(call.saying(&sent).len(), 1);
        let path = format!("/_matrix/client/v3/join/{}", call.room);
        assert_eq!(call.server.post(&path, &bob.token, json!({})).await.0, 200);
    }
}

#[tokio::test]
async fn row_14_the_same_request_at_the_same_time_schedules_one_event() {
    let call = Call::new().await;
    for (by, name) in [(By::Query, "query"), (By::Path, "path")] {
        let later = Later::message(name);
        let (first, second, third) = tokio::join!(
            call.later(&call.alice, by, &later),
            call.later(&call.alice, by, &later),
            call.later(&call.alice, by, &later)
        );
        assert_eq!(delay_id(&first), delay_id(&second));
        assert_eq!(delay_id(&first), delay_id(&third));
    }
    assert_eq!(call.running(), 2);
}

#[tokio::test]
async fn row_14_a_request_without_delay_has_transactions_of_its_own() {
    let call = Call::new().await;
    let id = call.delay("same").await;
    let sent =
        call.send_type(&call.alice, "m.room.message", "same", json!({ "body": "now" })).await;
    assert_eq!(sent.0, 200, "{}", sent.1);
    call.until_said("now").await;
    assert_eq!(call.delay("same").await, id);
    call.server.clock.advance(seconds(10)).await;
    call.until_said("same").await;
    assert_eq!(call.saying("now").len(), 1);
}

#[tokio::test]
async fn row_15_state_that_is_scheduled_again_is_a_second_wish_unless_a_transaction_says_otherwise()
{
    let call = Call::new().await;
    let later = Later::state("seat", "gone");
    let first = call.put_off(&later).await;
    let second = call.put_off(&later).await;
    assert_ne!(first, second);
    assert_eq!(call.running(), 2);
    ok(&call.act(&first, "cancel").await);
    assert_eq!(call.listed(&call.alice).await, [second]);
    for (by, transaction) in [(By::Path, "one"), (By::UnstablePath, "two")] {
        let later = Later::state("seat", transaction);
        let first = delay_id(&call.later(&call.alice, by, &later).await);
        assert_eq!(delay_id(&call.later(&call.alice, by, &later).await), first);
    }
    assert_eq!(call.running(), 3);
}

#[tokio::test]
async fn row_28_how_long_the_event_is_to_be_sticky_is_kept_with_it() {
    let call = Call::new().await;
    let room = &call.room;
    let kept = || {
        let latest = call.server.services().database.latest();
        latest.get(&DELAYED_BY_TIMER, &call.last_timer()).unwrap().unwrap().sticky_duration
    };
    let sticky = "org.matrix.msc4354.sticky_duration_ms";
    let query = format!("?org.matrix.msc4140.delay=10000&{sticky}");
    let put = async |path: &str, body: &Value| {
        let path = format!("/_matrix/client/v3/rooms/{room}/{path}");
        call.server.put(&path, &call.alice.token, body.clone()).await
    };
    let content = json!({ "body": "here" });
    let body = json!({ "delay_ms": 10_000, "content": content });
    let wishes = [
        (format!("send/m.room.message/t{query}"), &content),
        (format!("state/org.example.presence/t{query}"), &content),
        (format!("delayed_event/m.room.message/t?{sticky}"), &body),
    ];
    for (number, (path, body)) in wishes.iter().enumerate() {
        delay_id(&put(&format!("{path}={}", 5_000 + number), body).await);
        assert_eq!(kept(), u64::try_from(5_000 + number).ok());
        for wrong in ["", "x", "-1", "1.5"] {
            let path = format!("{path}={wrong}").replace("/t?", "/wrong?");
            assert_eq!(errcode(&put(&path, body).await), (400, "M_INVALID_PARAM"), "{path}");
        }
    }
    delay_id(&put("send/m.room.message/plain?org.matrix.msc4140.delay=10000", &content).await);
    assert_eq!(kept(), None);
    assert_eq!(call.running(), 4);
}

#[tokio::test]
async fn the_present_text_s_path_takes_the_earlier_name_of_the_delay_as_well() {
    let call = Call::new().await;
    let room = &call.room;
    for base in ["/_matrix/client/v3", UNSTABLE] {
        let path = format!("{base}/rooms/{room}/delayed_event/m.room.message/earlier");
        let body = json!({ "delay": 10_000, "content": { "body": "earlier" } });
        delay_id(&call.server.put(&path, &call.alice.token, body).await);
    }
    call.server.clock.advance(seconds(10)).await;
    call.until_said("earlier").await;
}

#[tokio::test]
async fn the_empty_state_key_is_one_with_and_without_a_slash() {
    let call = Call::new().await;
    let room = &call.room;
    for (number, slash) in ["", "/"].into_iter().enumerate() {
        let path = format!("/_matrix/client/v3/rooms/{room}/state/org.example.presence{slash}");
        let path = format!("{path}?org.matrix.msc4140.delay=10000");
        let body = json!({ "body": format!("query{number}") });
        delay_id(&call.server.put(&path, &call.alice.token, body).await);
    }
    delay_id(&call.later(&call.alice, By::Path, &Later::state("", "path")).await);
    call.server.clock.advance(seconds(10)).await;
    for said in ["query0", "query1", "path"] {
        assert_eq!(call.until_said(said).await["state_key"], "");
    }
    let last = call.saying("path").remove(0);
    assert_eq!(call.state("org.example.presence", "").as_deref(), last["event_id"].as_str());
}
