//! Users in rooms of other servers: joins, invites, knocks, leaves.

use std::sync::Arc;

use http::Method;
use ruma::RoomVersionId;
use serde_json::{Value, json};
use wick_core::rules;
use wick_database::FaultAction;
use wick_harness::{Strike, TestNetwork, TestRoom, TestServer, User, hang_up_after};

use super::peer::{Peer, answer};
use crate::hang_ups::settle;

/// What every user of the tests has.
const PASSWORD: &str = "correct horse battery staple";

/// Two servers with a user each.
struct Two {
    network: TestNetwork,
    a: TestServer,
    b: TestServer,
    alice: User,
    bob: User,
}

async fn two() -> Two {
    let network = TestNetwork::new();
    let (a, b) = (network.start("a.test").await, network.start("b.test").await);
    let (alice, bob) = (a.register("alice").await, b.register("bob").await);
    Two { network, a, b, alice, bob }
}

impl Two {
    /// A room that only invited users can join.
    async fn closed_room(&self) -> TestRoom<'_> {
        let room = self.a.room(&self.alice, "shared").await;
        room.set(&self.alice, ("m.room.join_rules", ""), json!({ "join_rule": "invite" })).await;
        room
    }

    /// Has the user of the second server join a room by its id, over the first.
    async fn join(&self, room: &TestRoom<'_>) -> (u16, Value) {
        self.join_by(&format!("{}?via=a.test", room.id)).await
    }

    async fn join_by(&self, name: &str) -> (u16, Value) {
        let name = name.replace('#', "%23");
        let path = format!("/_matrix/client/v3/join/{name}");
        let (status, body) = self.b.post(&path, &self.bob.token, json!({})).await;
        (status.as_u16(), body)
    }

    async fn invite(&self, room: &TestRoom<'_>) -> (u16, Value) {
        let body = json!({ "user_id": self.bob.user_id });
        let (status, body) = self.a.post(&room.path("/invite"), &self.alice.token, body).await;
        (status.as_u16(), body)
    }

    /// What the user of the second server has by a sync from `since` on.
    async fn sync(&self, since: &str) -> Value {
        let since = if since.is_empty() { String::new() } else { format!("&since={since}") };
        let path = format!("/_matrix/client/v3/sync?timeout=0{since}");
        let (status, body) = self.b.get(&path, &self.bob.token).await;
        assert_eq!(status, 200, "{body}");
        body
    }

    /// The membership of the second server's user as the first server has it.
    async fn membership(&self, room: &TestRoom<'_>) -> String {
        let path = room.path(&format!("/state/m.room.member/{}", self.bob.user_id));
        let (_, member) = self.a.get(&path, &self.alice.token).await;
        member["membership"].as_str().unwrap_or_default().to_owned()
    }

    async fn leave(&self, room: &TestRoom<'_>) -> u16 {
        self.b.post(&room.path("/leave"), &self.bob.token, json!({})).await.0.as_u16()
    }
}

fn membership_in(events: &Value, user: &User) -> Option<String> {
    let events = events.as_array()?;
    let of_user = |event: &&Value| {
        event["type"] == "m.room.member" && event["state_key"] == user.user_id.as_str()
    };
    let event = events.iter().rev().find(of_user)?;
    Some(event["content"]["membership"].as_str()?.to_owned())
}

#[tokio::test]
async fn a_user_joins_a_public_room_of_another_server_and_sees_its_state() {
    let two = two().await;
    let room = two.a.room(&two.alice, "shared").await;
    room.set(&two.alice, ("m.room.topic", ""), json!({ "topic": "elsewhere" })).await;
    assert_eq!(two.join(&room).await, (200, json!({ "room_id": room.id })));
    let seen = two.sync("").await;
    let joined = &seen["rooms"]["join"][room.id.as_str()];
    assert_eq!(membership_in(&joined["timeline"]["events"], &two.bob).as_deref(), Some("join"));
    assert_eq!(joined["summary"]["m.joined_member_count"], 2, "{joined}");
    let topic = room.path("/state/m.room.topic");
    let (status, topic) = two.b.get(&topic, &two.bob.token).await;
    assert_eq!((status.as_u16(), &topic["topic"]), (200, &json!("elsewhere")));
    let members = room.path("/joined_members");
    let (_, members) = two.a.get(&members, &two.alice.token).await;
    assert!(members["joined"].get(two.bob.user_id.as_str()).is_some(), "{members}");
    // Joining once more changes nothing, and needs nobody.
    assert_eq!(two.join(&room).await.0, 200);
}

#[tokio::test]
async fn a_room_is_joined_by_an_alias_of_another_server() {
    let two = two().await;
    let room = two.a.room(&two.alice, "shared").await;
    let path = "/_matrix/client/v3/directory/room/%23there:a.test";
    let (status, _) = two.a.put(path, &two.alice.token, json!({ "room_id": room.id })).await;
    assert_eq!(status, 200);
    assert_eq!(two.join_by("#there:a.test").await, (200, json!({ "room_id": room.id })));
    let (status, answer) = two.join_by("#nowhere:a.test").await;
    assert_eq!((status, &answer["errcode"]), (404, &json!("M_NOT_FOUND")), "{answer}");
}

#[tokio::test]
async fn a_refused_join_is_refused_for_the_reason_of_the_other_server() {
    let two = two().await;
    let room = two.closed_room().await;
    let (status, answer) = two.join(&room).await;
    assert_eq!((status, &answer["errcode"]), (403, &json!("M_FORBIDDEN")), "{answer}");
    let (status, answer) = two.join_by("!nowhere:a.test?via=a.test").await;
    assert_eq!((status, &answer["errcode"]), (404, &json!("M_NOT_FOUND")), "{answer}");
    let (status, answer) = two.join_by("!nowhere:gone.test").await;
    assert_eq!((status, &answer["errcode"]), (502, &json!("M_UNKNOWN")), "{answer}");
    let (status, answer) = two.join_by("!nowhere:b.test").await;
    assert_eq!((status, &answer["errcode"]), (404, &json!("M_NOT_FOUND")), "{answer}");
}

#[tokio::test]
async fn an_invited_user_of_another_server_sees_the_invite_and_joins_by_it() {
    let two = two().await;
    let room = two.closed_room().await;
    room.set(&two.alice, ("m.room.name", ""), json!({ "name": "A secret" })).await;
    let since = two.sync("").await["next_batch"].as_str().unwrap().to_owned();
    assert_eq!(two.invite(&room).await, (200, json!({})));
    let seen = two.sync(&since).await;
    let state = &seen["rooms"]["invite"][room.id.as_str()]["invite_state"]["events"];
    assert_eq!(membership_in(state, &two.bob).as_deref(), Some("invite"), "{seen}");
    let name = state.as_array().unwrap().iter().find(|event| event["type"] == "m.room.name");
    assert_eq!(name.unwrap()["content"]["name"], "A secret");
    // Without a server in the request: that of the inviter is known.
    assert_eq!(two.join_by(room.id.as_str()).await, (200, json!({ "room_id": room.id })));
    let seen = two.sync("").await;
    assert!(seen["rooms"]["join"].get(room.id.as_str()).is_some(), "{seen}");
    assert!(seen["rooms"]["invite"].get(room.id.as_str()).is_none(), "{seen}");
}

#[tokio::test]
async fn an_invite_is_rejected_at_the_inviters_server() {
    let two = two().await;
    let room = two.closed_room().await;
    reject(&two, &room).await;
    assert_eq!(two.membership(&room).await, "leave");
    let forgotten = two.b.post(&room.path("/forget"), &two.bob.token, json!({})).await;
    assert_eq!(forgotten.0, 200);
}

/// Has the invited user reject an invite, and checks what that user sees.
async fn reject(two: &Two, room: &TestRoom<'_>) {
    if two.sync("").await["rooms"]["invite"].get(room.id.as_str()).is_none() {
        assert_eq!(two.invite(room).await.0, 200);
    }
    let seen = two.sync("").await;
    assert!(seen["rooms"]["invite"].get(room.id.as_str()).is_some(), "{seen}");
    assert_eq!(two.leave(room).await, 200);
    let since = seen["next_batch"].as_str().unwrap();
    let seen = two.sync(since).await;
    let left = &seen["rooms"]["leave"][room.id.as_str()]["timeline"]["events"];
    assert_eq!(membership_in(left, &two.bob).as_deref(), Some("leave"), "{seen}");
    let seen = two.sync("").await;
    assert!(seen["rooms"]["invite"].get(room.id.as_str()).is_none(), "{seen}");
}

/// A member event of a room that is nowhere, sent and signed by a server that does nothing else.
fn member_event(peer: &Peer, of: &User, membership: &str) -> (String, Value) {
    member_event_by("mallory", peer, of, membership)
}

fn member_event_by(by: &str, peer: &Peer, of: &User, membership: &str) -> (String, Value) {
    let name = &peer.name;
    let event = json!({
        "type": "m.room.member", "room_id": format!("!nowhere:{name}"),
        "sender": format!("@{by}:{name}"), "state_key": of.user_id,
        "content": { "membership": membership }, "depth": 7, "origin_server_ts": 1_000_000,
        "auth_events": ["$auth"], "prev_events": ["$prev"],
    });
    let mut event = serde_json::from_value(event).unwrap();
    let rules = RoomVersionId::V11.rules().unwrap();
    let id = rules::hash_and_sign(&mut event, &rules, name, &peer.key).unwrap();
    (id.to_string(), serde_json::to_value(event).unwrap())
}

async fn invite_by(peer: &Peer, two: &Two, event: &(String, Value)) -> (u16, Value) {
    let (id, event) = event;
    let room = event["room_id"].as_str().unwrap();
    let path = format!("/_matrix/federation/v2/invite/{room}/{id}");
    let body = json!({ "room_version": "11", "event": event, "invite_room_state": [
        { "type": "m.room.name", "state_key": "", "sender": "@mallory:c.test",
          "content": { "name": "Nowhere" } }] });
    answer(&two.b, peer.signed((Method::PUT, &path), "b.test", &body)).await
}

#[tokio::test]
async fn an_invite_is_rejected_although_the_inviters_server_does_not_help() {
    let two = two().await;
    let peer = Peer::join(&two.network, "c.test").await;
    let invite = member_event(&peer, &two.bob, "invite");
    let (status, signed) = invite_by(&peer, &two, &invite).await;
    assert_eq!(status, 200, "{signed}");
    let signatures = &signed["event"]["signatures"];
    assert!(signatures.get("b.test").is_some() && signatures.get("c.test").is_some(), "{signed}");
    let seen = two.sync("").await;
    let state = &seen["rooms"]["invite"]["!nowhere:c.test"]["invite_state"]["events"];
    assert_eq!(membership_in(state, &two.bob).as_deref(), Some("invite"), "{seen}");
    let path = "/_matrix/client/v3/rooms/!nowhere:c.test/leave";
    assert_eq!(two.b.post(path, &two.bob.token, json!({})).await.0, 200);
    let seen = two.sync(seen["next_batch"].as_str().unwrap()).await;
    let left = &seen["rooms"]["leave"]["!nowhere:c.test"]["timeline"]["events"];
    assert_eq!(membership_in(left, &two.bob).as_deref(), Some("leave"), "{seen}");
    let seen = two.sync("").await;
    assert!(seen["rooms"]["invite"].get("!nowhere:c.test").is_none(), "{seen}");
    assert!(seen["rooms"]["leave"].get("!nowhere:c.test").is_none(), "{seen}");
    // A first sync shows rooms that were left if its filter wants them.
    let path = "/_matrix/client/v3/sync?filter=%7B%22room%22:%7B%22include_leave%22:true%7D%7D";
    let seen = two.b.get(path, &two.bob.token).await.1;
    let left = &seen["rooms"]["leave"]["!nowhere:c.test"]["timeline"]["events"];
    assert_eq!(membership_in(left, &two.bob).as_deref(), Some("leave"), "{seen}");
    let forget = "/_matrix/client/v3/rooms/!nowhere:c.test/forget";
    assert_eq!(two.b.post(forget, &two.bob.token, json!({})).await.0, 200);
    let seen = two.b.get(path, &two.bob.token).await.1;
    assert!(seen["rooms"]["leave"].get("!nowhere:c.test").is_none(), "{seen}");
}

#[tokio::test]
async fn an_invite_is_gone_once_the_inviter_and_nobody_else_takes_it_back() {
    let two = two().await;
    let peer = Peer::join(&two.network, "c.test").await;
    let invite = member_event(&peer, &two.bob, "invite");
    assert_eq!(invite_by(&peer, &two, &invite).await.0, 200);
    let stranger = Peer::join(&two.network, "d.test").await;
    let (_, leave) = member_event(&peer, &two.bob, "leave");
    let (_, of_another) = member_event_by("eve", &peer, &two.bob, "leave");
    let mut forged = leave.clone();
    forged["content"]["reason"] = json!("forged");
    forged["signatures"] = json!({ "d.test": { "ed25519:1": "AAAA" } });
    let tries = [(&stranger, forged, false), (&peer, of_another, false), (&peer, leave, true)];
    for (transaction, (server, leave, is_gone)) in tries.into_iter().enumerate() {
        let body = json!({ "origin": server.name, "origin_server_ts": 1, "pdus": [leave] });
        let path = format!("/_matrix/federation/v1/send/{transaction}");
        let (status, _) =
            answer(&two.b, server.signed((Method::PUT, &path), "b.test", &body)).await;
        assert_eq!(status, 200);
        let seen = two.sync("").await;
        assert_eq!(seen["rooms"]["invite"].get("!nowhere:c.test").is_none(), is_gone, "{seen}");
    }
}

#[tokio::test]
async fn a_forged_invite_is_refused_and_not_shown() {
    let two = two().await;
    let peer = Peer::join(&two.network, "c.test").await;
    let (id, event) = member_event(&peer, &two.bob, "invite");
    let mut unsigned = event.clone();
    unsigned["signatures"] = json!({});
    let mut of_another = event.clone();
    of_another["state_key"] = json!("@carol:b.test");
    for forged in [unsigned, of_another] {
        let (status, answer) = invite_by(&peer, &two, &(id.clone(), forged)).await;
        assert!(status == 403 || status == 400, "{status} {answer}");
    }
    let other = member_event(&peer, &two.bob, "join");
    assert_eq!(invite_by(&peer, &two, &other).await.0, 400);
    assert!(two.sync("").await["rooms"].get("invite").is_none());
}

#[tokio::test]
async fn a_deactivated_user_has_no_invites_left() {
    let two = two().await;
    let room = two.closed_room().await;
    assert_eq!(two.invite(&room).await.0, 200);
    let body = json!({ "auth": {
        "type": "m.login.password", "password": PASSWORD,
        "identifier": { "type": "m.id.user", "user": "bob" },
    } });
    let path = "/_matrix/client/v3/account/deactivate";
    let (status, body) = two.b.post(path, &two.bob.token, body).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(two.membership(&room).await, "leave");
}

#[tokio::test]
async fn an_invite_of_a_user_that_does_not_exist_is_refused_and_not_part_of_the_room() {
    let two = two().await;
    let room = two.closed_room().await;
    let body = json!({ "user_id": "@nobody:b.test" });
    let (status, answer) = two.a.post(&room.path("/invite"), &two.alice.token, body).await;
    assert_eq!((status.as_u16(), &answer["errcode"]), (404, &json!("M_NOT_FOUND")), "{answer}");
    let path = room.path("/state/m.room.member/@nobody:b.test");
    assert_eq!(two.a.get(&path, &two.alice.token).await.0, 404);
}

#[tokio::test]
async fn a_new_room_invites_users_of_other_servers() {
    let two = two().await;
    let body = json!({ "invite": [two.bob.user_id], "is_direct": true });
    let path = "/_matrix/client/v3/createRoom";
    let (status, created) = two.a.post(path, &two.alice.token, body).await;
    assert_eq!(status, 200, "{created}");
    let seen = two.sync("").await;
    let room = created["room_id"].as_str().unwrap();
    let state = &seen["rooms"]["invite"][room]["invite_state"]["events"];
    let invite = state.as_array().unwrap().iter().find(|event| {
        event["type"] == "m.room.member" && event["state_key"] == two.bob.user_id.as_str()
    });
    assert_eq!(invite.unwrap()["content"]["is_direct"], true, "{seen}");
}

#[tokio::test]
async fn a_new_room_invites_users_of_other_servers_though_its_client_hangs_up() {
    let two = two().await;
    let body = json!({ "invite": [two.bob.user_id] });
    for polls in 1.. {
        let tasks = two.a.idle_tasks().await;
        let path = "/_matrix/client/v3/createRoom";
        let create = two.a.post(path, &two.alice.token, body.clone());
        let answer = hang_up_after(polls, create).await;
        settle(&two.a, tasks).await;
        let (_, made) = two.a.get("/_matrix/client/v3/joined_rooms", &two.alice.token).await;
        let made = made["joined_rooms"].as_array().map(Vec::len);
        let seen = two.sync("").await;
        let invites = seen["rooms"]["invite"].as_object().map_or(0, serde_json::Map::len);
        assert_eq!(Some(invites), made, "after {polls} polls");
        if answer.is_some() {
            break;
        }
    }
}

#[tokio::test]
async fn a_user_knocks_on_a_room_of_another_server_and_is_let_in() {
    let two = two().await;
    let room = two.closed_room().await;
    room.set(&two.alice, ("m.room.join_rules", ""), json!({ "join_rule": "knock" })).await;
    room.set(&two.alice, ("m.room.name", ""), json!({ "name": "Knock first" })).await;
    let path = format!("/_matrix/client/v3/knock/{}?via=a.test", room.id);
    let (status, answer) = two.b.post(&path, &two.bob.token, json!({ "reason": "please" })).await;
    assert_eq!(status, 200, "{answer}");
    let seen = two.sync("").await;
    let state = &seen["rooms"]["knock"][room.id.as_str()]["knock_state"]["events"];
    assert_eq!(membership_in(state, &two.bob).as_deref(), Some("knock"), "{seen}");
    assert!(state.to_string().contains("Knock first"));
    assert_eq!(two.invite(&room).await.0, 200);
    let seen = two.sync("").await;
    assert!(seen["rooms"]["invite"].get(room.id.as_str()).is_some(), "{seen}");
    assert!(seen["rooms"]["knock"].get(room.id.as_str()).is_none(), "{seen}");
    assert_eq!(two.join_by(room.id.as_str()).await.0, 200);
}

#[tokio::test]
async fn a_knock_on_a_room_of_another_server_is_retracted() {
    let two = two().await;
    let room = two.closed_room().await;
    room.set(&two.alice, ("m.room.join_rules", ""), json!({ "join_rule": "knock" })).await;
    let path = format!("/_matrix/client/v3/knock/{}?via=a.test", room.id);
    assert_eq!(two.b.post(&path, &two.bob.token, json!({})).await.0, 200);
    assert_eq!(two.leave(&room).await, 200);
    let seen = two.sync("").await;
    assert!(seen["rooms"]["knock"].get(room.id.as_str()).is_none(), "{seen}");
    assert_eq!(two.membership(&room).await, "leave");
}

#[tokio::test]
async fn members_of_an_allowed_room_join_a_restricted_room_of_another_server() {
    let two = two().await;
    let allowed = two.a.room(&two.alice, "shared").await;
    let room = two.closed_room().await;
    let rules = json!({ "join_rule": "restricted",
        "allow": [{ "type": "m.room_membership", "room_id": allowed.id }] });
    room.set(&two.alice, ("m.room.join_rules", ""), rules).await;
    let (status, answer) = two.join(&room).await;
    assert_eq!((status, &answer["errcode"]), (403, &json!("M_FORBIDDEN")), "{answer}");
    assert_eq!(two.join(&allowed).await.0, 200);
    let (status, answer) = two.join(&room).await;
    assert_eq!(status, 200, "{answer}");
    let path = room.path(&format!("/state/m.room.member/{}", two.bob.user_id));
    let (_, member) = two.b.get(&path, &two.bob.token).await;
    assert_eq!(member["join_authorised_via_users_server"], two.alice.user_id.as_str());
}

#[tokio::test]
async fn the_directory_and_the_profiles_of_another_server_are_shown() {
    let two = two().await;
    let room = two.a.room(&two.alice, "shared").await;
    let listed = format!("/_matrix/client/v3/directory/list/room/{}", room.id);
    two.a.put(&listed, &two.alice.token, json!({ "visibility": "public" })).await;
    let (status, page) =
        two.b.get("/_matrix/client/v3/publicRooms?server=a.test", &two.bob.token).await;
    assert_eq!(status, 200, "{page}");
    assert_eq!(page["chunk"][0]["room_id"], room.id.as_str(), "{page}");
    let name = json!({ "displayname": "Alice" });
    let path = "/_matrix/client/v3/profile/@alice:a.test/displayname";
    two.a.put(path, &two.alice.token, name.clone()).await;
    let (status, shown) = two.b.get(path, &two.bob.token).await;
    assert_eq!((status.as_u16(), shown), (200, name));
    let (status, _) = two.b.get("/_matrix/client/v3/profile/@no:a.test", &two.bob.token).await;
    assert_eq!(status, 404);
}

/// Two servers, the second of which fails the commit that the strike names.
async fn two_of_which_one_fails() -> (Two, Arc<Strike>) {
    let (network, strike) = (TestNetwork::new(), Strike::new());
    let mut options = network.options("b.test");
    options.fault = Some(Arc::clone(&strike) as _);
    let (a, b) = (network.start("a.test").await, TestServer::start_from(options).await);
    network.join("b.test", b.router()).await;
    let (alice, bob) = (a.register("alice").await, b.register("bob").await);
    (Two { network, a, b, alice, bob }, strike)
}

/// More commits than any of these use cases has.
const MANY_COMMITS: u64 = 40;

#[tokio::test]
async fn a_join_over_another_server_can_be_repeated_whichever_commit_of_it_fails() {
    let (two, strike) = two_of_which_one_fails().await;
    for number in 1..MANY_COMMITS {
        let room = two.a.room(&two.alice, "shared").await;
        strike.at(number, FaultAction::Fail);
        let (status, _) = two.join(&room).await;
        let has_struck = strike.has_struck();
        if status != 200 {
            assert_eq!(two.join(&room).await.0, 200, "after commit {number} failed");
        }
        let seen = two.sync("").await;
        let joined = &seen["rooms"]["join"][room.id.as_str()];
        assert_eq!(joined["summary"]["m.joined_member_count"], 2, "commit {number}: {joined}");
        if !has_struck {
            assert!(number > 3, "a join is several commits");
            return;
        }
    }
    panic!("a join has no end");
}

#[tokio::test]
async fn a_rejection_can_be_repeated_whichever_commit_of_it_fails() {
    let (two, strike) = two_of_which_one_fails().await;
    for number in 1..MANY_COMMITS {
        let room = two.closed_room().await;
        assert_eq!(two.invite(&room).await.0, 200);
        strike.at(number, FaultAction::Fail);
        let status = two.leave(&room).await;
        let has_struck = strike.has_struck();
        if status != 200 {
            assert_eq!(two.leave(&room).await, 200, "after commit {number} failed");
        }
        let seen = two.sync("").await;
        assert!(seen["rooms"]["invite"].get(room.id.as_str()).is_none(), "commit {number}: {seen}");
        assert_eq!(two.membership(&room).await, "leave");
        if !has_struck {
            assert!(number > 1, "a rejection is written");
            return;
        }
    }
    panic!("a rejection has no end");
}
