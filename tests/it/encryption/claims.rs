//! Claiming one-time keys: each once, the oldest first, then the fallback key.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "the helpers of tests, which clippy does not take for tests"
)]

use std::collections::BTreeSet;

use serde_json::{Value, json};
use wick_harness::{FATES, Options, Strike, TestServer, User};

use super::signer::{ALGORITHM, CLAIM, claim, key, keys, try_claim, upload};

fn id(claimed: &Value) -> String {
    let ids = claimed.as_object().unwrap_or_else(|| panic!("no key: {claimed}"));
    assert_eq!(ids.len(), 1);
    ids.keys().next().unwrap().clone()
}

#[tokio::test]
async fn keys_are_claimed_in_the_order_of_their_uploads() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    for number in [3, 1, 2] {
        upload(&server, &alice, json!({ "one_time_keys": keys([number]) })).await;
    }
    for number in [3, 1, 2] {
        assert_eq!(claim(&server, &bob, &alice).await, keys([number]));
    }
    assert_eq!(claim(&server, &bob, &alice).await, Value::Null);
}

#[tokio::test]
async fn keys_uploaded_between_claims_come_after_all_that_were_there() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    upload(&server, &alice, json!({ "one_time_keys": keys(500..550) })).await;
    assert_eq!(claim(&server, &bob, &alice).await, keys([500]));
    upload(&server, &alice, json!({ "one_time_keys": keys(100..103) })).await;
    for number in (501..550).chain(100..103) {
        assert_eq!(claim(&server, &bob, &alice).await, keys([number]));
    }
    assert_eq!(claim(&server, &bob, &alice).await, Value::Null);
}

#[tokio::test]
async fn what_cannot_be_claimed_is_left_out() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    upload(&server, &alice, json!({ "one_time_keys": keys(0..2) })).await;
    let wanted = json!({
        alice.user_id.as_str(): {
            alice.device_id.as_str(): ALGORITHM, "UNKNOWN": ALGORITHM,
        },
        bob.user_id.as_str(): { bob.device_id.as_str(): ALGORITHM },
        "@nobody:localhost": { "DEVICE": ALGORITHM },
    });
    let (status, body) = server.post(CLAIM, &bob.token, json!({ "one_time_keys": wanted })).await;
    assert_eq!(status.as_u16(), 200);
    let expected = json!({ alice.user_id.as_str(): { alice.device_id.as_str(): keys([0]) } });
    assert_eq!(body["one_time_keys"], expected);
    let wanted = json!({ alice.user_id.as_str(): { alice.device_id.as_str(): "unknown" } });
    let (_, body) = server.post(CLAIM, &bob.token, json!({ "one_time_keys": wanted })).await;
    assert_eq!(body["one_time_keys"], json!({}));
}

#[tokio::test]
async fn a_claim_and_a_query_name_their_failures_although_there_are_none() {
    let server = TestServer::start().await;
    let bob = server.register("bob").await;
    let (_, body) = server.post(CLAIM, &bob.token, json!({ "one_time_keys": {} })).await;
    assert_eq!(body, json!({ "one_time_keys": {}, "failures": {} }));
    let query = "/_matrix/client/v3/keys/query";
    let (_, body) = server.post(query, &bob.token, json!({ "device_keys": {} })).await;
    assert_eq!(body["device_keys"], json!({}));
    assert_eq!(body["failures"], json!({}));
}

#[tokio::test]
async fn the_fallback_key_is_handed_out_again_and_again_once_there_is_no_other() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let both = json!({ "one_time_keys": keys([1]), "fallback_keys": keys([9]) });
    upload(&server, &alice, both).await;
    assert_eq!(claim(&server, &bob, &alice).await, keys([1]));
    for _ in 0..3 {
        assert_eq!(claim(&server, &bob, &alice).await, keys([9]));
    }
    upload(&server, &alice, json!({ "one_time_keys": keys([2]) })).await;
    assert_eq!(claim(&server, &bob, &alice).await, keys([2]));
    upload(&server, &alice, json!({ "fallback_keys": keys([10]) })).await;
    assert_eq!(claim(&server, &bob, &alice).await, keys([10]));
}

#[tokio::test]
async fn a_claimed_key_does_not_come_back_when_its_upload_is_repeated() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    upload(&server, &alice, json!({ "one_time_keys": keys(0..100) })).await;
    let mut claimed = BTreeSet::new();
    for _ in 0..60 {
        assert!(claimed.insert(id(&claim(&server, &bob, &alice).await)));
    }
    let counts = upload(&server, &alice, json!({ "one_time_keys": keys(0..100) })).await;
    assert_eq!(counts, json!({ ALGORITHM: 40 }));
    for _ in 0..40 {
        assert!(claimed.insert(id(&claim(&server, &bob, &alice).await)));
    }
    assert_eq!(claim(&server, &bob, &alice).await, Value::Null);
    // Another key with the id of one that is gone is a new key.
    let new = json!({ format!("{ALGORITHM}:0"): key(1_000) });
    upload(&server, &alice, json!({ "one_time_keys": new })).await;
    assert_eq!(claim(&server, &bob, &alice).await, new);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn claims_at_the_same_time_never_get_the_same_key() {
    const KEYS: usize = 400;
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    upload(&server, &alice, json!({ "one_time_keys": keys(0..KEYS) })).await;
    let claims = (0..KEYS + 50).map(|_| claim(&server, &bob, &alice));
    let claimed = futures_util::future::join_all(claims).await;
    let claimed: Vec<_> = claimed.iter().filter(|key| !key.is_null()).map(id).collect();
    assert_eq!(claimed.len(), KEYS);
    assert_eq!(claimed.iter().collect::<BTreeSet<_>>().len(), KEYS);
    assert_eq!(claim(&server, &bob, &alice).await, Value::Null);
    assert_eq!(upload(&server, &alice, json!({})).await, json!({ ALGORITHM: 0 }));
}

async fn struck() -> (TestServer, std::sync::Arc<Strike>, User, User) {
    let strike = Strike::new();
    let options =
        Options { fault: Some(std::sync::Arc::clone(&strike) as _), ..Options::lenient() };
    let server = TestServer::start_from(options).await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    // Both have been seen: what they do next is the next commit.
    for user in [&alice, &bob] {
        upload(&server, user, json!({})).await;
    }
    (server, strike, alice, bob)
}

#[tokio::test]
async fn a_key_is_claimed_once_whatever_becomes_of_the_commit() {
    for fate in FATES {
        let (mut server, strike, alice, bob) = struck().await;
        upload(&server, &alice, json!({ "one_time_keys": keys([1]), "fallback_keys": keys([9]) }))
            .await;
        strike.at(1, fate);
        let (status, body) = try_claim(&server, &bob, &alice).await;
        assert!(strike.has_struck() && status.as_u16() == 500, "{fate:?}: {body}");
        if fate != wick_database::FaultAction::Fail {
            server.crash().await;
        }
        let taken = fate == wick_database::FaultAction::StopAfter;
        let count = usize::from(!taken);
        assert_eq!(
            upload(&server, &alice, json!({})).await,
            json!({ ALGORITHM: count }),
            "{fate:?}"
        );
        let expected = if taken { keys([9]) } else { keys([1]) };
        assert_eq!(claim(&server, &bob, &alice).await, expected, "{fate:?}");
        assert_eq!(claim(&server, &bob, &alice).await, keys([9]), "{fate:?}");
    }
}

/// One request takes the keys of 100 devices in one commit.
#[tokio::test]
async fn a_claim_that_fails_halfway_answers_with_the_keys_it_took_and_gives_none_twice() {
    for fate in FATES {
        for commit in [1, 2] {
            let (mut server, strike, alice, bob) = struck().await;
            for user in [&alice, &bob] {
                upload(&server, user, json!({ "one_time_keys": keys([1, 2]) })).await;
            }
            let mut devices: Value =
                (1..100).map(|n| (format!("~{n}"), json!(ALGORITHM))).collect();
            devices[alice.device_id.as_str()] = json!(ALGORITHM);
            let wanted = json!({
                alice.user_id.as_str(): devices,
                bob.user_id.as_str(): { bob.device_id.as_str(): ALGORITHM },
            });
            strike.at(commit, fate);
            let body = json!({ "one_time_keys": wanted });
            let (status, body) = server.post(CLAIM, &bob.token, body).await;
            assert!(strike.has_struck(), "{fate:?} at {commit}");
            if fate != wick_database::FaultAction::Fail {
                server.crash().await;
            }
            let answered = &body["one_time_keys"][alice.user_id.as_str()];
            let answered = &answered[alice.device_id.as_str()];
            let is_lost = fate == wick_database::FaultAction::StopAfter;
            let next = |is_taken: bool| if is_taken { keys([2]) } else { keys([1]) };
            if commit == 1 {
                assert_eq!(status.as_u16(), 500, "{fate:?}: {body}");
                assert_eq!(claim(&server, &bob, &alice).await, next(is_lost), "{fate:?}");
                assert_eq!(claim(&server, &bob, &bob).await, next(false), "{fate:?}");
            } else {
                assert_eq!((status.as_u16(), answered), (200, &keys([1])), "{fate:?}: {body}");
                assert!(body["one_time_keys"][bob.user_id.as_str()].is_null(), "{body}");
                assert_eq!(body["failures"]["localhost"]["errcode"], "M_UNKNOWN", "{body}");
                assert_eq!(claim(&server, &bob, &alice).await, next(true), "{fate:?}");
                assert_eq!(claim(&server, &bob, &bob).await, next(is_lost), "{fate:?}");
            }
        }
    }
}

#[tokio::test]
async fn an_upload_is_stored_wholly_or_not_at_all_and_can_be_repeated() {
    for fate in FATES {
        let (mut server, strike, alice, bob) = struck().await;
        let signer = super::signer::Signer::of_device(&alice);
        let body = json!({
            "device_keys": signer.device_keys(&alice), "one_time_keys": keys(0..3),
            "fallback_keys": keys([9]),
        });
        strike.at(1, fate);
        let (status, answer) = server.post(super::signer::UPLOAD, &alice.token, body.clone()).await;
        assert!(strike.has_struck() && status.as_u16() == 500, "{fate:?}: {answer}");
        if fate != wick_database::FaultAction::Fail {
            server.crash().await;
        }
        let is_there = fate == wick_database::FaultAction::StopAfter;
        let shown = super::signer::query(&server, &bob, &[&alice]).await;
        let shown = &shown["device_keys"][alice.user_id.as_str()][alice.device_id.as_str()];
        assert_eq!(shown.is_object(), is_there, "{fate:?}");
        let counts = upload(&server, &alice, json!({})).await;
        assert_eq!(counts, json!({ ALGORITHM: if is_there { 3 } else { 0 } }), "{fate:?}");
        assert_eq!(upload(&server, &alice, body).await, json!({ ALGORITHM: 3 }), "{fate:?}");
        let mut claimed = BTreeSet::new();
        for _ in 0..3 {
            assert!(claimed.insert(id(&claim(&server, &bob, &alice).await)));
        }
        assert_eq!(claim(&server, &bob, &alice).await, keys([9]), "{fate:?}");
    }
}
