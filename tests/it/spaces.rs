//! Spaces and summaries of rooms over HTTP.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "what a test asks for is there")]

use http::StatusCode;
use ruma::OwnedEventId;
use serde_json::{Value, json};
use wick_harness::{TestRoom, TestServer, User};

const SPACE: Option<&str> = Some("m.space");

async fn link(space: &TestRoom<'_>, by: &User, child: &TestRoom<'_>, more: Value) -> OwnedEventId {
    let mut content = json!({ "via": ["localhost"] });
    content.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    space.set(by, ("m.space.child", child.id.as_str()), content).await
}

async fn walk(server: &TestServer, user: &User, root: &TestRoom<'_>, query: &str) -> Value {
    let path = format!("/_matrix/client/v1/rooms/{}/hierarchy{query}", root.id);
    let (status, body) = server.get(&path, &user.token).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    body
}

fn ids(found: &Value) -> Vec<&str> {
    let rooms = found["rooms"].as_array().unwrap();
    rooms.iter().map(|room| room["room_id"].as_str().unwrap()).collect()
}

/// A root with rooms 1 and 3 and the space between them, which holds room 2.
struct Tree<'a> {
    root: TestRoom<'a>,
    space: TestRoom<'a>,
    rooms: Vec<TestRoom<'a>>,
}

async fn tree<'a>(server: &'a TestServer, alice: &User) -> Tree<'a> {
    let root = server.room_of_type(alice, "shared", SPACE).await;
    let space = server.room_of_type(alice, "shared", SPACE).await;
    let mut rooms = Vec::new();
    for _ in 0..3 {
        rooms.push(server.room(alice, "shared").await);
    }
    link(&root, alice, &rooms[2], json!({})).await;
    link(&root, alice, &space, json!({ "order": "b", "suggested": true })).await;
    link(&root, alice, &rooms[0], json!({ "order": "a" })).await;
    link(&space, alice, &rooms[1], json!({ "suggested": true })).await;
    // A circle ends.
    link(&space, alice, &root, json!({})).await;
    Tree { root, space, rooms }
}

#[tokio::test]
async fn a_space_is_walked_in_order_each_room_before_its_children_and_once() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let Tree { root, space, rooms } = tree(&server, &alice).await;
    let whole = [&root.id, &rooms[0].id, &space.id, &rooms[1].id, &rooms[2].id];
    let found = walk(&server, &alice, &root, "").await;
    assert_eq!(ids(&found), whole);
    assert!(found.get("next_batch").is_none());
    let first = &found["rooms"][0];
    assert_eq!((&first["room_type"], &first["num_joined_members"]), (&json!("m.space"), &json!(1)));
    let children = first["children_state"].as_array().unwrap();
    assert_eq!(children.len(), 3);
    assert_eq!(children[0]["state_key"], rooms[0].id.as_str());
    assert!(children[0]["origin_server_ts"].is_u64() && children[0].get("event_id").is_none());

    let shallow = walk(&server, &alice, &root, "?max_depth=1").await;
    assert_eq!(ids(&shallow), [&root.id, &rooms[0].id, &space.id, &rooms[2].id]);
    let suggested = walk(&server, &alice, &root, "?suggested_only=true").await;
    assert_eq!(ids(&suggested), [&root.id, &space.id, &rooms[1].id]);

    let (mut seen, mut from) = (Vec::new(), String::new());
    loop {
        let page = walk(&server, &alice, &root, &format!("?limit=2{from}")).await;
        seen.extend(ids(&page).into_iter().map(str::to_owned));
        let Some(next) = page["next_batch"].as_str() else { break };
        from = format!("&from={next}");
        let other = format!("/_matrix/client/v1/rooms/{}/hierarchy?max_depth=1{from}", root.id);
        let (status, body) = server.get(&other, &alice.token).await;
        assert_eq!((status.as_u16(), &body["errcode"]), (400, &json!("M_INVALID_PARAM")));
    }
    assert_eq!(seen, whole.map(|id| id.to_string()));
}

#[tokio::test]
async fn a_link_that_was_redacted_or_leads_nowhere_holds_nothing() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let root = server.room_of_type(&alice, "shared", SPACE).await;
    let (one, two) = (server.room(&alice, "shared").await, server.room(&alice, "shared").await);
    let redacted = link(&root, &alice, &one, json!({})).await;
    link(&root, &alice, &two, json!({})).await;
    root.redact(&alice, &redacted).await;
    assert_eq!(ids(&walk(&server, &alice, &root, "").await), [&root.id, &two.id]);
    root.set(&alice, ("m.space.child", two.id.as_str()), json!({})).await;
    let nowhere = ("m.space.child", "!nowhere:localhost");
    root.set(&alice, nowhere, json!({ "via": ["localhost"] })).await;
    let found = walk(&server, &alice, &root, "").await;
    assert_eq!(ids(&found), [&root.id]);
    assert_eq!(found["rooms"][0]["children_state"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_room_is_shown_to_those_who_may_join_or_read_it() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let root = server.room_of_type(&alice, "shared", SPACE).await;
    let gate = server.room(&alice, "shared").await;
    gate.member(&bob, &bob, "join").await;
    let rule = json!({ "type": "m.room_membership", "room_id": gate.id });
    for (join_rules, visibility, before, after) in [
        (json!({ "join_rule": "public" }), "shared", true, true),
        (json!({ "join_rule": "knock" }), "shared", true, true),
        (json!({ "join_rule": "invite" }), "shared", false, false),
        (json!({ "join_rule": "invite" }), "world_readable", true, true),
        (json!({ "join_rule": "restricted", "allow": [rule] }), "shared", false, true),
    ] {
        let child = server.room(&alice, visibility).await;
        child.set(&alice, ("m.room.join_rules", ""), join_rules.clone()).await;
        link(&root, &alice, &child, json!({})).await;
        for (membership, expected) in [("leave", before), ("join", after)] {
            gate.member(&bob, &bob, membership).await;
            let found = walk(&server, &bob, &root, "").await;
            assert_eq!(ids(&found).contains(&child.id.as_str()), expected, "{join_rules}");
            let path = format!("/_matrix/client/v1/room_summary/{}", child.id);
            let (status, body) = server.get(&path, &bob.token).await;
            assert_eq!(status == StatusCode::OK, expected, "{join_rules} {body}");
            if expected {
                assert_eq!(body["membership"], "leave");
                let restricted = join_rules["join_rule"] == "restricted";
                assert_eq!(body.get("allowed_room_ids").is_some(), restricted);
            } else {
                assert_eq!(body["errcode"], "M_NOT_FOUND");
            }
        }
        child.member(&alice, &bob, "invite").await;
        assert!(ids(&walk(&server, &bob, &root, "").await).contains(&child.id.as_str()));
    }
    root.set(&alice, ("m.room.join_rules", ""), json!({ "join_rule": "invite" })).await;
    for room in [root.id.as_str(), "!nowhere:localhost"] {
        let path = format!("/_matrix/client/v1/rooms/{room}/hierarchy");
        let (status, body) = server.get(&path, &bob.token).await;
        assert_eq!((status.as_u16(), &body["errcode"]), (403, &json!("M_FORBIDDEN")));
    }
}

#[tokio::test]
async fn a_room_is_summed_up_by_id_or_alias_also_for_strangers() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let create = json!({
        "preset": "public_chat", "room_alias_name": "lobby", "name": "Lobby", "topic": "all",
    });
    let (_, room) = server.post("/_matrix/client/v3/createRoom", &alice.token, create).await;
    let room_id = room["room_id"].as_str().unwrap();
    for name in [room_id, "%23lobby:localhost"] {
        for path in [
            format!("/_matrix/client/v1/room_summary/{name}"),
            format!("/_matrix/client/unstable/im.nheko.summary/rooms/{name}/summary"),
            format!("/_matrix/client/unstable/im.nheko.summary/summary/{name}"),
        ] {
            let (status, body) = server.get(&path, &alice.token).await;
            assert_eq!(status, StatusCode::OK, "{body}");
            assert_eq!((&body["room_id"], &body["name"]), (&json!(room_id), &json!("Lobby")));
            assert_eq!((&body["topic"], &body["membership"]), (&json!("all"), &json!("join")));
            assert_eq!(body["canonical_alias"], "#lobby:localhost");
            let (status, body) = server.get(&path, "").await;
            assert_eq!(status, StatusCode::OK);
            assert!(body.get("membership").is_none());
        }
    }
    let (status, body) = server.get("/_matrix/client/v1/room_summary/!no:localhost", "").await;
    assert_eq!((status.as_u16(), &body["errcode"]), (404, &json!("M_NOT_FOUND")));
}

#[tokio::test]
async fn redacted_rules_go_on_as_rules_in_summaries_lists_and_invitations() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let room = server.room(&alice, "world_readable").await;
    room.set(&alice, ("m.room.name", ""), json!({ "name": "a name" })).await;
    let path = format!("/_matrix/client/v3/directory/list/room/{}", room.id);
    server.put(&path, &alice.token, json!({ "visibility": "public" })).await;
    let state = server.get(&room.path("/state"), &alice.token).await.1;
    for event in state.as_array().unwrap() {
        let redacted = ["m.room.join_rules", "m.room.history_visibility", "m.room.name"];
        if redacted.contains(&event["type"].as_str().unwrap()) {
            let event = event["event_id"].as_str().unwrap().try_into().unwrap();
            room.redact(&alice, &event).await;
        }
    }
    let path = format!("/_matrix/client/v1/room_summary/{}", room.id);
    let (status, summary) = server.get(&path, "").await;
    assert_eq!(status, StatusCode::OK, "{summary}");
    let listed = server.get("/_matrix/client/v3/publicRooms", &bob.token).await.1;
    let walked = walk(&server, &bob, &room, "").await;
    for shown in [&summary, &listed["chunk"][0], &walked["rooms"][0]] {
        // A public rule may be left out of a summary.
        assert!(shown["join_rule"].is_null() || shown["join_rule"] == "public", "{shown}");
        assert_eq!(shown["world_readable"], true, "{shown}");
        assert!(shown["name"].is_null(), "{shown}");
    }
    room.member(&alice, &bob, "invite").await;
    let sync = server.get("/_matrix/client/v3/sync", &bob.token).await.1;
    let stripped = &sync["rooms"]["invite"][room.id.as_str()]["invite_state"]["events"];
    let of_type = |event_type: &str| {
        let events = stripped.as_array().unwrap();
        events.iter().find(|event| event["type"] == event_type).cloned()
    };
    assert_eq!(of_type("m.room.join_rules").unwrap()["content"]["join_rule"], "public");
    assert_eq!(of_type("m.room.name"), None);
}
