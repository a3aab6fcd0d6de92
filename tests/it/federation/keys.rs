//! Signing keys: this server's published, other servers' fetched, verified and kept, and attested as a notary.

use std::{sync::atomic::Ordering, time::Duration};

use axum::{Router, routing::get};
use http::{Method, Request};
use ruma::{
    CanonicalJsonObject, RoomVersionId,
    signatures::{self, PublicKeyMap, hash_and_sign_event, verify_json},
};
use serde_json::{Value, json};
use wick_harness::{TestNetwork, TestServer};

use super::peer::{Peer, answer, pair, published};

const OWN: &str = "/_matrix/key/v2/server";
const QUERY: &str = "/_matrix/key/v2/query";
const VERSION: (Method, &str) =
    (Method::GET, "/_matrix/federation/v1/query/profile?user_id=%40b%3Aa.test");

/// Whether `server` takes a request of `peer` that is signed with its key.
async fn is_taken(server: &TestServer, peer: &Peer) -> bool {
    let (status, _) = answer(server, peer.signed(VERSION, "a.test", &Value::Null)).await;
    // The user does not exist, which is answered only once the signature is accepted.
    assert!([401, 404].contains(&status), "{status}");
    status == 404
}

/// Checks the signatures of these servers with the keys that an object publishes.
fn is_signed_by(object: &Value, keys: &[(&str, &Value)]) -> bool {
    let set = |of: &Value| {
        let keys = of["verify_keys"].as_object().unwrap().iter();
        keys.map(|(id, key)| (id.clone(), serde_json::from_value(key["key"].clone()).unwrap()))
            .collect()
    };
    let map: PublicKeyMap = keys.iter().map(|(name, of)| ((*name).to_owned(), set(of))).collect();
    let object: CanonicalJsonObject = serde_json::from_value(object.clone()).unwrap();
    verify_json(&map, &object).is_ok()
}

#[tokio::test]
async fn the_servers_own_keys_are_signed_with_themselves_and_valid_for_some_time() {
    let network = TestNetwork::new();
    let server = TestServer::start_from(network.options("a.test")).await;
    let (status, keys) = server.get(OWN, "").await;
    assert_eq!(status, 200);
    assert_eq!(keys["server_name"], "a.test");
    assert!(is_signed_by(&keys, &[("a.test", &keys)]), "{keys}");
    let valid = keys["valid_until_ts"].as_u64().unwrap() - wick_core::Clock::now(&server.clock).0;
    assert!((3_600_000..=7 * 86_400_000).contains(&valid), "{valid}");
}

#[tokio::test]
async fn the_keys_of_a_server_are_fetched_once_and_outlive_a_restart() {
    let network = TestNetwork::new();
    let mut server = TestServer::start_from(network.options("a.test")).await;
    let peer = Peer::join(&network, "b.test").await;
    for _ in 0..3 {
        assert!(is_taken(&server, &peer).await);
    }
    server.restart().await;
    assert!(is_taken(&server, &peer).await);
    assert_eq!(peer.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn keys_that_their_server_did_not_sign_are_refused() {
    let network = TestNetwork::new();
    let server = TestServer::start_from(network.options("a.test")).await;
    let peer = Peer::join(&network, "b.test").await;
    let other = pair("1");
    let forged = published("b.test", &[&peer.key], super::peer::FAR);
    let mut by_other = published("b.test", &[&other], super::peer::FAR);
    by_other["verify_keys"] = forged["verify_keys"].clone();
    let mut unsigned = forged.clone();
    unsigned["signatures"] = json!({});
    let foreign = published("c.test", &[&peer.key], super::peer::FAR);
    for keys in [by_other, unsigned, foreign, json!({}), json!([])] {
        *peer.published.lock().unwrap() = keys.clone();
        server.clock.advance(Duration::from_secs(3600)).await;
        assert!(!is_taken(&server, &peer).await, "{keys}");
    }
    *peer.published.lock().unwrap() = forged;
    server.clock.advance(Duration::from_secs(3600)).await;
    assert!(is_taken(&server, &peer).await);
}

#[tokio::test]
async fn the_id_of_a_key_never_comes_to_mean_another_key() {
    let network = TestNetwork::new();
    let server = TestServer::start_from(network.options("a.test")).await;
    let mut peer = Peer::join(&network, "b.test").await;
    assert!(is_taken(&server, &peer).await);
    let other = pair("1");
    *peer.published.lock().unwrap() = published("b.test", &[&other], super::peer::FAR);
    let first = std::mem::replace(&mut peer.key, other);
    // Far enough that the stored key has to be fetched again.
    server.clock.advance(Duration::from_secs(8 * 86_400)).await;
    assert!(!is_taken(&server, &peer).await);
    peer.key = first;
    let new = pair("2");
    *peer.published.lock().unwrap() = published("b.test", &[&new], super::peer::FAR);
    peer.key = new;
    server.clock.advance(Duration::from_secs(3600)).await;
    assert!(is_taken(&server, &peer).await, "a new key has an id of its own");
}

#[tokio::test]
async fn a_key_that_is_not_valid_any_more_is_asked_for_again() {
    let network = TestNetwork::new();
    let server = TestServer::start_from(network.options("a.test")).await;
    let peer = Peer::join(&network, "b.test").await;
    let now = wick_core::Clock::now(&server.clock).0;
    *peer.published.lock().unwrap() = published("b.test", &[&peer.key], now + 120_000);
    assert!(is_taken(&server, &peer).await);
    server.clock.advance(Duration::from_secs(121)).await;
    assert!(!is_taken(&server, &peer).await);
    assert_eq!(peer.asked.load(Ordering::SeqCst), 2);
    *peer.published.lock().unwrap() = published("b.test", &[&peer.key], now + 600_000);
    assert!(!is_taken(&server, &peer).await, "not asked twice within a minute");
    server.clock.advance(Duration::from_secs(60)).await;
    assert!(is_taken(&server, &peer).await);
}

#[tokio::test]
async fn a_key_server_that_does_not_answer_holds_up_no_other_and_is_given_up_after_ten_seconds() {
    let network = TestNetwork::new();
    let server = TestServer::start_from(network.options("a.test")).await;
    let (silent, peer) =
        (Peer::join(&network, "silent.test").await, Peer::join(&network, "b.test").await);
    let silence = Router::new().route(OWN, get(std::future::pending::<()>));
    network.join("silent.test", silence).await;
    let waiting = is_taken(&server, &silent);
    tokio::pin!(waiting);
    tokio::select! {
        biased;
        _ = &mut waiting => panic!("there is no answer"),
        taken = is_taken(&server, &peer) => assert!(taken),
    }
    let passing = async {
        loop {
            server.clock.advance(Duration::from_secs(1)).await;
        }
    };
    tokio::select! {
        taken = waiting => assert!(!taken),
        () = passing => {}
    }
}

#[tokio::test]
async fn a_notary_attests_what_a_server_signed_and_leaves_out_what_it_does_not_know() {
    let network = TestNetwork::new();
    let server = TestServer::start_from(network.options("a.test")).await;
    let peer = Peer::join(&network, "b.test").await;
    let (_, own) = server.get(OWN, "").await;
    let theirs = peer.published.lock().unwrap().clone();
    let signers = [("a.test", &own), ("b.test", &theirs)];
    let (status, one) = server.get(&format!("{QUERY}/b.test"), "").await;
    assert_eq!(status, 200);
    assert_eq!(one["server_keys"].as_array().unwrap().len(), 1, "{one}");
    assert!(is_signed_by(&one["server_keys"][0], &signers), "{one}");
    let body = json!({ "server_keys": {
        "a.test": {}, "b.test": { "ed25519:1": { "minimum_valid_until_ts": 5 } }, "gone.test": {},
    } });
    let (status, all) = server.post(QUERY, "", body).await;
    assert_eq!(status, 200);
    let all = all["server_keys"].as_array().unwrap().clone();
    assert_eq!(all.len(), 2, "{all:?}");
    assert!(is_signed_by(&all[0], &signers[..1]) && is_signed_by(&all[1], &signers), "{all:?}");
    assert_eq!(peer.asked.load(Ordering::SeqCst), 1, "it is attested from what is stored");
}

#[tokio::test]
async fn a_notary_asks_again_if_what_it_has_is_not_valid_long_enough_and_answers_what_it_has() {
    let network = TestNetwork::new();
    let server = TestServer::start_from(network.options("a.test")).await;
    let peer = Peer::join(&network, "b.test").await;
    server.get(&format!("{QUERY}/b.test"), "").await;
    server.clock.advance(Duration::from_secs(60)).await;
    let until = super::peer::FAR + 1;
    let path = format!("{QUERY}/b.test?minimum_valid_until_ts={until}");
    let (_, answer) = server.get(&path, "").await;
    assert_eq!(answer["server_keys"][0]["server_name"], "b.test");
    assert_eq!(peer.asked.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn the_keys_of_an_event_are_those_that_were_valid_when_it_was_made() {
    let network = TestNetwork::new();
    let server = TestServer::start_from(network.options("a.test")).await;
    let peer = Peer::join(&network, "b.test").await;
    let now = wick_core::Clock::now(&server.clock).0;
    let old = pair("0");
    let mut keys = published("b.test", &[&peer.key], super::peer::FAR);
    keys["old_verify_keys"] = json!({ "ed25519:0": {
        "key": super::peer::public(&old), "expired_ts": now - 1_000,
    } });
    keys["signatures"] = json!({});
    let mut object: CanonicalJsonObject = serde_json::from_value(keys).unwrap();
    signatures::sign_json("b.test", &peer.key, &mut object).unwrap();
    *peer.published.lock().unwrap() = serde_json::to_value(object).unwrap();
    let rules = RoomVersionId::V11.rules().unwrap();
    let event = |key: &signatures::Ed25519KeyPair, at: u64| {
        let mut event: CanonicalJsonObject = serde_json::from_value(json!({
            "type": "m.room.message", "sender": "@b:b.test", "room_id": "!r:b.test", "content": {},
            "origin_server_ts": at, "auth_events": [], "prev_events": [], "depth": 1,
        }))
        .unwrap();
        hash_and_sign_event("b.test", key, &mut event, &rules.redaction).unwrap();
        event
    };
    let events =
        [event(&peer.key, now), event(&old, now - 2_000), event(&old, now), event(&pair("9"), now)];
    let federation = server.services().federation().unwrap();
    let references: Vec<_> = events.iter().collect();
    let keys = federation.keys.for_events(&references, &rules).await.unwrap();
    let verified: Vec<bool> = events
        .iter()
        .zip(&keys)
        .map(|(event, keys)| signatures::verify_event(keys, event, &rules).is_ok())
        .collect();
    assert_eq!(verified, [true, true, false, false]);
    assert_eq!(peer.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn where_federation_is_off_no_endpoint_for_servers_is_there() {
    let server = TestServer::start().await;
    let mut tried = 0;
    for (method, pattern) in wick_api::endpoints() {
        let is_for_servers =
            ["/_matrix/federation/", "/_matrix/key/", "/.well-known/matrix/server"]
                .iter()
                .any(|prefix| pattern.starts_with(prefix));
        if is_for_servers && !pattern.contains("openid") {
            tried += 1;
            let path = pattern.replace(['{', '}'], "");
            let request = Request::builder().method(&method).uri(path).body(Vec::new()).unwrap();
            let (status, body) = answer(&server, request).await;
            let expected = (404, &json!("M_UNRECOGNIZED"));
            assert_eq!((status, &body["errcode"]), expected, "{method} {pattern}");
        }
    }
    assert!(tried >= 9, "{tried}");
    assert!(server.services().federation().is_err());
}

#[tokio::test]
async fn keys_that_their_server_does_not_publish_now_are_had_of_a_trusted_notary_that_signs_them() {
    for is_trusted in [false, true] {
        let network = TestNetwork::new();
        let mut options = network.options("a.test");
        if is_trusted {
            let names = ["dead.test", "notary.test"].map(|name| name.try_into().unwrap());
            options.config.federation.trusted_notaries = names.to_vec();
        }
        let server = TestServer::start_from(options).await;
        let notary = network.start("notary.test").await;
        let peer = Peer::join(&network, "b.test").await;
        assert_eq!(notary.get(&format!("{QUERY}/b.test"), "").await.0, 200);
        *peer.published.lock().unwrap() = json!({});
        assert_eq!(is_taken(&server, &peer).await, is_trusted);
    }
}

#[tokio::test]
async fn keys_of_a_notary_are_refused_unless_both_it_and_their_server_signed_them() {
    let network = TestNetwork::new();
    let mut options = network.options("a.test");
    options.config.federation.trusted_notaries = vec!["notary.test".try_into().unwrap()];
    let server = TestServer::start_from(options).await;
    let peer = Peer::join(&network, "b.test").await;
    let good = std::mem::take(&mut *peer.published.lock().unwrap());
    let answer = std::sync::Arc::new(std::sync::Mutex::new(Value::Null));
    let answered = std::sync::Arc::clone(&answer);
    let query = move || {
        let answered = answered.lock().unwrap().clone();
        async move { axum::Json(json!({ "server_keys": [answered] })) }
    };
    let router = Router::new().route(QUERY, axum::routing::post(query));
    let notary = Peer::join_with(&network, "notary.test", router).await;
    let by_notary = |keys: &Value, key| {
        let mut object: CanonicalJsonObject = serde_json::from_value(keys.clone()).unwrap();
        signatures::sign_json("notary.test", key, &mut object).unwrap();
        serde_json::to_value(object).unwrap()
    };
    let mut unsigned = good.clone();
    unsigned["signatures"] = json!({});
    for (keys, is_good) in [
        (by_notary(&good, &pair("1")), false),
        (by_notary(&unsigned, &notary.key), false),
        (good.clone(), false),
        (by_notary(&good, &notary.key), true),
    ] {
        *answer.lock().unwrap() = keys;
        server.clock.advance(Duration::from_secs(2 * 3600)).await;
        assert_eq!(is_taken(&server, &peer).await, is_good);
    }
}
