//! Invites by third-party identifiers: an identity server finds out whose they are, and other servers ask for the invite.

use axum::{Json, Router, routing::put};
use http::Method;
use ruma::{
    CanonicalJsonObject, OwnedRoomId, RoomVersionId,
    signatures::{Ed25519KeyPair, hash_and_sign_event, sign_json},
};
use serde_json::{Value, json};
use tokio::{join, sync::watch};
use wick_core::rules;
use wick_harness::{TestNetwork, TestServer, User};

use super::{
    peer::{answer, pair, public},
    policy::Policed,
    rooms::{BOB, HERE, Rooms, V1, refusal},
    three_servers::Home,
    waiting::until,
};
use crate::talk::sync;

const V3: &str = "/_matrix/client/v3";
const TOKEN: &str = "token";

/// What the identity server signs for a user.
fn signed(key: &Ed25519KeyPair, user: &str) -> Value {
    signed_for(key, user, TOKEN)
}

/// The same for another invite.
fn signed_for(key: &Ed25519KeyPair, user: &str, token: &str) -> Value {
    let what = json!({ "mxid": user, "token": token, "sender": "@alice:a.test" });
    let mut object: CanonicalJsonObject = serde_json::from_value(what).unwrap();
    sign_json("identity.test", key, &mut object).unwrap();
    serde_json::to_value(object).unwrap()
}

/// A private room of a user in which an address is invited.
async fn room_with_invite(server: &TestServer, user: &User, key: &Ed25519KeyPair) -> OwnedRoomId {
    let body = json!({ "preset": "private_chat" });
    let (status, body) = server.post(&format!("{V3}/createRoom"), &user.token, body).await;
    assert_eq!(status, 200, "{body}");
    let room: OwnedRoomId = body["room_id"].as_str().unwrap().try_into().unwrap();
    invite_address(server, (user, &room), key, TOKEN).await;
    room
}

/// Invites an address to a room.
async fn invite_address(
    server: &TestServer,
    (user, room): (&User, &OwnedRoomId),
    key: &Ed25519KeyPair,
    token: &str,
) {
    let valid = "https://identity.test/valid";
    let content = json!({
        "display_name": "b...@example.org", "key_validity_url": valid, "public_key": public(key),
        "public_keys": [{ "key_validity_url": valid, "public_key": public(key) }],
    });
    let path = format!("{V3}/rooms/{room}/state/m.room.third_party_invite/{token}");
    let (status, body) = server.put(&path, &user.token, content).await;
    assert_eq!(status, 200, "{body}");
}

/// Tells a server that an address belongs to a user.
async fn bind(server: &TestServer, user: &str, room: &OwnedRoomId, signed: Value) -> (u16, Value) {
    let address = json!({ "medium": "email", "address": "bob@example.org", "mxid": user });
    let mut invite = address.clone();
    invite["room_id"] = json!(room);
    invite["sender"] = json!("@alice:a.test");
    invite["signed"] = signed;
    let mut body = address;
    body["invites"] = json!([invite]);
    let (status, body) = server.put(&format!("{V1}/3pid/onbind"), "", body).await;
    (status.as_u16(), body)
}

async fn invites(server: &TestServer, user: &User) -> Vec<String> {
    let synced = sync(server, user, "").await;
    let invites = synced["rooms"]["invite"].as_object();
    invites.into_iter().flatten().map(|(room, _)| room.clone()).collect()
}

#[tokio::test]
async fn a_user_whose_address_was_invited_by_another_server_gets_the_invite_and_can_join() {
    let network = TestNetwork::new();
    let a = Home::open(&network, "a.test", "alice").await;
    let b = Home::open(&network, "b.test", "bob").await;
    let key = pair("1");
    let room = room_with_invite(&a.server, &a.user, &key).await;
    let bob = b.user.user_id.as_str();
    // The signature of another key makes no invite.
    let forged = signed(&pair("1"), bob);
    assert_eq!(bind(&b.server, bob, &room, forged).await, (200, json!({})));
    assert_eq!(invites(&b.server, &b.user).await, [""; 0]);

    assert_eq!(bind(&b.server, bob, &room, signed(&key, bob)).await, (200, json!({})));
    assert_eq!(invites(&b.server, &b.user).await, [room.as_str()]);
    let path = format!("rooms/{room}/state/m.room.member/{bob}");
    let member = a.ok(Method::GET, &path, Value::Null).await;
    assert_eq!(member["membership"], "invite");
    assert_eq!(member["third_party_invite"]["display_name"], "b...@example.org");
    b.ok(Method::POST, &format!("join/{room}"), json!({})).await;
    let said = b.say(&room, "thank you").await;
    assert!(said.starts_with('$'));
}

#[tokio::test]
async fn a_user_of_the_inviters_own_server_is_invited_there_unless_they_block_it() {
    let network = TestNetwork::new();
    let a = Home::open(&network, "a.test", "alice").await;
    let key = pair("1");
    let room = room_with_invite(&a.server, &a.user, &key).await;
    let carol = a.server.register("carol").await;
    let id = carol.user_id.as_str();
    let path = format!("{V3}/user/{id}/account_data/m.invite_permission_config");
    for action in ["block", "allow"] {
        assert_eq!(invites(&a.server, &carol).await, [""; 0], "{action}");
        let content = json!({ "default_action": action });
        assert_eq!(a.server.put(&path, &carol.token, content).await.0, 200);
        assert_eq!(bind(&a.server, id, &room, signed(&key, id)).await, (200, json!({})));
    }
    assert_eq!(invites(&a.server, &carol).await, [room.as_str()]);
    // It does not undo a join.
    let join = format!("{V3}/join/{room}");
    assert_eq!(a.server.post(&join, &carol.token, json!({})).await.0, 200);
    assert_eq!(bind(&a.server, id, &room, signed(&key, id)).await, (200, json!({})));
    assert_eq!(invites(&a.server, &carol).await, [""; 0]);
    let (status, body) = bind(&a.server, "@nobody:a.test", &room, signed(&key, id)).await;
    assert_eq!((status, &body["errcode"]), (404, &json!("M_NOT_FOUND")));
    let (status, body) = bind(&a.server, "@bob:b.test", &room, signed(&key, id)).await;
    assert_eq!((status, &body["errcode"]), (404, &json!("M_NOT_FOUND")));
}

#[tokio::test]
async fn a_user_who_has_left_the_room_invites_nobody_there() {
    let network = TestNetwork::new();
    let a = Home::open(&network, "a.test", "alice").await;
    let b = Home::open(&network, "b.test", "bob").await;
    let (carol, dave) = (a.server.register("carol").await, a.server.register("dave").await);
    let key = pair("1");
    let room = room_with_invite(&a.server, &a.user, &key).await;
    for (method, path, user) in [("invite", "invite", &a.user), ("join", "join", &dave)] {
        let path = format!("{V3}/rooms/{room}/{path}");
        let body = if method == "invite" { json!({ "user_id": dave.user_id }) } else { json!({}) };
        assert_eq!(a.server.post(&path, &user.token, body).await.0, 200, "{method}");
    }
    let leave = format!("{V3}/rooms/{room}/leave");
    assert_eq!(a.server.post(&leave, &a.user.token, json!({})).await.0, 200);
    for (server, user) in [(&a.server, &carol), (&b.server, &b.user)] {
        let id = user.user_id.as_str();
        assert_eq!(bind(server, id, &room, signed(&key, id)).await, (200, json!({})));
        assert_eq!(invites(server, user).await, [""; 0], "{id}");
        let path = format!("{V3}/rooms/{room}/state/m.room.member/{id}");
        assert_eq!(a.server.get(&path, &dave.token).await.0, 404, "{id}");
    }
}

#[tokio::test]
async fn an_invite_does_not_undo_a_join_that_came_while_it_was_made() {
    // While the policy server thinks of the invite.
    let policed = Policed::start().await;
    let Rooms { server, alice, .. } = &policed.rooms;
    let key = pair("1");
    invite_address(server, (alice, &policed.room), &key, TOKEN).await;
    let carol = server.register("carol").await;
    let id = carol.user_id.as_str();
    policed.policy.asked();
    let door = policed.policy.door.lock().await;
    let join = async {
        until(|| policed.policy.asked_times() == 1).await;
        // From now on the room does without the policy server.
        policed.rooms.set(&policed.room, "m.room.policy", json!({})).await;
        let path = format!("{V3}/join/{}", policed.room);
        assert_eq!(server.post(&path, &carol.token, json!({})).await.0, 200);
        drop(door);
    };
    let (bound, ()) = join!(bind(server, id, &policed.room, signed(&key, id)), join);
    assert_eq!(bound, (200, json!({})));
    assert_eq!(policed.policy.asked(), ["m.room.member"]);
    let path = format!("{V3}/rooms/{}/state/m.room.member/{id}", policed.room);
    assert_eq!(server.get(&path, &alice.token).await.1["membership"], "join");
}

#[tokio::test]
async fn an_invite_does_not_undo_a_join_of_a_user_of_another_server_that_came_while_it_was_signed()
{
    let (arrive, mut arrived) = watch::channel(false);
    let (release, released) = watch::channel(false);
    let sign = move |Json(invite): Json<Value>| {
        arrive.send_replace(true);
        let mut released = released.clone();
        async move {
            released.wait_for(|is_released| *is_released).await.unwrap();
            let rules = rules::version_rules(&RoomVersionId::V11).unwrap();
            let mut event: CanonicalJsonObject =
                serde_json::from_value(invite["event"].clone()).unwrap();
            hash_and_sign_event("b.test", &pair("1"), &mut event, &rules.redaction).unwrap();
            Json(json!({ "event": event }))
        }
    };
    let invites = "/_matrix/federation/v2/invite/{room}/{event}";
    let rooms = Rooms::start_with(Router::new().route(invites, put(sign)), |_| {}).await;
    let room = rooms.public().await;
    let key = pair("1");
    invite_address(&rooms.server, (&rooms.alice, &room), &key, TOKEN).await;
    let invite = json!({
        "type": "m.room.member", "room_id": room, "sender": "@alice:a.test", "state_key": BOB,
        "content": {
            "membership": "invite",
            "third_party_invite": { "display_name": "bob", "signed": signed(&key, BOB) },
        },
    });
    let path = format!("{V1}/exchange_third_party_invite/{room}");
    let join = async {
        arrived.wait_for(|has_arrived| *has_arrived).await.unwrap();
        rooms.join(&room).await;
        release.send_replace(true);
    };
    let (exchanged, ()) = join!(rooms.ask((Method::PUT, &path), &invite), join);
    assert_eq!(refusal(exchanged), json!([403, "M_FORBIDDEN"]));
    let path = format!("{V3}/rooms/{room}/state/m.room.member/{BOB}");
    assert_eq!(rooms.server.get(&path, &rooms.alice.token).await.1["membership"], "join");
}

#[tokio::test]
async fn what_was_signed_for_a_user_makes_one_invite_whatever_became_of_it() {
    let network = TestNetwork::new();
    let a = Home::open(&network, "a.test", "alice").await;
    let b = Home::open(&network, "b.test", "bob").await;
    let carol = a.server.register("carol").await;
    let key = pair("1");
    let room = room_with_invite(&a.server, &a.user, &key).await;
    for (server, user) in [(&a.server, &carol), (&b.server, &b.user)] {
        let id = user.user_id.as_str();
        let leave = async || {
            assert_eq!(invites(server, user).await, [room.as_str()], "{id}");
            let path = format!("{V3}/rooms/{room}/leave");
            assert_eq!(server.post(&path, &user.token, json!({})).await.0, 200, "{id}");
        };
        let proof = signed(&key, id);
        assert_eq!(bind(server, id, &room, proof.clone()).await, (200, json!({})));
        leave().await;
        assert_eq!(bind(server, id, &room, proof.clone()).await, (200, json!({})));
        assert_eq!(invites(server, user).await, [""; 0], "{id}");
        // Another invite of the same address counts, and the first one is still spent after it.
        let token = format!("another-{}", user.user_id.localpart());
        invite_address(&a.server, (&a.user, &room), &key, &token).await;
        let another = signed_for(&key, id, &token);
        assert_eq!(bind(server, id, &room, another.clone()).await, (200, json!({})));
        leave().await;
        for proof in [proof, another] {
            assert_eq!(bind(server, id, &room, proof).await, (200, json!({})));
        }
        assert_eq!(invites(server, user).await, [""; 0], "{id}");
        let path = format!("rooms/{room}/state/m.room.member/{id}");
        assert_eq!(a.ok(Method::GET, &path, Value::Null).await["membership"], "leave");
    }
}

#[tokio::test]
async fn an_exchange_that_is_not_proven_or_not_asked_of_the_inviters_server_is_refused() {
    let rooms = Rooms::start().await;
    let key = pair("1");
    let room = room_with_invite(&rooms.server, &rooms.alice, &key).await;
    let (alice, bob) = ("@alice:a.test", "@bob:b.test");
    let proof = signed(&key, bob);
    let mut of_another_token = proof.clone();
    of_another_token["token"] = json!("other");
    let invite = |sender: &str, signed: &Value| {
        json!({
            "type": "m.room.member", "room_id": room, "sender": sender, "state_key": bob,
            "content": {
                "membership": "invite",
                "third_party_invite": { "display_name": "bob", "signed": signed },
            },
        })
    };
    let mut join = invite(alice, &proof);
    join["content"]["membership"] = json!("join");
    let mut topic = invite(alice, &proof);
    topic["type"] = json!("m.room.topic");
    let path = format!("{V1}/exchange_third_party_invite/{room}");
    for (body, refused) in [
        (invite(alice, &signed(&pair("1"), bob)), (403, "M_FORBIDDEN")),
        (invite(alice, &signed(&key, "@other:b.test")), (403, "M_FORBIDDEN")),
        (invite(alice, &of_another_token), (403, "M_FORBIDDEN")),
        (invite(alice, &json!({})), (403, "M_FORBIDDEN")),
        (invite(alice, &json!([])), (400, "M_BAD_JSON")),
        (invite("@dave:a.test", &proof), (403, "M_FORBIDDEN")),
        (invite(bob, &proof), (403, "M_FORBIDDEN")),
        (join, (400, "M_BAD_JSON")),
        (topic, (400, "M_BAD_JSON")),
    ] {
        let request = rooms.peer.signed((Method::PUT, &path), HERE, &body);
        let (status, answered) = answer(&rooms.server, request).await;
        let errcode = answered["errcode"].as_str().unwrap_or_default();
        assert_eq!((status, errcode), refused, "{body}: {answered}");
    }
    let unknown = path.replace(room.as_str(), "!unknown:a.test");
    let request = rooms.peer.signed((Method::PUT, &unknown), HERE, &invite(alice, &proof));
    assert_eq!(answer(&rooms.server, request).await.0, 404);
}
