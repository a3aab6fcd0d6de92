//! Room membership: inviting, joining, leaving.

use std::sync::Arc;

use serde_json::{Value, json};
use wick_core::config::Rate;
use wick_database::{Fault, FaultAction};
use wick_harness::{Options, Strike, TestServer, User};

use crate::rooms::{act, create, set_state, state, text};

const V3: &str = "/_matrix/client/v3";

fn errcode(body: &Value) -> &str {
    body["errcode"].as_str().unwrap_or_default()
}

async fn refused(server: &TestServer, user: &User, what: (&str, &str), body: Value) -> String {
    let (status, body) = act(server, user, what, body).await;
    assert_eq!(status, 403, "{what:?}: {body}");
    errcode(&body).to_owned()
}

async fn done(server: &TestServer, user: &User, what: (&str, &str), body: Value) {
    let (status, body) = act(server, user, what, body).await;
    assert_eq!(status, 200, "{what:?}: {body}");
}

async fn membership(server: &TestServer, reader: &User, room: &str, user: &User) -> String {
    let path = format!("m.room.member/{}", user.user_id);
    text(&state(server, reader, room, &path).await, "membership")
}

#[tokio::test]
async fn an_invited_user_joins_and_leaves_and_needs_an_invitation_again() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let room = create(&server, &alice, json!({})).await;
    let invite = json!({ "user_id": "@bob:localhost", "reason": "come" });
    assert_eq!(refused(&server, &bob, (&room, "join"), json!({})).await, "M_FORBIDDEN");
    refused(&server, &bob, (&room, "leave"), json!({})).await;
    refused(&server, &bob, (&room, "invite"), invite.clone()).await;
    done(&server, &alice, (&room, "invite"), invite.clone()).await;
    done(&server, &alice, (&room, "invite"), invite.clone()).await;
    let member = state(&server, &alice, &room, "m.room.member/@bob:localhost").await;
    assert_eq!(member, json!({ "membership": "invite", "displayname": "bob", "reason": "come" }));
    done(&server, &bob, (&room, "join"), json!({})).await;
    refused(&server, &alice, (&room, "invite"), invite.clone()).await;
    done(&server, &bob, (&room, "leave"), json!({ "reason": "bye" })).await;
    done(&server, &bob, (&room, "leave"), json!({})).await;
    let member = state(&server, &alice, &room, "m.room.member/@bob:localhost").await;
    assert_eq!(member, json!({ "membership": "leave", "reason": "bye" }));
    refused(&server, &bob, (&room, "join"), json!({})).await;

    done(&server, &alice, (&room, "invite"), invite).await;
    done(&server, &bob, (&room, "leave"), json!({})).await;
    refused(&server, &bob, (&room, "join"), json!({})).await;
    refused(&server, &alice, (&room, "invite"), json!({ "user_id": "@alice:localhost" })).await;
    refused(&server, &alice, (&room, "invite"), json!({ "user_id": "@bob:other.test" })).await;
    let threepid = json!({
        "id_server": "a.test", "id_access_token": "t", "medium": "email", "address": "a@b.test",
    });
    assert_eq!(refused(&server, &alice, (&room, "invite"), threepid).await, "M_THREEPID_DENIED");
}

#[tokio::test]
async fn a_public_room_is_joined_by_id_or_alias_with_any_content() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let body = json!({ "preset": "public_chat", "room_alias_name": "here" });
    let room = create(&server, &alice, body).await;
    for path in
        [format!("join/{room}"), "join/%23here:localhost".to_owned(), format!("rooms/{room}/join")]
    {
        let content = json!({ "foo": "bar", "membership": "ban", "reason": "why not" });
        let (status, body) = server.post(&format!("{V3}/{path}"), &bob.token, content).await;
        assert_eq!((status.as_u16(), body), (200, json!({ "room_id": room })), "{path}");
        let member = state(&server, &alice, &room, "m.room.member/@bob:localhost").await;
        let expected = json!({
            "membership": "join", "displayname": "bob", "foo": "bar", "reason": "why not",
        });
        assert_eq!(member, expected);
        done(&server, &bob, (&room, "leave"), json!({})).await;
    }
    for (path, expected) in [
        ("join/!unknown:localhost", (404, "M_NOT_FOUND")),
        ("join/%23unknown:localhost", (404, "M_NOT_FOUND")),
        ("join/nonsense", (400, "M_INVALID_PARAM")),
        ("rooms/!unknown:localhost/join", (404, "M_NOT_FOUND")),
        ("rooms/!unknown:localhost/leave", (404, "M_NOT_FOUND")),
    ] {
        let (status, body) = server.post(&format!("{V3}/{path}"), &bob.token, json!({})).await;
        assert_eq!((status.as_u16(), errcode(&body)), expected, "{path}");
    }
}

#[tokio::test]
async fn joining_twice_is_joining_once() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let room = create(&server, &alice, json!({ "preset": "public_chat" })).await;
    let member = "m.room.member/@bob:localhost?format=event";
    done(&server, &bob, (&room, "join"), json!({})).await;
    let first = state(&server, &alice, &room, member).await["event_id"].clone();
    done(&server, &bob, (&room, "join"), json!({})).await;
    assert_eq!(state(&server, &alice, &room, member).await["event_id"], first);
}

#[tokio::test]
async fn memberships_are_state_too() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let room = create(&server, &alice, json!({})).await;
    let put = async |user: &User, target: &str, content: Value| {
        let path = format!("m.room.member/{target}");
        set_state(&server, user, (&room, &path), content).await
    };
    let (bob_id, alice_id) = (bob.user_id.as_str(), alice.user_id.as_str());
    assert_eq!(put(&alice, bob_id, json!({ "membership": "invite" })).await.0, 200);
    assert_eq!(membership(&server, &alice, &room, &bob).await, "invite");
    let content = json!({ "membership": "join", "displayname": "Bobby", "extra": true });
    assert_eq!(put(&bob, bob_id, content).await.0, 200);
    let member = state(&server, &alice, &room, &format!("m.room.member/{bob_id}")).await;
    assert_eq!(member, json!({ "membership": "join", "displayname": "Bobby", "extra": true }));
    assert_eq!(put(&bob, alice_id, json!({ "membership": "leave" })).await.0, 403);
    assert_eq!(put(&alice, bob_id, json!({ "membership": "join" })).await.0, 403);
    for (target, content) in [
        (bob_id, json!({})),
        (bob_id, json!({ "membership": 1 })),
        ("nonsense", json!({ "membership": "invite" })),
    ] {
        assert_eq!(put(&alice, target, content).await.0, 400);
    }
    assert_eq!(put(&alice, bob_id, json!({ "membership": "nonsense" })).await.0, 403);
}

#[tokio::test]
async fn who_has_left_reads_the_state_as_they_left_it() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let carol = server.register("carol").await;
    let body = json!({ "preset": "public_chat", "name": "before", "invite": [carol.user_id] });
    let room = create(&server, &alice, body).await;
    done(&server, &bob, (&room, "join"), json!({})).await;
    done(&server, &bob, (&room, "leave"), json!({})).await;
    done(&server, &carol, (&room, "leave"), json!({})).await;
    set_state(&server, &alice, (&room, "m.room.name"), json!({ "name": "after" })).await;
    assert_eq!(state(&server, &bob, &room, "m.room.name").await["name"], "before");
    assert_eq!(membership(&server, &bob, &room, &bob).await, "leave");
    let path = format!("{V3}/rooms/{room}/state");
    let (_, all) = server.get(&path, &bob.token).await;
    let name = all.as_array().unwrap().iter().find(|event| event["type"] == "m.room.name").unwrap();
    assert_eq!(name["content"]["name"], "before");
    assert_eq!(server.get(&path, &carol.token).await.0.as_u16(), 403);
    let visible = json!({ "history_visibility": "world_readable" });
    set_state(&server, &alice, (&room, "m.room.history_visibility"), visible).await;
    assert_eq!(server.get(&path, &carol.token).await.0.as_u16(), 200);
}

#[tokio::test]
async fn kicks_and_bans_need_power_and_somebody_to_hit() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let carol = server.register("carol").await;
    let room = create(&server, &alice, json!({ "preset": "public_chat" })).await;
    let bob_there = json!({ "user_id": bob.user_id, "reason": "because" });
    for what in ["kick", "ban", "unban"] {
        refused(&server, &carol, (&room, what), bob_there.clone()).await;
        refused(&server, &carol, ("!unknown:localhost", what), bob_there.clone()).await;
    }
    refused(&server, &alice, (&room, "kick"), bob_there.clone()).await;
    refused(&server, &alice, (&room, "unban"), bob_there.clone()).await;
    done(&server, &bob, (&room, "join"), json!({})).await;
    done(&server, &carol, (&room, "join"), json!({})).await;
    refused(&server, &carol, (&room, "kick"), bob_there.clone()).await;
    refused(&server, &carol, (&room, "ban"), bob_there.clone()).await;
    done(&server, &alice, (&room, "kick"), bob_there.clone()).await;
    let member = state(&server, &alice, &room, "m.room.member/@bob:localhost").await;
    assert_eq!(member, json!({ "membership": "leave", "reason": "because" }));
    refused(&server, &alice, (&room, "kick"), bob_there.clone()).await;
    done(&server, &bob, (&room, "join"), json!({})).await;
    done(&server, &alice, (&room, "ban"), bob_there.clone()).await;
    refused(&server, &bob, (&room, "join"), json!({})).await;
    refused(&server, &bob, (&room, "leave"), json!({})).await;
    refused(&server, &alice, (&room, "kick"), bob_there.clone()).await;
    refused(&server, &alice, (&room, "invite"), bob_there.clone()).await;
    done(&server, &alice, (&room, "unban"), bob_there).await;
    assert_eq!(membership(&server, &alice, &room, &bob).await, "leave");
    done(&server, &bob, (&room, "join"), json!({})).await;
}

#[tokio::test]
async fn a_room_is_forgotten_once_it_is_left() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let room = create(&server, &alice, json!({ "preset": "public_chat" })).await;
    done(&server, &bob, (&room, "forget"), json!({})).await;
    done(&server, &bob, ("!unknown:localhost", "forget"), json!({})).await;
    done(&server, &bob, (&room, "join"), json!({})).await;
    let (status, body) = act(&server, &bob, (&room, "forget"), json!({})).await;
    assert_eq!((status, errcode(&body)), (400, "M_UNKNOWN"));
    done(&server, &bob, (&room, "leave"), json!({})).await;
    let path = format!("{V3}/rooms/{room}/state");
    assert_eq!(server.get(&path, &bob.token).await.0.as_u16(), 200);
    done(&server, &bob, (&room, "forget"), json!({})).await;
    assert_eq!(server.get(&path, &bob.token).await.0.as_u16(), 403);
    done(&server, &bob, (&room, "join"), json!({})).await;
    assert_eq!(server.get(&path, &bob.token).await.0.as_u16(), 200);
}

#[tokio::test]
async fn who_knocks_is_let_in_or_not() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    for (version, rule) in [("7", "knock"), ("10", "knock_restricted"), ("12", "knock")] {
        let alias = format!("door{version}");
        let body = json!({ "room_version": version, "room_alias_name": alias });
        let room = create(&server, &alice, body).await;
        let knock = async |expected: u16| {
            for name in [&*room, &format!("%23{alias}:localhost")] {
                let path = format!("{V3}/knock/{name}");
                let (status, body) =
                    server.post(&path, &bob.token, json!({ "reason": "knock knock" })).await;
                assert_eq!(status.as_u16(), expected, "{body}");
            }
        };
        knock(403).await;
        let rules = json!({ "join_rule": rule, "allow": [] });
        set_state(&server, &alice, (&room, "m.room.join_rules"), rules).await;
        refused(&server, &bob, (&room, "join"), json!({})).await;
        knock(200).await;
        let member = state(&server, &alice, &room, "m.room.member/@bob:localhost").await;
        let expected =
            json!({ "membership": "knock", "displayname": "bob", "reason": "knock knock" });
        assert_eq!(member, expected);
        done(&server, &bob, (&room, "leave"), json!({})).await;
        knock(200).await;
        done(&server, &alice, (&room, "kick"), json!({ "user_id": bob.user_id })).await;
        knock(200).await;
        done(&server, &alice, (&room, "invite"), json!({ "user_id": bob.user_id })).await;
        knock(403).await;
        done(&server, &bob, (&room, "join"), json!({})).await;
        knock(403).await;
        done(&server, &alice, (&room, "ban"), json!({ "user_id": bob.user_id })).await;
        knock(403).await;
    }
    let (status, body) =
        server.post(&format!("{V3}/knock/!unknown:localhost"), &bob.token, Value::Null).await;
    assert_eq!((status.as_u16(), errcode(&body)), (404, "M_NOT_FOUND"));
}

#[tokio::test]
async fn members_of_one_room_may_join_another_that_allows_it() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    for (version, rule) in [
        ("8", "restricted"),
        ("10", "knock_restricted"),
        ("11", "restricted"),
        ("12", "restricted"),
    ] {
        let space = create(&server, &alice, json!({ "preset": "public_chat" })).await;
        let allow = json!([
            { "type": "org.example.nonsense", "room_id": space },
            { "type": "m.room_membership" },
            "nonsense",
            { "type": "m.room_membership", "room_id": space },
        ]);
        let rules = json!({ "join_rule": rule, "allow": allow });
        let body = json!({
            "room_version": version,
            "initial_state": [{ "type": "m.room.join_rules", "content": rules }],
        });
        let room = create(&server, &alice, body).await;
        assert_eq!(refused(&server, &bob, (&room, "join"), json!({})).await, "M_FORBIDDEN");
        done(&server, &bob, (&space, "join"), json!({})).await;
        let sly = json!({ "join_authorised_via_users_server": "@bob:localhost" });
        done(&server, &bob, (&room, "join"), sly).await;
        let member = state(&server, &bob, &room, "m.room.member/@bob:localhost").await;
        assert_eq!(member["join_authorised_via_users_server"], "@alice:localhost");
        done(&server, &bob, (&room, "join"), json!({})).await;
        done(&server, &bob, (&room, "leave"), json!({})).await;
        done(&server, &bob, (&space, "leave"), json!({})).await;
        refused(&server, &bob, (&room, "join"), json!({})).await;
        done(&server, &alice, (&room, "invite"), json!({ "user_id": bob.user_id })).await;
        done(&server, &bob, (&room, "join"), json!({})).await;
    }
}

#[tokio::test]
async fn whoever_has_the_power_lets_others_in_when_the_creator_is_gone() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let carol = server.register("carol").await;
    for version in ["11", "12"] {
        let space = create(&server, &alice, json!({ "preset": "public_chat" })).await;
        let allow = json!([{ "type": "m.room_membership", "room_id": space }]);
        let rules = json!({ "join_rule": "restricted", "allow": allow });
        let mut users = json!({ "@bob:localhost": 60 });
        if version == "11" {
            users["@alice:localhost"] = json!(100);
        }
        let body = json!({
            "room_version": version, "invite": [bob.user_id],
            "initial_state": [{ "type": "m.room.join_rules", "content": rules }],
            "power_level_content_override": { "users": users, "invite": 50 },
        });
        let room = create(&server, &alice, body).await;
        done(&server, &bob, (&room, "join"), json!({})).await;
        done(&server, &alice, (&room, "leave"), json!({})).await;
        done(&server, &carol, (&space, "join"), json!({})).await;
        done(&server, &carol, (&room, "join"), json!({})).await;
        let member = state(&server, &bob, &room, "m.room.member/@carol:localhost").await;
        assert_eq!(member["join_authorised_via_users_server"], "@bob:localhost");
        done(&server, &carol, (&room, "leave"), json!({})).await;
        done(&server, &bob, (&room, "leave"), json!({})).await;
        refused(&server, &carol, (&room, "join"), json!({})).await;
    }
}

/// A server where a user may invite two at once and join two rooms at once, and send one message.
async fn strict() -> TestServer {
    strict_with(None).await
}

async fn strict_with(fault: Option<Arc<dyn Fault>>) -> TestServer {
    let mut options = Options { fault, ..Options::lenient() };
    let limits = &mut options.config.limits;
    limits.enabled = true;
    let rate = |burst| Rate { per_second: 0.01, burst };
    limits.invites = rate(2);
    limits.joins = rate(2);
    limits.messages = rate(1);
    TestServer::start_from(options).await
}

#[tokio::test]
async fn a_membership_that_is_set_again_after_a_conflict_counts_once() {
    let strike = Strike::new();
    let server = strict_with(Some(strike.clone())).await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let (_, body) = server.post("/_matrix/client/v3/createRoom", &alice.token, json!({})).await;
    let invite = format!("/_matrix/client/v3/rooms/{}/invite", body["room_id"].as_str().unwrap());
    let mut invited = Vec::new();
    for name in ["carol", "dave", "eve"] {
        strike.at(1, FaultAction::Conflict);
        let body = json!({ "user_id": format!("@{name}:localhost") });
        invited.push(server.post(&invite, &alice.token, body).await.0.as_u16());
    }
    assert_eq!(invited, [200, 200, 429]);

    let mut joined = Vec::new();
    for _ in 0..3 {
        let body = json!({ "preset": "public_chat" });
        let (_, body) = server.post("/_matrix/client/v3/createRoom", &alice.token, body).await;
        strike.at(1, FaultAction::Conflict);
        let room = body["room_id"].as_str().unwrap();
        let join = format!("/_matrix/client/v3/join/{room}");
        joined.push(server.post(&join, &bob.token, json!({})).await.0.as_u16());
    }
    assert_eq!(joined, [200, 200, 429]);
}

#[tokio::test]
async fn invitations_count_as_such_by_whichever_endpoint_they_are_made() {
    let server = strict().await;
    let alice = server.register("alice").await;
    let mut others = Vec::new();
    for name in ["bob", "carol", "dave"] {
        others.push(server.register(name).await.user_id);
    }
    let create = async |invite: &[ruma::OwnedUserId]| {
        let body = json!({ "invite": invite });
        server.post("/_matrix/client/v3/createRoom", &alice.token, body).await
    };
    let (status, body) = create(&others).await;
    assert_eq!((status.as_u16(), &body["errcode"]), (429, &json!("M_LIMIT_EXCEEDED")), "{body}");
    let (status, body) = create(&others[..1]).await;
    assert_eq!(status.as_u16(), 200, "{body}");
    let room = format!("/_matrix/client/v3/rooms/{}", body["room_id"].as_str().unwrap());
    let path = format!("{room}/state/m.room.member/{}", others[1]);
    let (status, body) = server.put(&path, &alice.token, json!({ "membership": "invite" })).await;
    assert_eq!(status.as_u16(), 200, "{body}");
    let path = format!("{room}/state/m.room.member/{}", others[2]);
    let (status, _) = server.put(&path, &alice.token, json!({ "membership": "invite" })).await;
    assert_eq!(status.as_u16(), 429);
    let body = json!({ "user_id": others[2] });
    let (status, _) = server.post(&format!("{room}/invite"), &alice.token, body).await;
    assert_eq!(status.as_u16(), 429);
    // None of them was a message.
    let path = format!("{room}/send/m.room.message/1");
    assert_eq!(server.put(&path, &alice.token, json!({})).await.0.as_u16(), 200);
}

#[tokio::test]
async fn joins_count_as_such_by_whichever_endpoint_they_are_made() {
    let server = strict().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let mut rooms = Vec::new();
    for _ in 0..3 {
        let body = json!({ "preset": "public_chat" });
        let (_, body) = server.post("/_matrix/client/v3/createRoom", &alice.token, body).await;
        rooms.push(format!("/_matrix/client/v3/rooms/{}", body["room_id"].as_str().unwrap()));
    }
    let by_state = async |room: &str| {
        let path = format!("{room}/state/m.room.member/{}", bob.user_id);
        server.put(&path, &bob.token, json!({ "membership": "join" })).await.0.as_u16()
    };
    assert_eq!(by_state(&rooms[0]).await, 200);
    let (status, _) = server.post(&format!("{}/join", rooms[1]), &bob.token, json!({})).await;
    assert_eq!(status.as_u16(), 200);
    assert_eq!(by_state(&rooms[2]).await, 429);
    let (status, _) = server.post(&format!("{}/join", rooms[2]), &bob.token, json!({})).await;
    assert_eq!(status.as_u16(), 429);
    // Leaving is always possible.
    for room in &rooms[..2] {
        let (status, _) = server.post(&format!("{room}/leave"), &bob.token, json!({})).await;
        assert_eq!(status.as_u16(), 200);
    }
}
