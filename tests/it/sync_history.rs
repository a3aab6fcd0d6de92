//! What a sync shows of rooms that its user left, came back to, or sees through a filter: state and timeline
//! together are the room's state, and nothing of what happened while the user was outside is in them.

#![expect(clippy::unwrap_used, reason = "what a test asks for is there")]

use std::collections::BTreeMap;

use ruma::{OwnedRoomId, RoomId};
use serde_json::{Value, json};
use wick_harness::{TestServer, User};

use crate::talk::{
    bodies, events, filter, joined, member, members, room, say, set, sync, sync_since,
};

type State = BTreeMap<(String, String), Value>;

/// The state a client ends with that applies the state and then the timeline to what it had.
fn apply(state: &mut State, update: &Value) {
    for event in events(&update["state"]).iter().chain(events(&update["timeline"])) {
        if let Some(state_key) = event["state_key"].as_str() {
            let key = (event["type"].as_str().unwrap().to_owned(), state_key.to_owned());
            state.insert(key, event["content"].clone());
        }
    }
}

/// The state of a joined user's room, by the server's answer.
async fn actual(server: &TestServer, user: &User, room_id: &RoomId) -> State {
    let path = format!("/_matrix/client/v3/rooms/{room_id}/state");
    let (_, body) = server.get(&path, &user.token).await;
    let mut state = State::new();
    for event in body.as_array().unwrap() {
        let text = |key: &str| event[key].as_str().unwrap().to_owned();
        state.insert((text("type"), text("state_key")), event["content"].clone());
    }
    state
}

async fn topic(server: &TestServer, room_id: &RoomId, by: &User, topic: &str) {
    set(server, room_id, by, ("m.room.topic", ""), json!({ "topic": topic })).await;
}

async fn history(server: &TestServer, room_id: &RoomId, by: &User, visibility: &str) {
    let content = json!({ "history_visibility": visibility });
    set(server, room_id, by, ("m.room.history_visibility", ""), content).await;
}

#[tokio::test]
async fn state_and_timeline_are_the_rooms_state_after_coming_back() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    for visibility in ["joined", "invited", "shared"] {
        let room_id = room(&server, &alice).await;
        history(&server, &room_id, &alice, visibility).await;
        let before = sync(&server, &bob, "").await;
        member(&server, &room_id, &bob, &bob, "join").await;
        let inside = sync_since(&server, &bob, &before, "").await;
        topic(&server, &room_id, &alice, "one").await;
        let named = json!({ "membership": "join", "displayname": "first" });
        set(&server, &room_id, &alice, ("m.room.member", "@alice:localhost"), named).await;
        member(&server, &room_id, &bob, &bob, "leave").await;
        topic(&server, &room_id, &alice, "two").await;
        let named = json!({ "membership": "join", "displayname": "second" });
        set(&server, &room_id, &alice, ("m.room.member", "@alice:localhost"), named).await;
        member(&server, &room_id, &bob, &bob, "join").await;
        let wanted = actual(&server, &bob, &room_id).await;
        for since in [None, Some(&before), Some(&inside)] {
            for limit in [1, 2, 3, 5, 50] {
                let wanting = filter(&json!({ "room": { "timeline": { "limit": limit } } }));
                let told = match since {
                    None => sync(&server, &bob, &format!("?{wanting}")).await,
                    Some(since) => sync_since(&server, &bob, since, &format!("&{wanting}")).await,
                };
                let mut state = State::new();
                if since == Some(&inside) {
                    apply(&mut state, joined(&inside, &room_id));
                }
                apply(&mut state, joined(&told, &room_id));
                assert_eq!(state, wanted, "{visibility}, limit {limit}: {told}");
            }
        }
    }
}

#[tokio::test]
async fn state_and_timeline_are_the_rooms_state_through_a_filter() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room_id = room(&server, &alice).await;
    let levels = json!({ "users": { "@alice:localhost": 100, "@bob:localhost": 100 } });
    set(&server, &room_id, &alice, ("m.room.power_levels", ""), levels).await;
    member(&server, &room_id, &bob, &bob, "join").await;
    let first = sync(&server, &bob, "").await;
    topic(&server, &room_id, &bob, "by bob").await;
    say(&server, &room_id, &bob, "between").await;
    topic(&server, &room_id, &alice, "by alice").await;
    say(&server, &room_id, &bob, "after").await;
    let wanted = actual(&server, &bob, &room_id).await;
    for timeline in [
        json!({ "not_senders": ["@alice:localhost"] }),
        json!({ "not_senders": ["@bob:localhost"] }),
        json!({ "types": ["m.room.message"] }),
        json!({ "types": ["m.room.message"], "limit": 1 }),
    ] {
        let filter = filter(&json!({ "room": { "timeline": timeline } }));
        let mut state = State::new();
        apply(&mut state, joined(&first, &room_id));
        let told = sync_since(&server, &bob, &first, &format!("&{filter}")).await;
        apply(&mut state, joined(&told, &room_id));
        assert_eq!(state, wanted, "{timeline}: {told}");
        let mut state = State::new();
        apply(&mut state, joined(&sync(&server, &bob, &format!("?{filter}")).await, &room_id));
        assert_eq!(state, wanted, "{timeline}");
    }
}

#[tokio::test]
async fn lazily_loaded_senders_come_as_state_when_the_timeline_leaves_member_events_out() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room_id = room(&server, &alice).await;
    let lazily = filter(&json!({ "room": {
        "state": { "lazy_load_members": true },
        "timeline": { "types": ["m.room.message"] },
    } }));
    let before = sync(&server, &bob, &format!("?{lazily}")).await;
    say(&server, &room_id, &alice, "before they came").await;
    member(&server, &room_id, &bob, &bob, "join").await;
    let carol = server.register("carol").await;
    member(&server, &room_id, &carol, &carol, "join").await;
    say(&server, &room_id, &carol, "from carol").await;
    for told in [
        sync(&server, &bob, &format!("?{lazily}")).await,
        sync_since(&server, &bob, &before, &format!("&{lazily}")).await,
    ] {
        let told = joined(&told, &room_id);
        assert_eq!(bodies(&told["timeline"]), ["before they came", "from carol"]);
        let members = members(&told["state"]);
        for needed in ["@alice:localhost", "@bob:localhost", "@carol:localhost"] {
            assert!(members.contains(&needed), "{needed} in {told}");
        }
    }
}

/// A knockable room that bob was in up to his first sync, then left.
async fn left_room(server: &TestServer) -> (User, User, OwnedRoomId, Value) {
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room_id = room(server, &alice).await;
    member(server, &room_id, &bob, &bob, "join").await;
    let inside = sync(server, &bob, "").await;
    member(server, &room_id, &bob, &bob, "leave").await;
    set(server, &room_id, &alice, ("m.room.join_rules", ""), json!({ "join_rule": "knock" })).await;
    (alice, bob, room_id, inside)
}

#[tokio::test]
async fn a_former_member_learns_nothing_of_what_happened_after_their_stay() {
    let server = TestServer::start().await;
    let (alice, bob, room_id, inside) = left_room(&server).await;
    let carol = server.register("carol").await;
    topic(&server, &room_id, &alice, "secret").await;
    member(&server, &room_id, &carol, &carol, "knock").await;
    member(&server, &room_id, &alice, &carol, "invite").await;
    member(&server, &room_id, &carol, &carol, "join").await;
    say(&server, &room_id, &carol, "secret").await;
    for (by, membership) in [(&bob, "knock"), (&bob, "leave"), (&alice, "ban")] {
        member(&server, &room_id, by, &bob, membership).await;
        let told = sync_since(&server, &bob, &inside, "").await;
        // A knock shows the stripped state of any knock.
        let text = told["rooms"]["leave"].to_string() + &told["device_lists"].to_string();
        assert!(!text.contains("secret") && !text.contains("carol"), "{membership}: {told}");
    }
    let told = sync_since(&server, &bob, &inside, "").await;
    let own = &told["rooms"]["leave"][room_id.as_str()]["timeline"];
    let told_of: Vec<_> = events(own).iter().map(|e| e["content"]["membership"].clone()).collect();
    assert_eq!(told_of, ["leave", "knock", "leave", "ban"]);
}

#[tokio::test]
async fn device_lists_name_the_members_one_was_with_and_no_later_ones() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let (carol, dave) = (server.register("carol").await, server.register("dave").await);
    let room_id = room(&server, &alice).await;
    let encryption = json!({ "algorithm": "m.megolm.v1.aes-sha2" });
    set(&server, &room_id, &alice, ("m.room.encryption", ""), encryption).await;
    for user in [&bob, &carol] {
        member(&server, &room_id, user, user, "join").await;
    }
    member(&server, &room_id, &alice, &dave, "invite").await;
    let (of_bob, of_dave) = (sync(&server, &bob, "").await, sync(&server, &dave, "").await);
    member(&server, &room_id, &bob, &bob, "leave").await;
    member(&server, &room_id, &carol, &carol, "leave").await;
    let erin = server.register("erin").await;
    member(&server, &room_id, &erin, &erin, "join").await;
    member(&server, &room_id, &dave, &dave, "leave").await;
    let told = sync_since(&server, &bob, &of_bob, "").await;
    assert_eq!(told["device_lists"]["left"], json!(["@alice:localhost", "@carol:localhost"]));
    let told = sync_since(&server, &dave, &of_dave, "").await;
    assert_eq!(told["device_lists"], json!({ "changed": [], "left": [] }));
}
