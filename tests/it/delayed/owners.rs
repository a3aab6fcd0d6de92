//! What owners see of their delayed events, what administrators can do with them, and what becomes of them
//! when their owner goes.

use ruma::RoomId;
use serde_json::{Value, json};
use wick_account::Proof;
use wick_core::TimerId;
use wick_harness::User;
use wick_room::invariants;

use super::later::{ACTIONS, By, FORMS, Later, Told, UNSTABLE, delay_id, ok};
use crate::{
    expired_everywhere::find,
    expiry::call::{Call, PATIENCE, errcode, seconds},
};

#[tokio::test]
async fn the_list_has_what_is_scheduled_by_both_generations_of_names() {
    let call = Call::new().await;
    let bob = call.join("bob").await;
    let at = call.now();
    let state = call.put_off(&Later::state("seat", "state").after(&seconds(20))).await;
    call.server.clock.advance(seconds(1)).await;
    let message = delay_id(&call.later(&call.alice, By::Path, &Later::message("message")).await);
    for base in ["/_matrix/client/v1", UNSTABLE] {
        let path = format!("{base}/delayed_events");
        let (status, body) = call.server.get(&path, &call.alice.token).await;
        assert_eq!(status, 200, "{body}");
        let expected = json!({ "delayed_events": [
            {
                "delay_id": message, "room_id": call.room, "type": "m.room.message",
                "content": { "msgtype": "m.text", "body": "message" },
                "delay_ms": 10_000, "scheduled_at": at + 1_000,
                "delay": 10_000, "running_since": at + 1_000, "delayed_since_ts": at + 1_000,
            },
            {
                "delay_id": state, "room_id": call.room, "type": "org.example.presence",
                "state_key": "seat", "content": { "msgtype": "m.text", "body": "state" },
                "delay_ms": 20_000, "scheduled_at": at,
                "delay": 20_000, "running_since": at, "delayed_since_ts": at,
            },
        ] });
        assert_eq!(body, expected);
        for (id, event) in [(&message, 0), (&state, 1)] {
            let one = call.server.get(&format!("{path}/{id}"), &call.alice.token).await.1;
            assert_eq!(one, expected["delayed_events"][event]);
            let bobs = call.server.get(&format!("{path}/{id}"), &bob.token).await;
            assert_eq!(errcode(&bobs), (404, "M_NOT_FOUND"));
        }
    }
    assert_eq!(call.listed(&bob).await, [""; 0]);
    ok(&call.act(&state, "restart").await);
    ok(&call.act(&message, "send").await);
    assert_eq!(call.listed(&call.alice).await, [state.as_str()]);
    assert_eq!(call.seen(&call.alice, &state).await.1["scheduled_at"], at + 1_000);
}

#[tokio::test]
async fn row_29_the_sent_event_tells_its_sender_alone_which_delayed_event_it_was() {
    let call = Call::new().await;
    let bob = call.join("bob").await;
    let tablet = call.server.log_in(&call.alice).await;
    for by in FORMS {
        let (name, key) = (format!("{by:?}"), format!("{by:?}-state"));
        let ids = [Later::message(&name), Later::state(&key, &key)];
        let mut scheduled = Vec::new();
        for later in &ids {
            scheduled.push(delay_id(&call.later(&call.alice, by, later).await));
        }
        ok(&call.act(&scheduled[0], "send").await);
        call.server.clock.advance(seconds(10)).await;
        for (body, id) in [(&name, &scheduled[0]), (&key, &scheduled[1])] {
            let event = call.until_said(body).await["event_id"].as_str().unwrap().to_owned();
            let room = format!("/_matrix/client/v3/rooms/{}", call.room);
            let paths = [
                "/_matrix/client/v3/sync".to_owned(),
                format!("{room}/messages?dir=b&limit=50"),
                format!("{room}/messages?dir=f&limit=50"),
                format!("{room}/event/{event}"),
                format!("{room}/context/{event}"),
            ];
            for path in paths {
                for (user, theirs) in [(&call.alice, true), (&tablet, true), (&bob, false)] {
                    let told = call.server.get(&path, &user.token).await.1;
                    let mut shown = Vec::new();
                    find(&told, &event, &mut shown);
                    assert!(!shown.is_empty(), "{path} does not show the event: {told}");
                    for shown in shown {
                        for name in ["delay_id", "org.matrix.msc4140.delay_id"] {
                            let said = shown["unsigned"].get(name).and_then(Value::as_str);
                            let expected = theirs.then_some(id.as_str());
                            assert_eq!(said, expected, "{path}: {shown}");
                        }
                        assert!(shown["unsigned"].get("transaction_id").is_none());
                    }
                    assert!(theirs || !told.to_string().contains(id.as_str()), "{path}");
                }
            }
        }
    }
}

#[tokio::test]
async fn row_29_an_event_that_was_not_delayed_has_no_delay_id() {
    let call = Call::new().await;
    call.delay("later").await;
    let sent = call.send(&call.alice, "now", json!({ "body": "now" })).await.1;
    let event = call.event(sent["event_id"].as_str().unwrap());
    assert!(!event.to_string().contains("delay_id"));
}

impl Call {
    async fn leave_and_forget(&self, user: &User) -> Told {
        assert_eq!(self.post(user, "leave", json!({})).await.0, 200);
        self.post(user, "forget", json!({})).await
    }
}

#[tokio::test]
async fn row_31_what_its_owner_scheduled_in_a_room_that_they_forget_is_cancelled() {
    let call = Call::new().await;
    let bob = call.join("bob").await;
    let mut bobs = Vec::new();
    for by in FORMS {
        let (name, key) = (format!("{by:?}"), format!("{by:?}-state"));
        for later in [Later::message(&name), Later::state(&key, &key)] {
            bobs.push(delay_id(&call.later(&bob, by, &later).await));
        }
    }
    let alices = call.delay("alice's").await;
    let other = call.server.room(&bob, "shared").await;
    let path = other.path("/send/m.room.message/other?org.matrix.msc4140.delay=10000");
    let body = json!({ "body": "other" });
    let elsewhere = delay_id(&call.server.put(&path, &bob.token, body).await);

    // Having left alone does not do it.
    let refused = call.post(&bob, "forget", json!({})).await;
    assert_eq!(refused.0, 400, "{}", refused.1);
    assert_eq!(call.listed(&bob).await.len(), 7);
    ok(&call.leave_and_forget(&bob).await);
    assert_eq!(call.listed(&bob).await, [elsewhere.as_str()]);
    for id in &bobs {
        let seen = call.seen(&bob, id).await.1;
        assert_eq!(seen["finalised_ts"], call.now());
        assert!(seen.get("error").is_none() && seen.get("event_id").is_none());
        ok(&call.act(id, "cancel").await);
    }
    assert_eq!(call.post(&bob, "join", json!({})).await.0, 200);
    call.server.clock.advance(seconds(10)).await;
    call.until_said("alice's").await;
    assert_eq!(call.said(), ["alice's"]);
    assert!(call.until_over(&alices).await["event_id"].is_string());
    let read = call.server.services().database.published();
    assert_eq!(invariants::check(&read).unwrap(), []);
}

/// Several threads, so that what fires does not wait for what is undone at start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_32_it_is_not_sent_either_if_the_server_dies_before_all_is_done() {
    let mut call = Call::new().await;
    let bob = call.join("bob").await;
    for number in 0..20 {
        let transaction = format!("bobs-{number}");
        delay_id(&call.later(&bob, By::Query, &Later::message(&transaction)).await);
    }
    call.delay("alice's").await;
    let users = &call.server.services().users;
    let (short, _) = users.get(&bob.user_id).unwrap().unwrap();
    users.deactivate(short, &Proof::not_needed(), false).await.unwrap();
    call.server.crash().await;
    call.server.clock.advance(seconds(60)).await;
    call.until_said("alice's").await;
    while call.running() > 0 {
        call.server.clock.advance(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(call.said(), ["alice's"]);
    let read = call.server.services().database.published();
    assert_eq!(invariants::check(&read).unwrap(), []);
}

#[tokio::test]
async fn row_32_it_happens_also_if_nobody_waits_for_the_answer() {
    let call = Call::new().await;
    let bob = call.join("bob").await;
    delay_id(&call.later(&bob, By::Query, &Later::message("bob's")).await);
    let services = call.server.services();
    let (short, _) = services.users.get(&bob.user_id).unwrap().unwrap();
    // It begins, and the client hangs up.
    tokio::select! {
        biased;
        () = async { while services.users.departing().unwrap().is_empty() { tokio::task::yield_now().await } } => {}
        result = services.deactivate(short, Proof::not_needed(), false) => result.unwrap(),
    }
    while call.running() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(call.said(), Vec::<String>::new());
    // The server continued without a further request, and the user left the room.
    let left = async {
        while !call.server.services().users.departing().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, left).await.unwrap();
}

#[tokio::test]
async fn row_32_what_a_deactivated_account_scheduled_is_forgotten_unsent() {
    let mut call = Call::new().await;
    let bob = call.join("bob").await;
    let [scheduled, cancelled, sent] = [
        delay_id(&call.later(&bob, By::Query, &Later::message("scheduled")).await),
        delay_id(&call.later(&bob, By::Path, &Later::state("k", "cancelled")).await),
        delay_id(&call.later(&bob, By::Path, &Later::message("sent")).await),
    ];
    delay_id(&call.later(&bob, By::Path, &Later::state("k", "state")).await);
    ok(&call.act(&cancelled, "cancel").await);
    ok(&call.act(&sent, "send").await);
    call.delay("alice's").await;
    call.deactivate(&bob).await;
    while call.running() > 1 {
        tokio::task::yield_now().await;
    }
    for _ in 0..2 {
        for id in [&scheduled, &cancelled, &sent] {
            for action in ACTIONS {
                let told = call.act(id, action).await;
                assert_eq!(errcode(&told), (404, "M_NOT_FOUND"), "{action}: {}", told.1);
            }
        }
        let read = call.server.services().database.published();
        assert_eq!(invariants::check(&read).unwrap(), []);
        drop(read);
        call.server.restart().await;
    }
    call.server.clock.advance(seconds(10)).await;
    call.until_said("alice's").await;
    assert_eq!(call.said(), ["sent", "alice's"]);
}

#[tokio::test]
async fn a_device_that_is_logged_out_leaves_what_it_scheduled_behind() {
    let call = Call::new().await;
    let tablet = call.server.log_in(&call.alice).await;
    let id = delay_id(&call.later(&tablet, By::Path, &Later::message("gone")).await);
    let logout = "/_matrix/client/v3/logout";
    assert_eq!(call.server.post(logout, &tablet.token, json!({})).await.0, 200);
    call.server.clock.advance(seconds(9)).await;
    ok(&call.act(&id, "restart").await);
    call.server.clock.advance(seconds(10)).await;
    call.until_said("gone").await;
}

#[tokio::test]
async fn an_administrator_sees_what_is_scheduled_and_can_cancel_it() {
    let call = Call::new().await;
    let bob = call.join("bob").await;
    let armed = call.arm("expiring", 60).await;
    let state = call.put_off(&Later::state("seat", "state").after(&seconds(20))).await;
    let message = delay_id(&call.later(&bob, By::Path, &Later::message("message")).await);
    let timers = &call.server.services().timers;
    let list = |room: Option<&RoomId>, user: Option<&User>| -> Vec<Value> {
        let found = timers.list(room, user.map(|user| &*user.user_id), 10).unwrap();
        found.iter().map(|timer| serde_json::to_value(timer).unwrap()).collect()
    };
    let all = list(Some(&call.room), None);
    assert_eq!(list(None, None), all);
    let [expiring, first, second] = <[Value; 3]>::try_from(all).unwrap();
    assert_eq!(expiring["kind"], "expiry");
    assert_eq!(expiring["event_id"], json!(armed.event_id));
    let timer = |value: &Value| value["timer"].as_u64().unwrap();
    assert_eq!(
        first,
        json!({
            "timer": timer(&first), "kind": "delay", "room_id": call.room,
            "type": "org.example.presence", "state_key": "seat", "owner": call.alice.user_id,
            "deadline": call.now() + 20_000, "duration": 20_000,
        })
    );
    assert_eq!(
        second,
        json!({
            "timer": timer(&second), "kind": "delay", "room_id": call.room,
            "type": "m.room.message", "owner": bob.user_id,
            "deadline": call.now() + 10_000, "duration": 10_000,
        })
    );
    assert_eq!(list(None, Some(&call.alice)), [expiring, first.clone()]);
    assert_eq!(list(Some(&call.room), Some(&bob)), std::slice::from_ref(&second));
    let elsewhere = call.server.room(&bob, "shared").await;
    assert!(list(Some(&elsewhere.id), None).is_empty());
    assert!(list(Some(&elsewhere.id), Some(&bob)).is_empty());

    call.server.services().end_timer(TimerId(timer(&first))).await.unwrap();
    assert_eq!(list(None, Some(&call.alice)).len(), 1);
    let seen = call.seen(&call.alice, &state).await.1;
    assert_eq!(seen["finalised_ts"], call.now());
    ok(&call.act(&state, "cancel").await);
    for gone in [timer(&first), 999_999] {
        assert!(call.server.services().end_timer(TimerId(gone)).await.is_err());
    }
    call.server.clock.advance(seconds(20)).await;
    call.until_over_of(&bob, &message).await;
    assert_eq!(call.saying("state").len(), 0);
    assert_eq!(call.saying("message").len(), 1);
}
