//! History of rooms that began at another server.

use std::time::Duration;

use ruma::{OwnedRoomId, RoomId};
use serde_json::{Value, json};
use wick_core::Clock;
use wick_harness::{TestNetwork, TestServer, User};

use super::waiting::until_member;
use crate::talk;

/// Two servers with a user each, and a room of the first one that the other can join.
async fn public_room() -> (TestNetwork, [TestServer; 2], [User; 2], OwnedRoomId) {
    let network = TestNetwork::new();
    let (a, b) = (network.start("a.test").await, network.start("b.test").await);
    let (alice, bob) = (a.register("alice").await, b.register("bob").await);
    let body = json!({ "preset": "public_chat" });
    let (_, made) = a.post("/_matrix/client/v3/createRoom", &alice.token, body).await;
    let room: OwnedRoomId = made["room_id"].as_str().unwrap().try_into().unwrap();
    (network, [a, b], [alice, bob], room)
}

#[tokio::test]
async fn the_history_from_before_a_join_is_fetched_from_the_servers_in_the_room() {
    let (_network, [a, b], [alice, bob], room) = public_room().await;
    for number in 0..130 {
        talk::say(&a, &room, &alice, &number.to_string()).await;
    }
    let join = format!("/_matrix/client/v3/join/{room}?via=a.test");
    let (status, body) = b.post(&join, &bob.token, json!({})).await;
    assert_eq!(status, 200, "{body}");

    let (mut bodies, mut types, mut from) = (Vec::new(), Vec::new(), String::new());
    loop {
        let path = format!("/_matrix/client/v3/rooms/{room}/messages?dir=b&limit=25{from}");
        let (status, page) = b.get(&path, &bob.token).await;
        assert_eq!(status, 200, "{page}");
        for event in page["chunk"].as_array().unwrap() {
            types.push(event["type"].as_str().unwrap().to_owned());
            bodies.extend(event["content"]["body"].as_str().map(str::to_owned));
        }
        let Some(end) = page["end"].as_str() else { break };
        from = format!("&from={end}");
    }
    let wanted: Vec<_> = (0..130).rev().map(|number| number.to_string()).collect();
    assert_eq!(bodies, wanted);
    assert_eq!(types.last().map(String::as_str), Some("m.room.create"));
}

/// The bodies of the messages in a user's timeline of a room, and whether it is limited.
fn timeline(sync: &Value, room: &RoomId) -> (Vec<String>, bool) {
    let timeline = &sync["rooms"]["join"][room.as_str()]["timeline"];
    let events = timeline["events"].as_array().into_iter().flatten();
    let bodies = events.filter_map(|event| event["content"]["body"].as_str().map(str::to_owned));
    (bodies.collect(), timeline["limited"] == true)
}

#[tokio::test]
async fn a_timeline_is_limited_where_history_is_missing() {
    let (_network, [a, b], [alice, bob], room) = public_room().await;
    let join = format!("/_matrix/client/v3/join/{room}?via=a.test");
    let leave = format!("/_matrix/client/v3/rooms/{room}/leave");

    assert_eq!(b.post(&join, &bob.token, json!({})).await.0, 200);
    let (_, mut sync) = b.get("/_matrix/client/v3/sync", &bob.token).await;
    assert_eq!(timeline(&sync, &room), (vec![], true), "the history is at the other server");
    talk::say(&a, &room, &alice, "first").await;
    while timeline(&sync, &room).0.is_empty() {
        let since = sync["next_batch"].as_str().unwrap();
        let path = format!("/_matrix/client/v3/sync?timeout=30000&since={since}");
        sync = b.get(&path, &bob.token).await.1;
    }
    assert_eq!(timeline(&sync, &room), (vec!["first".to_owned()], false));

    assert_eq!(b.post(&leave, &bob.token, json!({})).await.0, 200);
    until_member(&a, (&alice, &room), (&bob, "leave")).await;
    talk::say(&a, &room, &alice, "missed").await;
    assert_eq!(b.post(&join, &bob.token, json!({})).await.0, 200);
    let (_, sync) = b.get("/_matrix/client/v3/sync", &bob.token).await;
    assert_eq!(timeline(&sync, &room), (vec![], true), "what was missed would come first");
}

#[tokio::test]
async fn the_event_next_to_a_moment_is_found_although_it_was_sent_before_the_join() {
    let (_network, [a, b], [alice, bob], room) = public_room().await;
    let mut said = Vec::new();
    for body in ["one", "two", "three"] {
        a.clock.advance(Duration::from_secs(60)).await;
        let id = talk::say(&a, &room, &alice, body).await;
        said.push((id, a.clock.now().0));
    }
    a.clock.advance(Duration::from_secs(60)).await;
    b.clock.advance(Duration::from_secs(240)).await;
    let join = format!("/_matrix/client/v3/join/{room}?via=a.test");
    assert_eq!(b.post(&join, &bob.token, json!({})).await.0, 200);
    let (two, at) = &said[1];
    for (time, direction) in [(at - 30_000, "f"), (at + 30_000, "b")] {
        let path =
            format!("/_matrix/client/v1/rooms/{room}/timestamp_to_event?ts={time}&dir={direction}");
        let (status, found) = b.get(&path, &bob.token).await;
        assert_eq!((status.as_u16(), &found["event_id"]), (200, &json!(two)), "{found}");
    }
    let path = format!("/_matrix/client/v3/rooms/{room}/context/{two}");
    let (status, context) = b.get(&path, &bob.token).await;
    assert_eq!(status, 200, "{context}");
    assert_eq!(context["events_after"][0]["event_id"], json!(said[2].0));
}
