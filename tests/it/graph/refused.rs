//! Events that are dropped, rejected, kept without their content, or not to be judged yet.

use super::*;

#[tokio::test]
async fn an_event_that_the_auth_rules_refuse_is_stored_as_rejected_and_not_built_on() {
    for version in versions() {
        let mut room = RoomBuilder::public(version.clone(), ALICE, &[BOB]);
        let tip = room.tips();
        let server = Server::with(&room).await;
        let stranger = room.message(&tip, CAROL, "may i?");
        let demoted = room.state(&tip, CAROL, "m.room.power_levels", json!({ "users": {} }));
        for id in [&stranger, &demoted] {
            assert!(rejected(server.receive(&room, id).await), "{version}");
            assert_eq!(server.place(id).and_then(|place| place.position), None);
        }
        assert_eq!(server.extremities(&room), tip.iter().cloned().collect());

        // Its content is not part of the state after it.
        let on_rejected = room.message(std::slice::from_ref(&demoted), ALICE, "never mind");
        assert!(accepted(server.receive(&room, &on_rejected).await), "{version}");
        server.check(&room);

        // And nothing rests on it.
        let auth_events = Some(vec![demoted]);
        let content = json!({ "body": "i was told so" });
        let resting = NewEvent {
            sender: ALICE,
            event_type: "m.room.message",
            state_key: None,
            content,
            auth_events,
        };
        let resting = room.add(&room.tips(), resting);
        assert!(rejected(server.receive(&room, &resting).await), "{version}");
    }
}

#[tokio::test]
async fn an_event_whose_history_is_unknown_names_what_is_missing() {
    for version in versions() {
        let mut room = RoomBuilder::public(version.clone(), ALICE, &[BOB]);
        let server = Server::with(&room).await;
        let tip = room.tips();
        let topic = room.state(&tip, BOB, "m.room.topic", json!({ "topic": "unseen" }));
        let join = room.member(std::slice::from_ref(&topic), CAROL, CAROL, "join");
        let message = room.message(std::slice::from_ref(&join), CAROL, "hello");

        let missing = |received: Option<Received>| match received {
            Some(Received::Missing(gaps)) => {
                gaps.prev.into_iter().chain(gaps.auth).collect::<BTreeSet<_>>()
            }
            other => panic!("{version}: {other:?}"),
        };
        // Both what comes right before it and what allows it.
        assert_eq!(missing(server.receive(&room, &message).await), set(&[&join]));
        assert_eq!(missing(server.receive(&room, &join).await), set(&[&topic]));
        assert_eq!(server.place(&message), None);
        for id in [&topic, &join, &message] {
            assert!(accepted(server.receive(&room, id).await));
        }
        let again = server.receive(&room, &message).await;
        assert!(matches!(again, Some(Received::Known(id)) if id == message));
        assert_eq!(server.extremities(&room), set(&[&message]));
        server.check(&room);
    }
}

#[tokio::test]
async fn an_event_that_lost_its_content_on_the_way_is_kept_as_if_it_were_redacted() {
    for version in versions() {
        let mut room = RoomBuilder::public(version.clone(), ALICE, &[BOB]);
        let server = Server::with(&room).await;
        let message = room.message(&room.tips(), BOB, "hello");
        let mut tampered: Value =
            serde_json::from_str(room.event(&message).json().get()).expect("it is JSON");
        tampered["content"]["body"] = json!("something else");
        tampered["unsigned"] = json!({ "age": 5 });
        let json = serde_json::value::to_raw_value(&tampered).expect("it is JSON");
        let received = server.receive_json(&room, &json, &room.keys()).await.expect("it is signed");
        let Received::Accepted(appended) = received else { panic!("{received:?}") };
        assert_eq!(appended.pdu.event_id, message);
        assert_eq!(appended.pdu.content.get(), "{}");
        assert!(!appended.pdu.json.get().contains("unsigned"));
        server.check(&room);
    }
}

#[tokio::test]
async fn an_event_that_is_malformed_or_badly_signed_is_dropped() {
    for version in versions() {
        let mut room = RoomBuilder::public(version.clone(), ALICE, &[BOB]);
        let server = Server::with(&room).await;
        let message = room.message(&room.tips(), BOB, "hello");
        let sound: Value =
            serde_json::from_str(room.event(&message).json().get()).expect("it is JSON");
        let mut dropped = Vec::new();
        let mut tamper = |field: &str, value: Value| {
            let mut event = sound.clone();
            event[field] = value;
            dropped.push(event);
        };
        tamper("origin_server_ts", json!(1.5));
        tamper("depth", json!(-1));
        tamper("depth", json!(1_u64 << 53));
        tamper("room_id", json!("!other:one.example"));
        tamper("sender", json!("nobody"));
        tamper("type", json!(["m.room.message"]));
        tamper("prev_events", json!(vec!["$x"; 21]));
        tamper("auth_events", json!(vec!["$x"; 11]));
        tamper("content", json!({ "body": "x".repeat(70_000) }));
        tamper("signatures", json!({}));
        tamper("sender", json!("@mallory:two.example"));
        for event in dropped {
            let json = serde_json::value::to_raw_value(&event).expect("it is JSON");
            let refused = server.receive_json(&room, &json, &room.keys()).await;
            let error = refused.expect_err("it is dropped");
            assert!(error.kind().is_some(), "{version}: {error}");
        }
        let keys = PublicKeyMap::new();
        let json = room.event(&message).json();
        assert!(server.receive_json(&room, json, &keys).await.is_err(), "no key, no event");
        assert_eq!(server.place(&message), None);
        server.check(&room);
    }
}

#[tokio::test]
async fn a_room_is_created_once() {
    for version in versions() {
        let mut room = RoomBuilder::public(version.clone(), ALICE, &[]);
        let server = Server::with(&room).await;
        let state = server.state(&room);
        let content = json!({ "room_version": version, "creator": ALICE });
        let second = room.add(
            &[],
            NewEvent {
                sender: ALICE,
                event_type: "m.room.create",
                state_key: Some(""),
                content,
                auth_events: Some(Vec::new()),
            },
        );
        let received = server.receive_json(&room, room.event(&second).json(), &room.keys()).await;
        assert!(!matches!(received, Ok(Received::Accepted(_))), "{version}");
        assert_eq!(server.state(&room), state);
        let first = room.event(&room.order()[0]).json();
        assert!(server.rooms.receive_create(version.clone(), first, &room.keys()).await.is_err());
        assert_eq!(server.state(&room), state);
    }
}
