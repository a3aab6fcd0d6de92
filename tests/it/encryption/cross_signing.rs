//! Cross-signing keys and the signatures that are added to keys.

#![expect(
    clippy::indexing_slicing,
    reason = "the helpers of tests, which clippy does not take for tests"
)]

use std::sync::Arc;

use http::{Method, StatusCode};
use serde_json::{Value, json};
use wick_database::FaultAction;
use wick_harness::{FATES, Options, Strike, TestServer, User};

use super::signer::{Signer, query, upload, upload_device_keys};

const UPLOAD: &str = "/_matrix/client/v3/keys/device_signing/upload";
const SIGN: &str = "/_matrix/client/v3/keys/signatures/upload";

/// The three keys of a user.
struct Identity {
    master: Signer,
    self_signing: Signer,
    user_signing: Signer,
}

impl Identity {
    fn new() -> Self {
        let [master, self_signing, user_signing] = [(); 3].map(|()| Signer::of_user());
        Self { master, self_signing, user_signing }
    }

    fn keys(&self, user: &User) -> Value {
        let signed = |signer: &Signer, usage: &str| {
            self.master.sign(user, &signer.cross_signing_key(user, usage))
        };
        json!({
            "master_key": self.master.cross_signing_key(user, "master"),
            "self_signing_key": signed(&self.self_signing, "self_signing"),
            "user_signing_key": signed(&self.user_signing, "user_signing"),
        })
    }

    async fn upload(server: &TestServer, user: &User) -> Self {
        let identity = Self::new();
        let answer = server.post(UPLOAD, &user.token, identity.keys(user)).await;
        assert_eq!(answer, (StatusCode::OK, json!({})));
        identity
    }
}

fn auth(user: &User, session: &Value) -> Value {
    json!({
        "type": "m.login.password", "password": "correct horse battery staple",
        "identifier": { "type": "m.id.user", "user": user.user_id }, "session": session,
    })
}

fn told((status, body): (StatusCode, Value)) -> (u16, String) {
    (status.as_u16(), body["errcode"].as_str().unwrap_or_default().to_owned())
}

async fn sign(server: &TestServer, user: &User, keys: Value) -> Value {
    let (status, body) = server.post(SIGN, &user.token, keys).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    body["failures"].clone()
}

/// The signatures on a shown key that a user made.
fn signatures<'a>(key: &'a Value, by: &User) -> Vec<&'a str> {
    let signatures = key["signatures"][by.user_id.as_str()].as_object();
    signatures.into_iter().flatten().map(|(id, _)| id.as_str()).collect()
}

fn id(signer: &Signer) -> String {
    format!("ed25519:{}", signer.public_key)
}

#[tokio::test]
async fn the_first_keys_need_no_proof_the_same_again_neither_and_others_do() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let first = Identity::new();
    let keys = first.keys(&alice);
    let master = json!({ "master_key": keys["master_key"] });
    for body in [&master, &master] {
        assert_eq!(server.post(UPLOAD, &alice.token, body.clone()).await.0, StatusCode::OK);
    }
    // A key more is a change too.
    let more = json!({ "self_signing_key": keys["self_signing_key"] });
    let (status, challenge) = server.post(UPLOAD, &alice.token, more.clone()).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert_eq!(challenge["flows"], json!([{ "stages": ["m.login.password"] }]));
    let shown = query(&server, &alice, &[&alice]).await;
    assert_eq!(shown["self_signing_keys"], json!({}));
    let mut proven = more.clone();
    proven["auth"] = auth(&alice, &challenge["session"]);
    for _ in 0..2 {
        assert_eq!(server.post(UPLOAD, &alice.token, proven.clone()).await.0, StatusCode::OK);
    }
    assert_eq!(server.post(UPLOAD, &alice.token, more).await.0, StatusCode::OK);

    let second = Identity::new();
    let mut keys = second.keys(&alice);
    let (status, challenge) = server.post(UPLOAD, &alice.token, keys.clone()).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    keys["auth"] = auth(&alice, &challenge["session"]);
    keys["auth"]["password"] = json!("wrong");
    assert_eq!(server.post(UPLOAD, &alice.token, keys.clone()).await.0, StatusCode::UNAUTHORIZED);
    keys["auth"] = auth(&alice, &challenge["session"]);
    assert_eq!(server.post(UPLOAD, &alice.token, keys).await.0, StatusCode::OK);
    let shown = query(&server, &alice, &[&alice]).await;
    assert_eq!(
        shown["master_keys"]["@alice:localhost"]["keys"],
        json!({ id(&second.master): second.master.public_key })
    );
}

#[tokio::test]
async fn a_user_signing_key_is_shown_to_its_user_alone() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let keys = Identity::upload(&server, &alice).await.keys(&alice);
    let own = query(&server, &alice, &[&alice]).await;
    let others = query(&server, &bob, &[&alice]).await;
    for shown in [&own, &others] {
        assert_eq!(shown["master_keys"]["@alice:localhost"]["keys"], keys["master_key"]["keys"]);
        assert_eq!(shown["self_signing_keys"]["@alice:localhost"], keys["self_signing_key"]);
    }
    assert_eq!(own["user_signing_keys"]["@alice:localhost"], keys["user_signing_key"]);
    assert_eq!(others["user_signing_keys"], json!({}));
}

#[tokio::test]
async fn keys_that_make_no_sense_are_refused_and_none_is_stored() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let identity = Identity::new();
    let good = identity.keys(&alice);
    let stranger = Identity::new();
    let with = |field: &str, key: Value| {
        let mut keys = good.clone();
        keys[field] = key;
        keys
    };
    let unsigned = identity.self_signing.cross_signing_key(&alice, "self_signing");
    let badly_signed = stranger.master.sign(&alice, &unsigned);
    let mut two = good["master_key"].clone();
    two["keys"][id(&stranger.master)] = json!(stranger.master.public_key);
    let mut misnamed = good["master_key"].clone();
    misnamed["keys"] = json!({ "ed25519:other": identity.master.public_key });
    let other_usage = identity.master.cross_signing_key(&alice, "self_signing");
    for (body, expected) in [
        (
            with("master_key", identity.master.cross_signing_key(&bob, "master")),
            (400, "M_INVALID_PARAM"),
        ),
        (with("master_key", other_usage), (400, "M_INVALID_PARAM")),
        (with("master_key", two), (400, "M_INVALID_PARAM")),
        (with("master_key", misnamed), (400, "M_INVALID_PARAM")),
        (with("master_key", json!({})), (400, "M_BAD_JSON")),
        (with("self_signing_key", unsigned), (400, "M_INVALID_SIGNATURE")),
        (with("self_signing_key", badly_signed), (400, "M_INVALID_SIGNATURE")),
        (json!({ "self_signing_key": good["self_signing_key"] }), (400, "M_MISSING_PARAM")),
    ] {
        let (status, errcode) = told(server.post(UPLOAD, &alice.token, body.clone()).await);
        assert_eq!((status, &*errcode), expected, "{body}");
    }
    let shown = query(&server, &alice, &[&alice]).await;
    assert_eq!(shown["master_keys"], json!({}));
    assert_eq!(shown["self_signing_keys"], json!({}));
}

#[tokio::test]
async fn a_key_with_the_name_of_a_device_is_forbidden() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let identity = Identity::new();
    let login = json!({
        "type": "m.login.password", "password": "correct horse battery staple",
        "device_id": identity.master.public_key,
        "identifier": { "type": "m.id.user", "user": "alice" },
    });
    server.post("/_matrix/client/v3/login", "", login).await;
    let answer = told(server.post(UPLOAD, &alice.token, identity.keys(&alice)).await);
    assert_eq!(answer, (403, "M_FORBIDDEN".to_owned()));
}

#[tokio::test]
async fn a_device_and_the_master_key_sign_each_other_and_everybody_sees_it() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let device = upload_device_keys(&server, &alice).await;
    let identity = Identity::upload(&server, &alice).await;
    let keys = device.device_keys(&alice);
    let master = identity.master.cross_signing_key(&alice, "master");
    let body = json!({ alice.user_id.as_str(): {
        alice.device_id.as_str(): identity.self_signing.sign(&alice, &keys),
        identity.master.public_key.as_str(): device.sign(&alice, &master),
    }});
    for _ in 0..2 {
        assert_eq!(sign(&server, &alice, body.clone()).await, json!({}));
    }
    let shown = query(&server, &bob, &[&alice]).await;
    let key = &shown["device_keys"]["@alice:localhost"][alice.device_id.as_str()];
    let own = format!("ed25519:{}", alice.device_id);
    let mut expected = [own.clone(), id(&identity.self_signing)];
    expected.sort();
    assert_eq!(signatures(key, &alice), expected);
    assert_eq!(signatures(&shown["master_keys"]["@alice:localhost"], &alice), [own]);
    // The device uploads its keys again: the signature stays.
    upload(&server, &alice, json!({ "device_keys": keys })).await;
    let shown = query(&server, &bob, &[&alice]).await;
    let key = &shown["device_keys"]["@alice:localhost"][alice.device_id.as_str()];
    assert_eq!(signatures(key, &alice), expected);
}

#[tokio::test]
async fn a_signature_on_the_key_of_another_user_is_seen_by_the_signer_alone() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let carol = server.register("carol").await;
    let (of_alice, of_bob) =
        (Identity::upload(&server, &alice).await, Identity::upload(&server, &bob).await);
    let master = of_bob.master.cross_signing_key(&bob, "master");
    let signed = of_alice.user_signing.sign(&alice, &master);
    let body = json!({ bob.user_id.as_str(): { of_bob.master.public_key.as_str(): signed } });
    assert_eq!(sign(&server, &alice, body).await, json!({}));
    for (viewer, expected) in
        [(&alice, vec![id(&of_alice.user_signing)]), (&bob, vec![]), (&carol, vec![])]
    {
        let shown = query(&server, viewer, &[&bob]).await;
        assert_eq!(signatures(&shown["master_keys"]["@bob:localhost"], &alice), expected);
    }
    // A new user-signing key takes the place of the old one.
    let renewed = Identity { user_signing: Signer::of_user(), ..of_alice };
    let mut keys = renewed.keys(&alice);
    keys["auth"] = auth(&alice, &Value::Null);
    assert_eq!(server.post(UPLOAD, &alice.token, keys).await.0, StatusCode::OK);
    let signed = renewed.user_signing.sign(&alice, &master);
    let body = json!({ bob.user_id.as_str(): { of_bob.master.public_key.as_str(): signed } });
    assert_eq!(sign(&server, &alice, body).await, json!({}));
    let shown = query(&server, &alice, &[&bob]).await;
    let seen = signatures(&shown["master_keys"]["@bob:localhost"], &alice);
    assert_eq!(seen, [id(&renewed.user_signing)]);
}

#[tokio::test]
async fn each_signature_that_does_not_fit_fails_by_itself() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let device = upload_device_keys(&server, &alice).await;
    let bobs_device = upload_device_keys(&server, &bob).await;
    let identity = Identity::upload(&server, &alice).await;
    let of_bob = Identity::upload(&server, &bob).await;
    let keys = device.device_keys(&alice);
    let mut altered = keys.clone();
    altered["algorithms"] = json!(["other"]);
    let master = identity.master.cross_signing_key(&alice, "master");
    let bobs_master = of_bob.master.cross_signing_key(&bob, "master");
    let device_id = alice.device_id.as_str();
    let public_key = identity.master.public_key.as_str();
    for (owner, name, signed, expected) in [
        (&alice, device_id, identity.self_signing.sign(&alice, &altered), "M_INVALID_PARAM"),
        (&alice, device_id, identity.user_signing.sign(&alice, &keys), "M_INVALID_SIGNATURE"),
        (&alice, device_id, keys.clone(), "M_INVALID_SIGNATURE"),
        (&alice, device_id, json!([]), "M_BAD_JSON"),
        (&alice, "UNKNOWN", identity.self_signing.sign(&alice, &keys), "M_NOT_FOUND"),
        (&alice, public_key, master.clone(), "M_INVALID_SIGNATURE"),
        (
            &alice,
            public_key,
            Signer::of_device(&alice).sign(&alice, &master),
            "M_INVALID_SIGNATURE",
        ),
        (&alice, public_key, Signer::of_user().sign(&alice, &master), "M_NOT_FOUND"),
        (
            &bob,
            &*of_bob.master.public_key,
            identity.self_signing.sign(&alice, &bobs_master),
            "M_INVALID_SIGNATURE",
        ),
        (
            &bob,
            &*of_bob.master.public_key,
            identity.user_signing.sign(&alice, &master),
            "M_INVALID_PARAM",
        ),
        (
            &bob,
            bob.device_id.as_str(),
            identity.user_signing.sign(&alice, &bobs_device.device_keys(&bob)),
            "M_NOT_FOUND",
        ),
    ] {
        let good = device.sign(&alice, &master);
        let mut body = json!({ owner.user_id.as_str(): { name: signed } });
        if name != public_key {
            body[alice.user_id.as_str()][public_key] = good;
        }
        let failures = sign(&server, &alice, body.clone()).await;
        let failed = &failures[owner.user_id.as_str()][name]["errcode"];
        assert_eq!(failed, expected, "{body}");
        assert_eq!(failures.as_object().unwrap().len(), 1, "{failures}");
    }
    let unknown =
        json!({ "@nobody:localhost": { "KEY": master }, "@far:example.org": { "KEY": {} } });
    let failures = sign(&server, &alice, unknown).await;
    for user in ["@nobody:localhost", "@far:example.org"] {
        assert_eq!(failures[user]["KEY"]["errcode"], "M_NOT_FOUND");
    }
    let shown = query(&server, &alice, &[&alice]).await;
    let key = &shown["device_keys"]["@alice:localhost"][device_id];
    assert_eq!(signatures(key, &alice), [format!("ed25519:{device_id}")]);
    assert_eq!(
        signatures(&shown["master_keys"]["@alice:localhost"], &alice),
        [format!("ed25519:{device_id}")]
    );
}

#[tokio::test]
async fn what_a_replaced_key_signed_goes_with_it() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let device = upload_device_keys(&server, &alice).await;
    let identity = Identity::upload(&server, &alice).await;
    let signed = identity.self_signing.sign(&alice, &device.device_keys(&alice));
    let body = json!({ alice.user_id.as_str(): { alice.device_id.as_str(): signed } });
    assert_eq!(sign(&server, &alice, body).await, json!({}));
    let new = Identity::new();
    let body = json!({
        "master_key": new.master.cross_signing_key(&alice, "master"),
        "auth": auth(&alice, &Value::Null),
    });
    assert_eq!(server.post(UPLOAD, &alice.token, body).await.0, StatusCode::OK);
    let shown = query(&server, &alice, &[&alice]).await;
    let key = &shown["device_keys"]["@alice:localhost"][alice.device_id.as_str()];
    assert_eq!(signatures(key, &alice), [format!("ed25519:{}", alice.device_id)]);
    assert_eq!(shown["self_signing_keys"], json!({}));
    assert_eq!(shown["user_signing_keys"], json!({}));
}

#[tokio::test]
async fn the_signatures_of_a_removed_device_go_with_it() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let other = server.log_in(&alice).await;
    let device = upload_device_keys(&server, &other).await;
    let identity = Identity::upload(&server, &alice).await;
    let master = identity.master.cross_signing_key(&alice, "master");
    let signed = json!({ identity.master.public_key.as_str(): device.sign(&alice, &master) });
    assert_eq!(sign(&server, &other, json!({ alice.user_id.as_str(): signed })).await, json!({}));
    server.post("/_matrix/client/v3/logout", &other.token, json!({})).await;
    let shown = query(&server, &alice, &[&alice]).await;
    assert_eq!(signatures(&shown["master_keys"]["@alice:localhost"], &alice), [""; 0]);
}

#[tokio::test]
async fn a_deactivated_user_has_no_keys() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    upload_device_keys(&server, &alice).await;
    Identity::upload(&server, &alice).await;
    let path = "/_matrix/client/v3/account/deactivate";
    let body = json!({ "auth": auth(&alice, &Value::Null) });
    assert_eq!(server.post(path, &alice.token, body).await.0, StatusCode::OK);
    let shown = query(&server, &bob, &[&alice]).await;
    assert_eq!(shown["device_keys"], json!({ "@alice:localhost": {} }));
    for keys in ["master_keys", "self_signing_keys", "user_signing_keys", "failures"] {
        assert_eq!(shown[keys], json!({}), "{keys}");
    }
}

#[tokio::test]
async fn of_two_first_uploads_at_the_same_time_one_is_stored_whole() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let identities = [(); 4].map(|()| Identity::new());
    let uploads =
        identities.iter().map(|identity| server.post(UPLOAD, &alice.token, identity.keys(&alice)));
    let answers = futures_util::future::join_all(uploads).await;
    let taken: Vec<_> = answers.iter().filter(|(status, _)| *status == StatusCode::OK).collect();
    assert_eq!(taken.len(), 1, "{answers:?}");
    let shown = query(&server, &alice, &[&alice]).await;
    let position = answers.iter().position(|(status, _)| *status == StatusCode::OK).unwrap();
    let keys = identities[position].keys(&alice);
    assert_eq!(shown["self_signing_keys"]["@alice:localhost"], keys["self_signing_key"]);
    assert_eq!(shown["user_signing_keys"]["@alice:localhost"], keys["user_signing_key"]);
}

#[tokio::test]
async fn an_upload_of_cross_signing_keys_and_a_signature_happen_wholly_or_not_at_all() {
    for fate in FATES {
        let strike = Strike::new();
        let options = Options { fault: Some(Arc::clone(&strike) as _), ..Options::lenient() };
        let mut server = TestServer::start_from(options).await;
        let alice = server.register("alice").await;
        let device = upload_device_keys(&server, &alice).await;
        let identity = Identity::new();
        let signed = identity.self_signing.sign(&alice, &device.device_keys(&alice));
        let signed = json!({ alice.user_id.as_str(): { alice.device_id.as_str(): signed } });
        let is_there = fate == FaultAction::StopAfter;
        strike.at(1, fate);
        let (status, body) = server.post(UPLOAD, &alice.token, identity.keys(&alice)).await;
        assert!(strike.has_struck() && status.as_u16() == 500, "{fate:?}: {body}");
        if fate != FaultAction::Fail {
            server.crash().await;
        }
        let shown = query(&server, &alice, &[&alice]).await;
        for keys in ["master_keys", "self_signing_keys", "user_signing_keys"] {
            assert_eq!(shown[keys] != json!({}), is_there, "{fate:?} {keys}");
        }
        let again = server.post(UPLOAD, &alice.token, identity.keys(&alice)).await;
        assert_eq!(again, (StatusCode::OK, json!({})), "{fate:?}");
        assert_eq!(sign(&server, &alice, signed).await, json!({}));
        let shown = query(&server, &alice, &[&alice]).await;
        let key = &shown["device_keys"]["@alice:localhost"][alice.device_id.as_str()];
        assert_eq!(signatures(key, &alice).len(), 2, "{fate:?}");
    }
}

#[tokio::test]
async fn the_paths_of_cross_signing_that_older_clients_use_are_served() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    for path in [
        "unstable/keys/device_signing/upload",
        "unstable/keys/signatures/upload",
        "r0/keys/signatures/upload",
    ] {
        let path = format!("/_matrix/client/{path}");
        let (status, body) = server.request(Method::POST, &path, &alice.token, json!({})).await;
        assert_eq!(status, StatusCode::OK, "{body}");
    }
}
