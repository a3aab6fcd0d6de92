//! Finding an event by the time it was sent.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "what a test asks for is there")]

use std::time::Duration;

use serde_json::{Value, json};
use wick_harness::{TestServer, User};

async fn find(
    server: &TestServer,
    user: &User,
    room: &ruma::RoomId,
    at: u64,
    direction: &str,
) -> (u16, Value) {
    let mut answers = Vec::new();
    for version in ["v1", "unstable/org.matrix.msc3030"] {
        let path = format!(
            "/_matrix/client/{version}/rooms/{room}/timestamp_to_event?ts={at}&dir={direction}"
        );
        let (status, body) = server.get(&path, &user.token).await;
        answers.push((status.as_u16(), body));
    }
    assert_eq!(answers[0], answers[1]);
    answers.pop().unwrap()
}

#[tokio::test]
async fn the_next_event_is_found_in_both_directions() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let room = server.room(&alice, "shared").await;
    let mut events = Vec::new();
    for n in 0..3 {
        server.clock.advance(Duration::from_secs(10)).await;
        let event = room.say(&alice, &n.to_string()).await;
        let path = room.path(&format!("/event/{event}"));
        let shown = server.get(&path, &alice.token).await.1;
        events.push((json!(event), shown["origin_server_ts"].as_u64().unwrap()));
    }
    for (index, (event, at)) in events.iter().enumerate() {
        let expected = json!({ "event_id": event, "origin_server_ts": at });
        for (asked, direction) in [(*at, "f"), (*at, "b"), (at - 1, "f"), (at + 1, "b")] {
            let (status, body) = find(&server, &alice, &room.id, asked, direction).await;
            assert_eq!((status, &body), (200, &expected), "{index} {asked} {direction}");
        }
    }
    let last = events[2].1;
    for (at, direction) in [(last + 1, "f"), (1, "b")] {
        let (status, body) = find(&server, &alice, &room.id, at, direction).await;
        assert_eq!((status, &body["errcode"]), (404, &json!("M_NOT_FOUND")));
    }
}

#[tokio::test]
async fn nobody_outside_of_a_room_finds_its_events() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let room = server.room(&alice, "joined").await;
    server.clock.advance(Duration::from_secs(10)).await;
    let early = room.say(&alice, "early").await;
    let shown = server.get(&room.path(&format!("/event/{early}")), &alice.token).await.1;
    let at = shown["origin_server_ts"].as_u64().unwrap();
    let (status, body) = find(&server, &bob, &room.id, at, "f").await;
    assert_eq!((status, &body["errcode"]), (403, &json!("M_FORBIDDEN")));
    server.clock.advance(Duration::from_secs(10)).await;
    let own = json!(room.member(&bob, &bob, "join").await);
    let (status, body) = find(&server, &bob, &room.id, at, "f").await;
    assert_eq!((status, &body["event_id"]), (200, &own));
}
