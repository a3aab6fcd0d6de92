//! The directory, aliases and spaces, as other servers are shown them.

use std::collections::BTreeSet;

use http::Method;
use ruma::OwnedRoomId;
use serde_json::{Value, json};

use super::rooms::{HERE, Rooms, V1, refusal};

#[tokio::test]
async fn the_directory_and_the_aliases_of_a_server_are_shown_to_others() {
    let rooms = Rooms::start().await;
    let body = json!({ "preset": "public_chat", "visibility": "public", "room_alias_name": "tavern", "name": "the tavern" });
    let (_, made) =
        rooms.server.post("/_matrix/client/v3/createRoom", &rooms.alice.token, body).await;
    let room = &made["room_id"];
    let hidden = rooms.public().await;
    let alias = "/query/directory?room_alias=%23tavern%3Aa.test";
    let wanted = (200, json!({ "room_id": room, "servers": [HERE] }));
    assert_eq!(rooms.get(alias).await, wanted);
    // Another server that takes part is named, too.
    let tavern: OwnedRoomId = room.as_str().unwrap().try_into().unwrap();
    rooms.join(&tavern).await;
    let (_, answer) = rooms.get(alias).await;
    assert_eq!(answer["servers"], json!([HERE, "b.test"]));
    for unknown in ["%23cellar%3Aa.test", "%23tavern%3Ab.test"] {
        let refused = rooms.get(&format!("/query/directory?room_alias={unknown}")).await;
        assert_eq!(refusal(refused), json!([404, "M_NOT_FOUND"]));
    }
    let (_, listed) = rooms.get("/publicRooms?limit=10").await;
    assert_eq!(
        (&listed["chunk"][0]["room_id"], &listed["total_room_count_estimate"]),
        (room, &json!(1))
    );
    assert!(!listed.to_string().contains(hidden.as_str()));
    let path = format!("{V1}/publicRooms");
    for (term, count) in [("tavern", 1), ("cellar", 0)] {
        let body = json!({ "filter": { "generic_search_term": term } });
        let (_, found) = rooms.ask((Method::POST, &path), &body).await;
        assert_eq!(found["chunk"].as_array().unwrap().len(), count, "{term}");
    }
}

#[tokio::test]
async fn a_space_is_shown_to_other_servers_without_the_rooms_that_they_may_not_see() {
    let rooms = Rooms::start().await;
    let body = json!({ "preset": "public_chat", "creation_content": { "type": "m.space" } });
    let create = "/_matrix/client/v3/createRoom";
    let (_, made) = rooms.server.post(create, &rooms.alice.token, body).await;
    let space: OwnedRoomId = made["room_id"].as_str().unwrap().try_into().unwrap();
    let open = rooms.public().await;
    let closed = rooms.create("11", json!({ "join_rule": "invite" })).await;
    let rule = json!({ "join_rule": "restricted", "allow": [{ "type": "m.room_membership", "room_id": space }] });
    let members = rooms.create("11", rule).await;
    for child in [&open, &closed, &members] {
        let path = format!("/_matrix/client/v3/rooms/{space}/state/m.space.child/{child}");
        let content = json!({ "via": [HERE] });
        assert_eq!(rooms.server.put(&path, &rooms.alice.token, content).await.0, 200);
    }
    let path = format!("/hierarchy/{space}");
    let ids = |body: &Value| {
        let children = body["children"].as_array().unwrap().iter();
        let ids = children.map(|room| room["room_id"].as_str().unwrap().to_owned());
        ids.collect::<BTreeSet<_>>()
    };
    let set =
        |rooms: &[&OwnedRoomId]| rooms.iter().map(|room| room.to_string()).collect::<BTreeSet<_>>();
    let closed_to = |body: &Value| {
        let ids: BTreeSet<String> =
            serde_json::from_value(body["inaccessible_children"].clone()).unwrap();
        ids
    };
    let (status, body) = rooms.get(&path).await;
    assert_eq!((status, &body["room"]["room_id"]), (200, &json!(space)), "{body}");
    assert_eq!(body["room"]["children_state"].as_array().unwrap().len(), 3);
    assert_eq!(ids(&body), set(&[&open]));
    assert_eq!(closed_to(&body), set(&[&closed, &members]));
    rooms.join(&space).await;
    let (_, body) = rooms.get(&path).await;
    assert_eq!(ids(&body), set(&[&open, &members]));
    assert_eq!(closed_to(&body), set(&[&closed]));
    let refused = rooms.get(&format!("/hierarchy/{closed}")).await;
    assert_eq!(refusal(refused), json!([404, "M_NOT_FOUND"]));
}
