//! What a new room can begin with.

use serde_json::json;
use wick_harness::TestServer;

use crate::rooms::{create, state};

#[tokio::test]
async fn a_creator_with_a_power_level_is_dropped_from_it_where_no_version_was_named() {
    let server = TestServer::start_with(|config| {
        config.rooms.default_version = ruma::RoomVersionId::V12;
    })
    .await;
    let alice = server.register("alice").await;
    let users = json!({ alice.user_id.as_str(): 100, "@bob:localhost": 50 });
    let levels = json!({ "users": users, "events": { "org.example.call": 0 } });
    let body = json!({ "power_level_content_override": levels });
    let room = create(&server, &alice, body).await;
    let set = state(&server, &alice, &room, "m.room.power_levels").await;
    assert_eq!(set["users"], json!({ "@bob:localhost": 50 }));
    assert_eq!(set["events"], json!({ "org.example.call": 0 }));

    let body = json!({ "power_level_content_override": levels, "room_version": "12" });
    let path = "/_matrix/client/v3/createRoom";
    let (status, body) = server.post(path, &alice.token, body).await;
    assert_eq!((status.as_u16(), &body["errcode"]), (400, &json!("M_BAD_JSON")));
}

#[tokio::test]
async fn a_room_is_made_with_a_hundred_invitations_and_a_hundred_pieces_of_state_at_most() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let invite = |count: usize| -> Vec<_> {
        (0..count).map(|number| format!("@user{number}:localhost")).collect()
    };
    let initial = |count: usize| -> Vec<_> {
        let state = |number| json!({ "type": "org.example", "state_key": number, "content": {} });
        (0..count).map(|number: usize| state(number.to_string())).collect()
    };
    let path = "/_matrix/client/v3/createRoom";
    for (invites, states, expected) in [(100, 100, 200), (101, 0, 400), (0, 101, 400)] {
        let body = json!({
            "preset": "trusted_private_chat", "invite": invite(invites), "initial_state": initial(states),
        });
        let (status, body) = server.post(path, &alice.token, body).await;
        assert_eq!(status.as_u16(), expected, "{invites} {states}: {body}");
        if expected == 400 {
            assert_eq!(body["errcode"], "M_INVALID_PARAM");
        }
    }
}
