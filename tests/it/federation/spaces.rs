//! Spaces with rooms at several servers.

use serde_json::{Value, json};
use wick_harness::{TestNetwork, TestServer, User};

const CREATE: &str = "/_matrix/client/v3/createRoom";

async fn create(server: &TestServer, user: &User, body: Value) -> String {
    let (status, body) = server.post(CREATE, &user.token, body).await;
    assert_eq!(status, 200, "{body}");
    body["room_id"].as_str().unwrap().to_owned()
}

async fn add(server: &TestServer, user: &User, space: &str, child: &str, via: &str) {
    let path = format!("/_matrix/client/v3/rooms/{space}/state/m.space.child/{child}");
    assert_eq!(server.put(&path, &user.token, json!({ "via": [via] })).await.0, 200);
}

/// The rooms below a space as a user is shown them, sorted.
async fn below(server: &TestServer, user: &User, space: &str) -> Vec<String> {
    let path = format!("/_matrix/client/v1/rooms/{space}/hierarchy");
    let (status, body) = server.get(&path, &user.token).await;
    assert_eq!(status, 200, "{body}");
    let rooms = body["rooms"].as_array().unwrap().iter();
    let mut ids: Vec<_> = rooms.map(|room| room["room_id"].as_str().unwrap().to_owned()).collect();
    ids.sort();
    ids
}

fn sorted(rooms: &[&String]) -> Vec<String> {
    let mut rooms: Vec<_> = rooms.iter().map(|room| (*room).clone()).collect();
    rooms.sort();
    rooms
}

#[tokio::test]
async fn a_hierarchy_goes_on_at_other_servers_and_shows_what_its_user_may_know_of() {
    let network = TestNetwork::new();
    let (a, b) = (network.start("a.test").await, network.start("b.test").await);
    let (alice, bob) = (a.register("alice").await, b.register("bob").await);
    let space = || json!({ "room_version": "11", "preset": "public_chat", "creation_content": { "type": "m.space" } });
    let own = create(&b, &bob, space()).await;
    let (theirs, deeper) = (create(&a, &alice, space()).await, create(&a, &alice, space()).await);
    let open = create(&a, &alice, json!({ "preset": "public_chat" })).await;
    let closed = create(&a, &alice, json!({})).await;
    let rule = json!({ "join_rule": "restricted", "allow": [{ "type": "m.room_membership", "room_id": theirs }] });
    let rule = json!([{ "type": "m.room.join_rules", "content": rule }]);
    let members = create(&a, &alice, json!({ "initial_state": rule })).await;
    add(&b, &bob, &own, &theirs, "a.test").await;
    add(&a, &alice, &theirs, &deeper, "a.test").await;
    for child in [&open, &closed, &members] {
        add(&a, &alice, &deeper, child, "a.test").await;
    }
    assert_eq!(below(&b, &bob, &own).await, sorted(&[&own, &theirs, &deeper, &open]));
    assert_eq!(below(&b, &bob, &theirs).await, sorted(&[&theirs, &deeper, &open]));
    let path = format!("/_matrix/client/v1/rooms/{closed}/hierarchy");
    assert_eq!(b.get(&path, &bob.token).await.0, 403);
    let join = format!("/_matrix/client/v3/join/{theirs}?via=a.test");
    assert_eq!(b.post(&join, &bob.token, json!({})).await.0, 200);
    let wanted = sorted(&[&own, &theirs, &deeper, &open, &members]);
    assert_eq!(below(&b, &bob, &own).await, wanted);
}
