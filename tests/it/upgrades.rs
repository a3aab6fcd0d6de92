//! Replacing a room by a new one.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "the helpers of tests, which clippy does not take for tests"
)]

use serde_json::{Value, json};
use wick_database::FaultAction;
use wick_harness::{FATES, Options, Strike, TestServer, User};

use crate::rooms::{act, create, set_state, state, text};

const V3: &str = "/_matrix/client/v3";

async fn upgrade(server: &TestServer, user: &User, room: &str, body: Value) -> String {
    let (status, body) = act(server, user, (room, "upgrade"), body).await;
    assert_eq!(status, 200, "{body}");
    text(&body, "replacement_room")
}

#[tokio::test]
async fn the_new_room_takes_over_what_the_old_one_was() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let mallory = server.register("mallory").await;
    let body = json!({
        "visibility": "public", "room_version": "10", "name": "Name", "topic": "Topic",
        "room_alias_name": "alias", "creation_content": { "type": "m.space", "m.federate": false },
        "initial_state": [
            { "type": "m.space.child", "state_key": "!a:b", "content": { "via": ["b"] } },
            { "type": "m.space.child", "state_key": "!c:d", "content": {} },
            { "type": "org.example", "content": { "a": 1 } },
        ],
    });
    let mut old = create(&server, &alice, body).await;
    act(&server, &bob, (&old, "join"), json!({})).await;
    act(&server, &alice, (&old, "ban"), json!({ "user_id": mallory.user_id })).await;
    for version in ["11", "12"] {
        let levels = state(&server, &alice, &old, "m.room.power_levels").await;
        assert_eq!(
            act(&server, &bob, (&old, "upgrade"), json!({ "new_version": "11" })).await.0,
            403
        );
        let new = upgrade(&server, &alice, &old, json!({ "new_version": version })).await;
        let content = state(&server, &alice, &new, "m.room.create").await;
        assert_eq!(content["room_version"], version);
        assert_eq!(content["type"], "m.space");
        assert_eq!(content["m.federate"], false);
        assert_eq!(content["predecessor"]["room_id"], old);
        assert_eq!(content["predecessor"].get("event_id").is_some(), version == "11");
        let tombstone = state(&server, &alice, &old, "m.room.tombstone").await;
        assert_eq!(tombstone["replacement_room"], new);
        for (path, key, value) in [
            ("m.room.name", "name", json!("Name")),
            ("m.room.topic", "topic", json!("Topic")),
            ("m.room.join_rules", "join_rule", json!("public")),
            ("m.room.canonical_alias", "alias", json!("#alias:localhost")),
            ("m.space.child/!a:b", "via", json!(["b"])),
            ("m.room.member/@mallory:localhost", "membership", json!("ban")),
        ] {
            assert_eq!(state(&server, &alice, &new, path).await[key], value, "{path}");
        }
        for path in ["org.example/", "m.space.child/!c:d"] {
            let path = format!("{V3}/rooms/{new}/state/{path}");
            assert_eq!(server.get(&path, &alice.token).await.0.as_u16(), 404);
        }
        let new_levels = state(&server, &alice, &new, "m.room.power_levels").await;
        if version == "11" {
            assert_eq!(new_levels, levels);
        } else {
            assert_eq!(new_levels["users"], json!({}));
            assert_eq!(new_levels["events"]["m.room.tombstone"], 150);
        }
        let resolved = server.get(&format!("{V3}/directory/room/%23alias:localhost"), "").await.1;
        assert_eq!(resolved["room_id"], new);
        let listed = server.get(&format!("{V3}/publicRooms"), "").await.1;
        assert_eq!(listed["chunk"].as_array().unwrap().len(), 1);
        assert_eq!(listed["chunk"][0]["room_id"], new);
        let old_alias = state(&server, &alice, &old, "m.room.canonical_alias").await;
        assert_eq!(old_alias, json!({}));
        let old_levels = state(&server, &alice, &old, "m.room.power_levels").await;
        assert_eq!(
            (&old_levels["events_default"], &old_levels["invite"]),
            (&json!(50), &json!(50))
        );
        let path = format!("{V3}/rooms/{old}/send/m.room.message/{version}");
        let message = json!({ "msgtype": "m.text", "body": "late" });
        assert_eq!(server.put(&path, &bob.token, message).await.0.as_u16(), 403);
        assert_eq!(act(&server, &mallory, (&new, "join"), json!({})).await.0, 403);
        assert_eq!(act(&server, &bob, (&new, "join"), json!({})).await.0, 200);
        old = new;
    }
    let (status, body) =
        act(&server, &alice, (&old, "upgrade"), json!({ "new_version": "99" })).await;
    assert_eq!((status, text(&body, "errcode").as_str()), (400, "M_UNSUPPORTED_ROOM_VERSION"));
    let unknown = ("!unknown:localhost", "upgrade");
    assert_eq!(act(&server, &alice, unknown, json!({ "new_version": "11" })).await.0, 404);
}

#[tokio::test]
async fn version_12_takes_its_creators_out_of_the_power_levels_and_back() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let body = json!({ "room_version": "11", "preset": "public_chat", "power_level_content_override": {
        "users": { "@alice:localhost": 100, "@bob:localhost": 100, "@carol:localhost": 50 },
    }});
    let old = create(&server, &alice, body).await;
    act(&server, &bob, (&old, "join"), json!({})).await;
    let body = json!({ "new_version": "12", "additional_creators": ["@bob:localhost"] });
    let new = upgrade(&server, &alice, &old, body).await;
    let content = state(&server, &alice, &new, "m.room.create").await;
    assert_eq!(content["additional_creators"], json!(["@bob:localhost"]));
    let levels = state(&server, &alice, &new, "m.room.power_levels").await;
    assert_eq!(levels["users"], json!({ "@carol:localhost": 50 }));

    let newer = upgrade(&server, &alice, &new, json!({ "new_version": "10" })).await;
    let levels = state(&server, &alice, &newer, "m.room.power_levels").await;
    let users = json!({ "@alice:localhost": 100, "@bob:localhost": 100, "@carol:localhost": 50 });
    assert_eq!(levels["users"], users);
}

#[tokio::test]
async fn push_rules_and_tags_follow_into_the_new_room() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    for manual in [false, true] {
        let old = create(&server, &alice, json!({ "preset": "public_chat" })).await;
        act(&server, &bob, (&old, "join"), json!({})).await;
        for user in [&alice, &bob] {
            let path = format!("{V3}/pushrules/global/room/{old}");
            let (status, body) = server.put(&path, &user.token, json!({ "actions": [] })).await;
            assert_eq!(status.as_u16(), 200, "{body}");
            let path = format!("{V3}/user/{}/rooms/{old}/tags/u.x", user.user_id);
            server.put(&path, &user.token, json!({ "order": 0.5 })).await;
        }
        let new = if manual {
            let create_content = json!({ "predecessor": { "room_id": old } });
            let body = json!({ "preset": "public_chat", "creation_content": create_content });
            let new = create(&server, &alice, body).await;
            let content = json!({ "body": "", "replacement_room": new });
            set_state(&server, &alice, (&old, "m.room.tombstone"), content).await;
            new
        } else {
            upgrade(&server, &alice, &old, json!({ "new_version": "11" })).await
        };
        act(&server, &bob, (&new, "join"), json!({})).await;
        for user in [&alice, &bob] {
            let path = format!("{V3}/pushrules/global/room/{new}");
            let (status, body) = server.get(&path, &user.token).await;
            assert_eq!(status.as_u16(), 200, "{body}");
            assert_eq!(body["actions"], json!([]));
            let path = format!("{V3}/user/{}/rooms/{new}/tags", user.user_id);
            let (_, body) = server.get(&path, &user.token).await;
            assert_eq!(body["tags"]["u.x"]["order"], 0.5);
        }
    }
}

#[tokio::test]
async fn what_expires_stays_in_the_old_room() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let old = create(&server, &alice, json!({ "room_version": "11", "name": "Name" })).await;
    let topic = json!({ "topic": "back at ten", "m.will_expire": 60 });
    assert_eq!(set_state(&server, &alice, (&old, "m.room.topic/"), topic).await.0, 200);
    let new = upgrade(&server, &alice, &old, json!({ "new_version": "12" })).await;
    // Nothing would ever end it there.
    let path = format!("{V3}/rooms/{new}/state/m.room.topic");
    assert_eq!(server.get(&path, &alice.token).await.0, 404);
    assert_eq!(state(&server, &alice, &new, "m.room.name").await["name"], "Name");
    assert_eq!(state(&server, &alice, &old, "m.room.topic").await["m.will_expire"], "running");
}

#[tokio::test]
async fn a_direct_chat_stays_one_in_the_new_room() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let old = create(&server, &alice, json!({ "preset": "public_chat" })).await;
    act(&server, &bob, (&old, "join"), json!({})).await;
    let path = |user: &User| format!("{V3}/user/{}/account_data/m.direct", user.user_id);
    for (user, other) in [(&alice, &bob), (&bob, &alice)] {
        let direct =
            json!({ other.user_id.as_str(): [old], "@else:localhost": ["!else:localhost"] });
        assert_eq!(server.put(&path(user), &user.token, direct).await.0, 200);
    }
    let new = upgrade(&server, &alice, &old, json!({ "new_version": "11" })).await;
    act(&server, &bob, (&new, "join"), json!({})).await;
    for (user, other) in [(&alice, &bob), (&bob, &alice)] {
        let expected =
            json!({ other.user_id.as_str(): [old, new], "@else:localhost": ["!else:localhost"] });
        assert_eq!(server.get(&path(user), &user.token).await.1, expected);
    }
}

/// The rooms that replace another by their create events, and the replacement in the old room's tombstone.
async fn replacements(server: &TestServer, user: &User, old: &str) -> (Vec<String>, Value) {
    let (_, joined) = server.get(&format!("{V3}/joined_rooms"), &user.token).await;
    let mut new = Vec::new();
    for room in joined["joined_rooms"].as_array().into_iter().flatten() {
        let room = room.as_str().unwrap();
        let content = state(server, user, room, "m.room.create").await;
        if content["predecessor"]["room_id"] == old {
            new.push(room.to_owned());
        }
    }
    let path = format!("{V3}/rooms/{old}/state/m.room.tombstone");
    let (_, tombstone) = server.get(&path, &user.token).await;
    (new, tombstone["replacement_room"].clone())
}

#[tokio::test]
async fn an_upgrade_is_finished_after_a_failure_or_a_crash_at_any_commit() {
    for fate in FATES {
        for commit in 1..=3 {
            let strike = Strike::new();
            let options = Options { fault: Some(strike.clone()), ..Options::lenient() };
            let mut server = TestServer::start_from(options).await;
            let alice = server.register("alice").await;
            let old = create(&server, &alice, json!({ "preset": "public_chat" })).await;
            let tag = format!("{V3}/user/{}/rooms/{old}/tags/m.favourite", alice.user_id);
            assert_eq!(server.put(&tag, &alice.token, json!({})).await.0, 200);
            strike.at(commit, fate);
            let body = json!({ "new_version": "11" });
            act(&server, &alice, (&old, "upgrade"), body.clone()).await;
            assert!(strike.has_struck(), "{fate:?}: commit {commit} never came");
            if fate == FaultAction::Fail {
                act(&server, &alice, (&old, "upgrade"), body).await;
            } else {
                server.crash().await;
                server.services().rooms.resume().await.unwrap();
            }
            let (new, tombstone) = replacements(&server, &alice, &old).await;
            if commit > 1 || fate == FaultAction::StopAfter || fate == FaultAction::Fail {
                let at = format!("{fate:?} at {commit}: {new:?}");
                assert!(new.iter().any(|new| tombstone == *new), "{at}");
                assert!(new.len() == 1 || (fate, commit) == (FaultAction::Fail, 3), "{at}");
                let new = tombstone.as_str().unwrap();
                let tags = format!("{V3}/user/{}/rooms/{new}/tags", alice.user_id);
                let tags = server.get(&tags, &alice.token).await.1;
                assert!(tags["tags"].get("m.favourite").is_some(), "{at}: {tags}");
            } else {
                assert_eq!((new.len(), tombstone), (0, Value::Null), "{fate:?} at {commit}");
            }
        }
    }
}
