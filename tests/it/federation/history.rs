//! History of rooms that began at another server.

use serde_json::json;
use wick_harness::TestNetwork;

use crate::talk;

#[tokio::test]
async fn the_history_from_before_a_join_is_fetched_from_the_servers_in_the_room() {
    let network = TestNetwork::new();
    let (a, b) = (network.start("a.test").await, network.start("b.test").await);
    let (alice, bob) = (a.register("alice").await, b.register("bob").await);
    let body = json!({ "preset": "public_chat" });
    let (_, made) = a.post("/_matrix/client/v3/createRoom", &alice.token, body).await;
    let room: ruma::OwnedRoomId = made["room_id"].as_str().unwrap().try_into().unwrap();
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
