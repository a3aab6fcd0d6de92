//! Invites by third-party identifiers: an identity server finds out whose they are, and other servers ask for the invite.

use http::Method;
use ruma::{
    CanonicalJsonObject, OwnedRoomId,
    signatures::{Ed25519KeyPair, sign_json},
};
use serde_json::{Value, json};
use wick_harness::{TestNetwork, TestServer, User};

use super::{
    peer::{answer, pair, public},
    rooms::{HERE, Rooms, V1},
    three_servers::Home,
};
use crate::talk::sync;

const V3: &str = "/_matrix/client/v3";
const TOKEN: &str = "token";

/// What the identity server signs for a user.
fn signed(key: &Ed25519KeyPair, user: &str) -> Value {
    let what = json!({ "mxid": user, "token": TOKEN, "sender": "@alice:a.test" });
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
    let valid = "https://identity.test/valid";
    let content = json!({
        "display_name": "b...@example.org", "key_validity_url": valid, "public_key": public(key),
        "public_keys": [{ "key_validity_url": valid, "public_key": public(key) }],
    });
    let path = format!("{V3}/rooms/{room}/state/m.room.third_party_invite/{TOKEN}");
    let (status, body) = server.put(&path, &user.token, content).await;
    assert_eq!(status, 200, "{body}");
    room
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
