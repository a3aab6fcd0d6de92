//! Transactions: their answers, repetitions and refusals.

use super::*;

#[tokio::test]
async fn the_events_of_a_transaction_are_received_and_a_repeated_one_gets_the_same_answer() {
    for version in versions() {
        let mut talk = server_in(joined_room(version), |room| {
            room.message(&room.tips(), BOB, "hello");
            room.state(&room.tips(), BOB, "m.room.topic", json!({ "topic": "second" }));
            room.message(&room.tips(), ALICE, "well");
        })
        .await;
        let events = json_of(&talk.room, &talk.said);
        let results = talk.server.send(events.clone()).await;
        assert_eq!(results.keys().collect::<BTreeSet<_>>(), talk.said.iter().collect());
        assert!(results.values().all(std::result::Result::is_ok));
        talk.check_all();

        talk.server.transactions -= 1;
        assert_eq!(talk.server.send(events.clone()).await, results);
        // The same events in another transaction are known.
        assert_eq!(talk.server.send(events).await, results);
        talk.check_all();
        assert!(talk.others.world().asked.is_empty(), "nothing was missing");
    }
}

#[tokio::test]
async fn a_server_that_the_rooms_acl_denies_is_refused_for_each_event_whatever_its_case() {
    for denied in ["one.example", "ONE.*", "*"] {
        let mut talk = server_in(joined_room(RoomVersionId::V12), |room| {
            let content = json!({ "allow": ["*"], "deny": [denied] });
            room.state(&room.tips(), ALICE, "m.room.server_acl", content);
            room.message(&room.tips(), BOB, "hello");
        })
        .await;
        let acl = talk.json(0);
        assert!(talk.server.send(acl).await[&talk.said[0]].is_ok());
        let message = talk.json(1);
        assert!(talk.server.send(message).await[&talk.said[1]].is_err(), "{denied}");
        assert!(!talk.server.is_in_timeline(&talk.said[1]));
        talk.server.sound();
    }
}

#[tokio::test]
async fn what_is_of_no_room_here_or_no_event_is_left_out_of_the_answer() {
    let mut talk = server_in(joined_room(RoomVersionId::V12), |room| {
        room.message(&room.tips(), BOB, "hello");
    })
    .await;
    let elsewhere = joined_room(RoomVersionId::V10);
    let mut events = json_of(&elsewhere, elsewhere.order());
    for text in ["{}", "[]", "7", r#"{"room_id":"!x:y"}"#] {
        events.push(RawValue::from_string(text.to_owned()).expect("it is JSON"));
    }
    events.extend(talk.json(0));
    let results = talk.server.send(events).await;
    assert_eq!(results.into_keys().collect::<Vec<_>>(), talk.said);
    talk.check_all();
}

#[tokio::test]
async fn a_transaction_of_more_than_fifty_events_is_refused() {
    let talk = server_in(joined_room(RoomVersionId::V12), |room| {
        room.message(&room.tips(), BOB, "hello");
    })
    .await;
    let events = vec![talk.json(0)[0].clone(); 51];
    let origin = <&ServerName>::try_from("one.example").expect("it is a server name");
    let error = talk.server.inbound.take_in(origin, "1", events).await.expect_err("too many");
    assert!(error.kind().is_some());
    assert_eq!(talk.server.queued(), 0);
}

#[tokio::test]
async fn events_of_a_room_without_local_members_are_not_received() {
    let mut talk = server_in(joined_room(RoomVersionId::V12), |room| {
        room.member(&room.tips(), DAVE, DAVE, "leave");
        room.message(&room.tips(), BOB, "he is gone");
    })
    .await;
    let leave = talk.json(0);
    talk.server.send(leave).await;
    let message = talk.json(1);
    talk.server.send(message).await;
    assert!(talk.server.is_in_timeline(&talk.said[0]));
    assert!(!talk.server.is_in_timeline(&talk.said[1]));
    assert_eq!(talk.server.queued(), 0);
}
