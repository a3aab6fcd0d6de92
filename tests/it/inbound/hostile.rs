//! Servers that send what no honest one would.

use super::*;

#[tokio::test]
async fn a_forged_event_is_dropped_and_those_with_it_are_received() {
    for version in versions() {
        let mut talk = server_in(joined_room(version), |room| {
            room.message(&room.tips(), BOB, "one");
            room.message(&room.tips(), BOB, "two");
        })
        .await;
        let mut forged: serde_json::Value =
            serde_json::from_str(talk.json(0)[0].get()).expect("it is JSON");
        forged["sender"] = json!("@alice:one.example");
        let mut events = vec![serde_json::value::to_raw_value(&forged).expect("it is JSON")];
        events.extend(json_of(&talk.room, &talk.said));
        talk.server.send(events).await;
        talk.check_all();
        assert_eq!(talk.server.timeline().len(), 3);
    }
}

#[tokio::test]
async fn an_event_whose_key_is_not_to_be_had_waits_for_it() {
    let mut talk = server_in(joined_room(RoomVersionId::V12), |room| {
        room.message(&room.tips(), BOB, "one");
    })
    .await;
    talk.others.world().keyless = ["two.example".to_owned()].into();
    let message = talk.json(0);
    talk.server.send(message).await;
    assert_eq!(talk.server.queued(), 1);
    assert!(talk.server.place(&talk.said[0]).is_none());
    talk.others.world().keyless.clear();
    talk.server.wait(Duration::from_secs(120)).await;
    talk.check_all();
}

#[tokio::test]
async fn a_history_without_an_end_costs_a_bounded_number_of_requests_and_stores_nothing() {
    let mut talk = server_in(joined_room(RoomVersionId::V12), |room| {
        // Wide and long: each event refers to others that are not to be had.
        let mut tips = room.tips();
        for n in 0..300 {
            let one = room.message(&tips, BOB, &format!("{n} left"));
            let two = room.message(&tips, BOB, &format!("{n} right"));
            tips = vec![one, two];
        }
        room.message(&tips, BOB, "the end");
    })
    .await;
    talk.others.world().stateless = true;
    let last = talk.json(600);
    talk.server.send(last).await;
    let asked = talk.others.world().asked.len();
    assert!(asked <= 100, "{asked} requests");
    assert_eq!(talk.server.queued(), 1);
    assert_eq!(talk.server.timeline().len(), 1);
    talk.server.sound();
}

/// A server that answers every request with events of another room.
#[tokio::test]
async fn events_of_another_room_fill_no_gap() {
    let elsewhere = Arc::new(joined_room(RoomVersionId::V12));
    let mut room = joined_room(RoomVersionId::V12);
    let join = room.tips()[0].clone();
    room.message(&room.tips(), BOB, "one");
    let two = room.message(&room.tips(), BOB, "two");
    let others = Others::new(&elsewhere);
    let mut server = Server::start("here.example", &others);
    server.join(&room, &join).await;
    server.send(json_of(&room, std::slice::from_ref(&two))).await;
    assert!(server.place(&two).is_none());
    assert_eq!(server.queued(), 1);
    assert_eq!(server.timeline().len(), 1);
    server.sound();
}

#[tokio::test]
async fn what_one_server_sends_that_cannot_be_received_now_fills_no_queue() {
    let mut talk = server_in(joined_room(RoomVersionId::V12), |room| {
        for n in 0..150 {
            room.message(&room.tips(), BOB, &n.to_string());
        }
    })
    .await;
    talk.others.world().keyless = ["two.example".to_owned()].into();
    for portion in talk.said.chunks(50) {
        talk.server.send(json_of(&talk.room, portion)).await;
    }
    assert_eq!(talk.server.queued(), 100);
    // Those that wait are received once they can be, and bring the rest with the next event.
    talk.others.world().keyless.clear();
    talk.server.wait(Duration::from_secs(120)).await;
    assert_eq!(talk.server.timeline().len(), 101);
    let last = talk.json(149);
    talk.server.send(last).await;
    talk.check_all();
}

#[tokio::test]
async fn an_event_that_is_given_in_place_of_another_does_not_stand_for_it() {
    for version in versions() {
        let mut talk = server_in(joined_room(version), |room| {
            room.state(&room.tips(), ALICE, "m.room.topic", json!({ "topic": "real" }));
            room.message(&room.tips(), BOB, "instead of it");
            room.message(&room.tips(), ALICE, "last");
        })
        .await;
        talk.others.world().instead = [(talk.said[0].clone(), talk.said[1].clone())].into();
        talk.others.world().stateless = true;
        let last = talk.json(2);
        talk.server.send(last).await;
        assert!(talk.server.place(&talk.said[0]).is_none());
        assert!(!talk.server.is_in_timeline(&talk.said[2]));
        assert_eq!(talk.server.queued(), 1);
        assert!(talk.others.world().asked.len() <= 100);
        talk.server.sound();
        talk.others.world().instead.clear();
        talk.server.wait(Duration::from_secs(120)).await;
        talk.check_all();
    }
}

#[tokio::test]
async fn a_server_that_is_slow_to_give_what_is_missing_holds_up_no_other_room() {
    const EVE: &str = "@eve:evil.example";
    let rooms: Vec<_> = (0..9)
        .map(|n| {
            let mut room =
                RoomBuilder::public(RoomVersionId::V12, &format!("@a{n}:one.example"), &[]);
            room.member(&room.tips(), BOB, BOB, "join");
            room.member(&room.tips(), EVE, EVE, "join");
            let join = room.member(&room.tips(), DAVE, DAVE, "join");
            let withheld = room.message(&room.tips(), EVE, "withheld");
            let lure = room.message(&room.tips(), EVE, "lure");
            let message = room.message(std::slice::from_ref(&join), BOB, "hello");
            (Arc::new(room), join, withheld, lure, message)
        })
        .collect();
    let others = Others::new(&rooms[0].0);
    others.world().slow = ["evil.example".to_owned()].into();
    let mut server = Server::start("here.example", &others);
    for (room, join, ..) in &rooms {
        server.join(room, join).await;
    }
    for (room, _, _, lure, _) in &rooms[..8] {
        let events = json_of(room, std::slice::from_ref(lure));
        server.take_in("evil.example", events).await.expect("the transaction is in order");
    }
    let (room, .., message) = &rooms[8];
    let events = json_of(room, std::slice::from_ref(message));
    server.take_in("two.example", events).await.expect("the transaction is in order");
    server.inbound.worked_off(&[room.room_id()], server.clock.monotonic() + Duration::MAX).await;
    assert!(server.is_in_timeline(message));
    // The others wait to be tried again, and hold up their rooms no longer.
    server.clock.advance(Duration::from_secs(60)).await;
    server.inbound.idle().await;
    assert_eq!(server.queued(), 8);
    server.sound();
}

#[tokio::test]
async fn a_server_that_is_not_in_the_room_is_not_asked_for_what_its_events_lack() {
    let mut talk = server_in(joined_room(RoomVersionId::V12), |room| {
        room.message(&room.tips(), "@eve:evil.example", "withheld");
        room.message(&room.tips(), "@eve:evil.example", "lure");
    })
    .await;
    let lure = talk.json(1);
    talk.server.take_in("evil.example", lure).await.expect("the transaction is in order");
    talk.server.inbound.idle().await;
    let asked_of = talk.others.world().asked_of.clone();
    assert!(!asked_of.is_empty() && !asked_of.contains("evil.example"), "{asked_of:?}");
}

#[tokio::test]
async fn servers_that_are_not_in_the_room_fill_no_queue_of_those_that_are() {
    let mut talk = server_in(joined_room(RoomVersionId::V12), |room| {
        let withheld = room.message(&room.tips(), BOB, "withheld");
        for n in 0..500 {
            let on = std::slice::from_ref(&withheld);
            room.message(on, "@eve:evil.example", &n.to_string());
        }
        room.message(&[withheld], BOB, "hello");
    })
    .await;
    talk.others.world().withheld = [talk.said[0].clone()].into();
    talk.others.world().stateless = true;
    for (n, portion) in talk.said[1..501].chunks(50).enumerate() {
        let (origin, events) = (format!("evil{}.example", n / 2), json_of(&talk.room, portion));
        talk.server.take_in(&origin, events).await.expect("the transaction is in order");
        talk.server.inbound.idle().await;
    }
    assert_eq!(talk.server.queued(), 100);
    let message = talk.json(501);
    talk.server.take_in("two.example", message).await.expect("the transaction is in order");
    talk.server.inbound.idle().await;
    talk.others.world().withheld.clear();
    talk.server.wait(Duration::from_secs(120)).await;
    assert!(talk.server.is_in_timeline(&talk.said[501]));
    talk.server.sound();
}

#[tokio::test]
async fn of_a_server_that_is_not_in_a_room_where_too_many_wait_the_events_of_other_rooms_are_taken()
{
    let mut elsewhere = RoomBuilder::public(RoomVersionId::V12, "@erin:one.example", &[BOB]);
    let join = elsewhere.member(&elsewhere.tips(), DAVE, DAVE, "join");
    let hello = elsewhere.message(&elsewhere.tips(), BOB, "hello");
    let mut talk = server_in(joined_room(RoomVersionId::V12), |room| {
        let withheld = room.message(&room.tips(), BOB, "withheld");
        for n in 0..101 {
            room.message(std::slice::from_ref(&withheld), BOB, &n.to_string());
        }
    })
    .await;
    talk.server.join(&elsewhere, &join).await;
    talk.others.world().withheld = [talk.said[0].clone()].into();
    talk.others.world().stateless = true;
    for portion in talk.said[1..101].chunks(50) {
        let events = json_of(&talk.room, portion);
        talk.server.take_in("evil.example", events).await.expect("the transaction is in order");
    }
    talk.server.inbound.idle().await;
    let last = talk.said[101].clone();
    let mut events = json_of(&talk.room, std::slice::from_ref(&last));
    events.extend(json_of(&elsewhere, std::slice::from_ref(&hello)));
    let results = talk.server.take_in("other.example", events).await.expect("it is in order");
    assert!(results[&last].is_err());
    assert!(results[&hello].is_ok());
    // A server in the room is not one of them.
    let events = json_of(&talk.room, std::slice::from_ref(&last));
    let results = talk.server.take_in("two.example", events).await.expect("it is in order");
    assert!(results[&last].is_ok());
    talk.server.inbound.idle().await;
    assert!(talk.server.is_in_timeline(&hello));
}

#[tokio::test]
async fn a_lie_about_the_state_before_an_event_has_nothing_refused_for_good() {
    for version in versions() {
        let mut talk = server_in(joined_room(version), |room| {
            room.message(&room.tips(), BOB, "withheld");
            room.message(&room.tips(), BOB, "lied about");
            room.message(&room.tips(), ALICE, "what follows on it");
        })
        .await;
        let (withheld, lied_about) = (talk.said[0].clone(), talk.said[1].clone());
        talk.others.world().withheld = [withheld].into();
        talk.others.world().bare = [lied_about.clone()].into();
        let message = talk.json(1);
        talk.server.send(message).await;
        talk.server.wait(Duration::from_secs(120)).await;
        assert!(talk.others.world().asked.contains(&"state_ids"));
        assert!(talk.server.place(&lied_about).is_none());
        assert_eq!(talk.server.queued(), 1);
        talk.server.sound();
        talk.others.world().withheld.clear();
        let last = talk.json(2);
        talk.server.send(last).await;
        talk.server.wait(Duration::from_secs(3600)).await;
        talk.check_all();
    }
}
