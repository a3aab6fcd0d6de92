//! The public directory.

use serde_json::{Value, json};
use wick_harness::TestServer;

use crate::rooms::{act, create, set_state, text};

const V3: &str = "/_matrix/client/v3";

fn ids(body: &Value) -> Vec<String> {
    let rooms = body.get("chunk").and_then(Value::as_array).cloned().unwrap_or_default();
    rooms.iter().map(|room| text(room, "room_id")).collect()
}

#[tokio::test]
async fn listed_rooms_are_found_with_what_they_say_of_themselves() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    create(&server, &alice, json!({ "name": "hidden" })).await;
    let body = json!({
        "visibility": "public", "name": "Wombles", "topic": "of Wimbledon",
        "room_alias_name": "common", "creation_content": { "type": "m.space" },
        "initial_state": [
            { "type": "m.room.avatar", "content": { "url": "mxc://localhost/a" } },
            { "type": "m.room.history_visibility",
              "content": { "history_visibility": "world_readable" } },
            { "type": "m.room.guest_access", "content": { "guest_access": "can_join" } },
            { "type": "m.room.join_rules", "content": { "join_rule": "knock" } },
        ],
    });
    let room = create(&server, &alice, body).await;
    let (status, body) = server.get(&format!("{V3}/publicRooms"), "").await;
    assert_eq!(status.as_u16(), 200);
    let expected = json!({
        "chunk": [{
            "room_id": room, "name": "Wombles", "topic": "of Wimbledon",
            "canonical_alias": "#common:localhost", "avatar_url": "mxc://localhost/a",
            "room_type": "m.space", "num_joined_members": 1, "world_readable": true,
            "guest_can_join": true, "join_rule": "knock",
        }],
        "total_room_count_estimate": 1,
    });
    assert_eq!(body, expected);
    create(&server, &alice, json!({ "visibility": "public", "preset": "public_chat" })).await;
    for body in [
        server.get(&format!("{V3}/publicRooms"), "").await.1,
        server.post(&format!("{V3}/publicRooms"), &alice.token, json!({})).await.1,
    ] {
        let rules: Vec<_> =
            body["chunk"].as_array().unwrap().iter().map(|it| &it["join_rule"]).collect();
        assert!(rules.contains(&&json!("public")) && rules.contains(&&json!("knock")), "{body}");
    }
    for (filter, found) in [
        (json!({}), true),
        (json!({ "generic_search_term": "" }), true),
        (json!({ "generic_search_term": "WOMB" }), true),
        (json!({ "generic_search_term": "wimbledon" }), true),
        (json!({ "generic_search_term": "#common" }), true),
        (json!({ "generic_search_term": "tobermory" }), false),
        (json!({ "room_types": ["m.space"] }), true),
        (json!({ "room_types": [null] }), false),
        (json!({ "room_types": [null, "m.space"] }), true),
    ] {
        let request = json!({ "filter": filter });
        let (_, body) = server.post(&format!("{V3}/publicRooms"), &alice.token, request).await;
        assert_eq!(ids(&body).contains(&room), found, "{filter}");
    }
}

#[tokio::test]
async fn the_directory_is_read_in_pages_the_largest_rooms_first() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let mut guests = Vec::new();
    for name in ["bob", "carol", "dave", "eve"] {
        guests.push(server.register(name).await);
    }
    let mut rooms = Vec::new();
    for members in 0..5 {
        let room = create(&server, &alice, json!({ "visibility": "public" })).await;
        for guest in &guests[..members] {
            act(&server, guest, (&room, "join"), json!({})).await;
        }
        rooms.insert(0, room);
    }
    let page = async |since: &str| {
        let path = format!("{V3}/publicRooms?limit=2&since={since}");
        server.get(&path, "").await.1
    };
    let first = server.get(&format!("{V3}/publicRooms?limit=2"), "").await.1;
    assert_eq!(ids(&first), rooms[..2]);
    assert!(first.get("prev_batch").is_none());
    assert_eq!(first["total_room_count_estimate"], 5);
    let second = page(&text(&first, "next_batch")).await;
    assert_eq!(ids(&second), rooms[2..4]);
    let third = page(&text(&second, "next_batch")).await;
    assert_eq!(ids(&third), rooms[4..]);
    assert!(third.get("next_batch").is_none());
    assert_eq!(page(&text(&third, "prev_batch")).await, second);
    assert_eq!(page(&text(&second, "prev_batch")).await["chunk"], first["chunk"]);
    let (status, body) = server.get(&format!("{V3}/publicRooms?since=nonsense"), "").await;
    assert_eq!((status.as_u16(), text(&body, "errcode").as_str()), (400, "M_INVALID_PARAM"));
    let (status, _) = server.get(&format!("{V3}/publicRooms?server=elsewhere.test"), "").await;
    assert_eq!(status.as_u16(), 404);
}

#[tokio::test]
async fn rooms_are_listed_by_those_with_power() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let room = create(&server, &alice, json!({ "preset": "public_chat" })).await;
    let path = format!("{V3}/directory/list/room/{room}");
    let public = json!({ "visibility": "public" });
    assert_eq!(server.get(&path, "").await.1, json!({ "visibility": "private" }));
    assert_eq!(server.put(&path, &bob.token, public.clone()).await.0.as_u16(), 403);
    act(&server, &bob, (&room, "join"), json!({})).await;
    assert_eq!(server.put(&path, &bob.token, public.clone()).await.0.as_u16(), 403);
    assert_eq!(server.put(&path, &alice.token, public.clone()).await.0.as_u16(), 200);
    assert_eq!(server.get(&path, "").await.1, public);
    let (_, body) = server.get(&format!("{V3}/publicRooms"), "").await;
    assert_eq!(ids(&body), [&*room]);
    let name = json!({ "name": "late" });
    set_state(&server, &alice, (&room, "m.room.name"), name).await;
    let (_, body) = server.get(&format!("{V3}/publicRooms"), "").await;
    assert_eq!(body["chunk"][0]["name"], "late");
    let nonsense = json!({ "visibility": "nonsense" });
    assert_eq!(server.put(&path, &alice.token, nonsense).await.0.as_u16(), 400);
    let private = json!({ "visibility": "private" });
    assert_eq!(server.put(&path, &alice.token, private).await.0.as_u16(), 200);
    let (_, body) = server.get(&format!("{V3}/publicRooms"), "").await;
    assert!(ids(&body).is_empty());
    let path = format!("{V3}/directory/list/room/!unknown:localhost");
    assert_eq!(server.get(&path, "").await.0.as_u16(), 404);
    assert_eq!(server.put(&path, &alice.token, public).await.0.as_u16(), 404);
}

#[tokio::test]
async fn an_operator_can_keep_the_directory_and_rooms_to_themselves() {
    let server = TestServer::start_with(|config| config.rooms.allow_publication = false).await;
    let alice = server.register("alice").await;
    let path = format!("{V3}/createRoom");
    let public = json!({ "visibility": "public" });
    let (status, _) = server.post(&path, &alice.token, public.clone()).await;
    assert_eq!(status.as_u16(), 403);
    let room = create(&server, &alice, json!({})).await;
    let path = format!("{V3}/directory/list/room/{room}");
    assert_eq!(server.put(&path, &alice.token, public).await.0.as_u16(), 403);

    let server = TestServer::start_with(|config| config.rooms.allow_creation = false).await;
    let alice = server.register("alice").await;
    let (status, _) = server.post(&format!("{V3}/createRoom"), &alice.token, json!({})).await;
    assert_eq!(status.as_u16(), 403);
}

#[tokio::test]
async fn the_directory_follows_its_rooms() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let room = server.room(&alice, "shared").await;
    let path = format!("/_matrix/client/v3/directory/list/room/{}", room.id);
    server.put(&path, &alice.token, json!({ "visibility": "public" })).await;
    let shown = async || {
        let (_, body) = server.get("/_matrix/client/v3/publicRooms", "").await;
        let room = body["chunk"][0].clone();
        (room["name"].clone(), room["num_joined_members"].clone())
    };
    assert_eq!(shown().await, (Value::Null, json!(1)));
    let name = room.set(&alice, ("m.room.name", ""), json!({ "name": "one" })).await;
    assert_eq!(shown().await, (json!("one"), json!(1)));
    room.member(&bob, &bob, "join").await;
    assert_eq!(shown().await, (json!("one"), json!(2)));
    room.redact(&alice, &name).await;
    assert_eq!(shown().await, (Value::Null, json!(2)));
    server.put(&path, &alice.token, json!({ "visibility": "private" })).await;
    assert_eq!(shown().await, (Value::Null, Value::Null));
}
