//! `GET /sync` over HTTP: rooms by section, timelines, state, waiting for news.

use std::time::Duration;

use serde_json::{Value, json};
use wick_harness::TestServer;

use crate::talk::{
    SYNC, bodies, events, filter, member, members, room, say, set, sync, sync_since, types,
};

#[tokio::test]
async fn a_first_sync_tells_the_newest_events_and_the_state_before_them() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let room_id = room(&server, &alice).await;
    for n in 0..12 {
        say(&server, &room_id, &alice, &n.to_string()).await;
    }
    let first = sync(&server, &alice, "").await;
    let room = &first["rooms"]["join"][room_id.as_str()];
    assert_eq!(bodies(&room["timeline"]), ["2", "3", "4", "5", "6", "7", "8", "9", "10", "11"]);
    assert_eq!(room["timeline"]["limited"], true);
    assert_eq!(
        types(&room["state"]),
        [
            "m.room.create",
            "m.room.member",
            "m.room.power_levels",
            "m.room.join_rules",
            "m.room.history_visibility"
        ]
    );
    assert_eq!(room["summary"]["m.joined_member_count"], 1);
    assert_eq!(first["device_one_time_keys_count"]["signed_curve25519"], 0);
    assert!(first["device_unused_fallback_key_types"].is_array());
    assert_eq!(types(&first["account_data"]), ["m.push_rules"]);

    let second = sync_since(&server, &alice, &first, "").await;
    assert!(second["rooms"].is_null(), "{second}");
    assert_eq!(second["next_batch"], first["next_batch"]);
}

#[tokio::test]
async fn a_later_sync_tells_what_is_new_and_no_more() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let (one, other) = (room(&server, &alice).await, room(&server, &alice).await);
    let first = sync(&server, &alice, "").await;
    assert_eq!(first["rooms"]["join"].as_object().unwrap().len(), 2);
    say(&server, &one, &alice, "new").await;
    let second = sync_since(&server, &alice, &first, "").await;
    assert!(second["rooms"]["join"][other.as_str()].is_null());
    let room = &second["rooms"]["join"][one.as_str()];
    assert_eq!(bodies(&room["timeline"]), ["new"]);
    assert_eq!(room["timeline"]["limited"], false);
    assert_eq!(events(&room["state"]), [] as [Value; 0]);
}

#[tokio::test]
async fn a_gap_is_told_with_the_state_that_changed_in_it() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let room_id = room(&server, &alice).await;
    let first = sync(&server, &alice, "").await;
    set(&server, &room_id, &alice, ("m.room.topic", ""), json!({ "topic": "in the gap" })).await;
    for n in 0..15 {
        say(&server, &room_id, &alice, &n.to_string()).await;
    }
    let second = sync_since(&server, &alice, &first, "").await;
    let room = &second["rooms"]["join"][room_id.as_str()];
    assert_eq!(room["timeline"]["limited"], true);
    assert_eq!(events(&room["timeline"]).len(), 10);
    assert_eq!(types(&room["state"]), ["m.room.topic"]);
}

#[tokio::test]
async fn state_that_the_timelines_filter_leaves_out_is_told_as_state() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let room_id = room(&server, &alice).await;
    let first = sync(&server, &alice, "").await;
    say(&server, &room_id, &alice, "before").await;
    set(&server, &room_id, &alice, ("m.room.topic", ""), json!({ "topic": "new" })).await;
    say(&server, &room_id, &alice, "after").await;
    let messages = filter(&json!({ "room": { "timeline": { "types": ["m.room.message"] } } }));
    let second = sync_since(&server, &alice, &first, &format!("&{messages}")).await;
    let room = &second["rooms"]["join"][room_id.as_str()];
    assert_eq!(bodies(&room["timeline"]), ["before", "after"]);
    assert_eq!(types(&room["state"]), ["m.room.topic"]);
}

#[tokio::test]
async fn a_waiting_sync_is_told_of_a_message_at_once() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let room_id = room(&server, &alice).await;
    let first = sync(&server, &alice, "").await;
    let waiting = sync_since(&server, &alice, &first, "&timeout=30000");
    let saying = async {
        tokio::task::yield_now().await;
        say(&server, &room_id, &alice, "hello").await;
    };
    let (second, ()) = tokio::join!(waiting, saying);
    assert_eq!(bodies(&second["rooms"]["join"][room_id.as_str()]["timeline"]), ["hello"]);
}

#[tokio::test]
async fn a_waiting_sync_without_news_ends_when_its_time_is_over() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    room(&server, &alice).await;
    let first = sync(&server, &alice, "").await;
    let waiting = sync_since(&server, &alice, &first, "&timeout=30000");
    let (second, ()) = tokio::join!(waiting, server.clock.advance(Duration::from_secs(31)));
    assert!(second["rooms"].is_null(), "{second}");
}

#[tokio::test]
async fn a_waiting_sync_is_released_when_the_server_stops() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let first = sync(&server, &alice, "").await;
    let waiting = sync_since(&server, &alice, &first, "&timeout=30000");
    let stopping = async { server.services().supervisor.stopping().cancel() };
    let (second, ()) = tokio::join!(waiting, stopping);
    assert_eq!(second["next_batch"], first["next_batch"]);
}

#[tokio::test]
async fn a_room_that_the_user_joins_comes_whole_and_wakes_them() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room_id = room(&server, &alice).await;
    say(&server, &room_id, &alice, "before").await;
    let first = sync(&server, &bob, "").await;
    let waiting = sync_since(&server, &bob, &first, "&timeout=30000");
    let joining = async {
        tokio::task::yield_now().await;
        member(&server, &room_id, &bob, &bob, "join").await;
    };
    let (second, ()) = tokio::join!(waiting, joining);
    let room = &second["rooms"]["join"][room_id.as_str()];
    assert_eq!(bodies(&room["timeline"]), ["before"]);
    assert_eq!(room["timeline"]["limited"], true);
    assert_eq!(members(&room["timeline"]), ["@alice:localhost", "@bob:localhost"]);
    assert_eq!(room["summary"]["m.heroes"], json!(["@alice:localhost"]));
}

#[tokio::test]
async fn an_invite_is_told_with_what_the_room_is_and_not_again() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room_id = room(&server, &alice).await;
    set(&server, &room_id, &alice, ("m.room.name", ""), json!({ "name": "the room" })).await;
    let first = sync(&server, &bob, "").await;
    member(&server, &room_id, &alice, &bob, "invite").await;
    let second = sync_since(&server, &bob, &first, "").await;
    let invite = &second["rooms"]["invite"][room_id.as_str()]["invite_state"];
    let told = types(invite);
    assert!(told.contains(&"m.room.name") && told.contains(&"m.room.create"), "{invite}");
    assert_eq!(members(invite), ["@alice:localhost", "@bob:localhost"]);
    assert!(sync_since(&server, &bob, &second, "").await["rooms"].is_null());
    let anew = sync(&server, &bob, "").await;
    assert!(anew["rooms"]["invite"][room_id.as_str()].is_object());
    assert!(anew["rooms"]["join"].is_null());
}

fn encryption() -> Value {
    json!({ "algorithm": "m.megolm.v1.aes-sha2" })
}

#[tokio::test]
async fn a_rejected_invite_is_told_as_left_and_tells_nothing_of_the_room() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room_id = room(&server, &alice).await;
    set(&server, &room_id, &alice, ("m.room.encryption", ""), encryption()).await;
    member(&server, &room_id, &alice, &bob, "invite").await;
    say(&server, &room_id, &alice, "not for bob").await;
    let first = sync(&server, &bob, "").await;
    member(&server, &room_id, &bob, &bob, "leave").await;
    say(&server, &room_id, &alice, "not for bob either").await;
    let second = sync_since(&server, &bob, &first, "").await;
    let room = &second["rooms"]["leave"][room_id.as_str()];
    assert_eq!(members(&room["timeline"]), ["@bob:localhost"]);
    assert_eq!(events(&room["timeline"]).len(), 1);
    assert_eq!(events(&room["state"]), [] as [Value; 0]);
    // Nothing else in the answer is about the room or its members.
    let mut rest = second.clone();
    rest["rooms"]["leave"].as_object_mut().unwrap().remove(room_id.as_str());
    for told in [alice.user_id.as_str(), room_id.as_str()] {
        assert!(!rest.to_string().contains(told), "{rest}");
    }
}

#[tokio::test]
async fn a_room_that_was_left_is_told_up_to_the_leave_and_then_no_more() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room_id = room(&server, &alice).await;
    member(&server, &room_id, &bob, &bob, "join").await;
    let first = sync(&server, &bob, "").await;
    say(&server, &room_id, &alice, "before").await;
    member(&server, &room_id, &bob, &bob, "leave").await;
    say(&server, &room_id, &alice, "after").await;
    let second = sync_since(&server, &bob, &first, "").await;
    let room = &second["rooms"]["leave"][room_id.as_str()];
    assert_eq!(types(&room["timeline"]), ["m.room.message", "m.room.member"]);
    assert_eq!(bodies(&room["timeline"]), ["before"]);
    assert!(room["unread_notifications"].is_null());
    say(&server, &room_id, &alice, "long after").await;
    assert!(sync_since(&server, &bob, &second, "").await["rooms"].is_null());
    assert!(sync(&server, &bob, "").await["rooms"].is_null());
    let with_left = filter(&json!({ "room": { "include_leave": true } }));
    let anew = sync(&server, &bob, &format!("?{with_left}")).await;
    let room = &anew["rooms"]["leave"][room_id.as_str()];
    assert_eq!(bodies(&room["timeline"]), ["before"]);
}

#[tokio::test]
async fn a_token_that_is_none_is_refused() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    for query in ["?since=", "?since=x", "?since=s-1", "?since=s1_", "?filter=nonsense"] {
        let (status, body) = server.get(&format!("{SYNC}{query}"), &alice.token).await;
        assert_eq!(
            (status.as_u16(), &body["errcode"]),
            (400, &json!("M_INVALID_PARAM")),
            "{query}"
        );
    }
}

#[tokio::test]
async fn whose_devices_to_ask_for_is_told_of_those_who_come_and_those_who_go() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let (room_id, other) = (room(&server, &alice).await, room(&server, &alice).await);
    for id in [&room_id, &other] {
        set(&server, id, &alice, ("m.room.encryption", ""), encryption()).await;
    }
    let told = |sync: &Value| sync.get("device_lists").cloned();
    let bob_only = json!(["@bob:localhost"]);
    let first = sync(&server, &alice, "").await;
    for id in [&room_id, &other] {
        member(&server, id, &bob, &bob, "join").await;
    }
    let second = sync_since(&server, &alice, &first, "").await;
    assert_eq!(told(&second), Some(json!({ "changed": bob_only, "left": [] })));
    member(&server, &room_id, &bob, &bob, "leave").await;
    let third = sync_since(&server, &alice, &second, "").await;
    assert_eq!(told(&third), Some(json!({ "changed": [], "left": [] })));
    member(&server, &other, &bob, &bob, "leave").await;
    for since in [&second, &third] {
        let fourth = sync_since(&server, &alice, since, "").await;
        assert_eq!(told(&fourth), Some(json!({ "changed": [], "left": bob_only })));
    }
}
