//! Events without the state around them, and events that are received with the state of another server.

use super::*;

fn outlier(received: &Received) -> bool {
    matches!(received, Received::Outlier(_))
}

#[tokio::test]
async fn an_outlier_is_stored_only_after_its_whole_auth_chain() {
    for version in versions() {
        let mut room = RoomBuilder::public(version.clone(), ALICE, &[BOB]);
        let server = Server::with(&room).await;
        let rules =
            room.state(&room.tips(), ALICE, "m.room.join_rules", json!({ "join_rule": "invite" }));
        let invite = room.member(std::slice::from_ref(&rules), ALICE, CAROL, "invite");
        let join = room.member(std::slice::from_ref(&invite), CAROL, CAROL, "join");
        let tips = server.extremities(&room);

        let received = server.receive_outliers(&room, std::slice::from_ref(&join)).await;
        let [Received::Missing(gaps)] = &received[..] else { panic!("{received:?}") };
        assert_eq!(
            gaps.auth.iter().collect::<BTreeSet<_>>(),
            [&rules, &invite].into(),
            "{version}"
        );
        assert!(server.place(&join).is_none());

        // In whatever order they come together.
        let ids = [join.clone(), invite.clone(), rules];
        let received = server.receive_outliers(&room, &ids).await;
        assert!(received.iter().all(outlier), "{version}: {received:?}");
        let received = server.receive_outliers(&room, &ids).await;
        assert!(received.iter().all(|known| matches!(known, Received::Known(_))));
        assert!(server.place(&join).expect("it is stored").is_outlier());
        assert_eq!(server.extremities(&room), tips);
        server.sound();
    }
}

#[tokio::test]
async fn an_outlier_is_not_part_of_the_timeline_until_it_comes_with_its_history() {
    for version in versions() {
        let mut room = RoomBuilder::public(version.clone(), ALICE, &[BOB]);
        let server = Server::with(&room).await;
        let hidden = room.message(&room.tips(), BOB, "between");
        let topic = room.state(
            std::slice::from_ref(&hidden),
            BOB,
            "m.room.topic",
            json!({ "topic": "new" }),
        );
        let message = room.message(std::slice::from_ref(&topic), BOB, "hello");
        server.receive_outliers(&room, std::slice::from_ref(&topic)).await;
        assert!(!server.state(&room).contains_key(&tuple("m.room.topic", "")));

        // That it is stored does not mean that the state around it is known.
        let received = server.receive(&room, &message).await;
        let Some(Received::Missing(gaps)) = received else { panic!("{version}: {received:?}") };
        assert_eq!(gaps.prev, std::slice::from_ref(&topic));
        for id in [&hidden, &topic, &message] {
            assert!(accepted(server.receive(&room, id).await), "{version}");
        }
        assert!(server.place(&topic).is_some_and(|place| place.position.is_some()));
        server.check(&room);
    }
}

#[tokio::test]
async fn an_event_whose_history_cannot_be_had_is_received_with_the_state_of_another_server() {
    for version in versions() {
        let mut room = RoomBuilder::public(version.clone(), ALICE, &[BOB]);
        let server = Server::with(&room).await;
        let known = room.tips();
        let join = room.member(&known, CAROL, CAROL, "join");
        let lost = room.message(std::slice::from_ref(&join), BOB, "lost");
        let late =
            room.state(std::slice::from_ref(&lost), CAROL, "m.room.name", json!({ "name": "x" }));

        let state: Vec<_> = room.before(&late).values().cloned().collect();
        server.receive_outliers(&room, &room.auth_chain(&state)).await;
        let root = server.rooms.state_of(&room.room_id(), &state).await.expect("it is here");
        let incoming = Incoming { event: verified(&room, &late), state: Some(root) };
        let received = server.rooms.receive(&room.room_id(), &[incoming]).await;
        let received = received.expect("the room is here");
        // Carol has no power: the auth rules refuse it by that state.
        assert!(matches!(received[..], [Received::Rejected(..)]), "{version}: {received:?}");

        let after = room.message(&[lost], CAROL, "hello");
        let incoming = Incoming { event: verified(&room, &after), state: Some(root) };
        let received = server.rooms.receive(&room.room_id(), &[incoming]).await;
        let received = received.expect("the room is here");
        // That she joined is known from that state alone, which is part of the current one from now on.
        assert!(matches!(received[..], [Received::Accepted(_)]), "{version}: {received:?}");
        let state = server.state(&room);
        assert_eq!(state.get(&tuple("m.room.member", CAROL)), Some(&join), "{version}");
        let extremities: BTreeSet<_> = known.into_iter().chain([after]).collect();
        assert_eq!(server.extremities(&room), extremities);
        server.sound();
    }
}

#[tokio::test]
async fn an_event_that_a_wrong_state_refuses_is_accepted_when_the_right_one_is_known() {
    for version in versions() {
        let mut room = RoomBuilder::public(version.clone(), ALICE, &[BOB]);
        let server = Server::with(&room).await;
        let join = room.member(&room.tips(), CAROL, CAROL, "join");
        let message = room.message(std::slice::from_ref(&join), CAROL, "hello");

        // A state without carol's membership, as no honest server has it.
        let state: Vec<_> = room.before(&join).values().cloned().collect();
        server.receive_outliers(&room, std::slice::from_ref(&join)).await;
        let root = server.rooms.state_of(&room.room_id(), &state).await.expect("it is here");
        let incoming = Incoming { event: verified(&room, &message), state: Some(root) };
        let received = server.rooms.receive(&room.room_id(), &[incoming]).await;
        let received = received.expect("the room is here");
        assert!(matches!(received[..], [Received::Missing(..)]), "{version}: {received:?}");
        server.sound();

        assert!(accepted(server.receive(&room, &join).await), "{version}");
        assert!(accepted(server.receive(&room, &message).await), "{version}");
        let read = server.rooms.database().published();
        let (_, pdu) = server
            .rooms
            .event_by_id(&read, &message)
            .expect("events can be read")
            .expect("the event is here");
        assert!(!pdu.rejected);
        server.check(&room);
    }
}

#[tokio::test]
async fn an_auth_event_of_another_room_allows_nothing() {
    for version in versions() {
        let other = RoomBuilder::public(version.clone(), BOB, &[ALICE]);
        let mut room = RoomBuilder::public(version.clone(), ALICE, &[BOB]);
        let server = Server::with(&room).await;
        for id in other.order() {
            server.receive(&other, id).await;
        }
        let mut auth = room.event(&room.order()[2]).pdu.auth_events.clone();
        auth.push(other.order()[2].clone());
        let new_event = NewEvent {
            sender: ALICE,
            event_type: "m.room.message",
            state_key: None,
            content: json!({ "body": "by the power of elsewhere" }),
            auth_events: Some(auth),
        };
        let said = room.add(&room.tips(), new_event);
        assert!(rejected(server.receive(&room, &said).await), "{version}");
        server.sound();
    }
}

#[tokio::test]
async fn many_events_in_one_batch_end_where_one_after_another_do() {
    for version in versions() {
        let room = eventful(version.clone());
        let prefix = RoomBuilder::public(version.clone(), ALICE, &[BOB, CAROL]).order().len();
        let one_by_one = Server::with(&room).await;

        let server = Server::start();
        for id in &room.order()[..prefix] {
            server.receive(&room, id).await;
        }
        let events: Vec<Incoming> =
            room.order()[prefix..].iter().map(|id| verified(&room, id).into()).collect();
        let (received, pending) = server
            .rooms
            .try_receive(&room.room_id(), &events)
            .expect("the room is here")
            .expect("nothing else happens in the room");
        pending.await.expect("the batch can be written");
        assert_eq!(received.len(), events.len());
        server.check(&room);
        assert_eq!(server.state(&room), one_by_one.state(&room), "{version}");
        assert_eq!(server.extremities(&room), one_by_one.extremities(&room), "{version}");
    }
}
