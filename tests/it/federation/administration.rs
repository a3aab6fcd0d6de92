//! What administrators see of other servers, and the replacement of the signing key.

use std::time::Duration;

use axum::Router;
use ruma::{CanonicalJsonObject, RoomVersionId, ServerName, ServerSigningKeyId};
use serde_json::json;
use wick_core::RemoteReason;
use wick_harness::{TestNetwork, TestServer};

use super::{profile, reason};

/// The lines of a check, each with whether it is good.
async fn check(server: &TestServer, name: &str) -> Vec<(bool, String)> {
    let federation = server.services().federation().unwrap();
    let findings = federation.diagnose(&ServerName::parse(name).unwrap()).await.unwrap();
    findings.into_iter().map(|finding| (finding.is_good, finding.line)).collect()
}

/// The one line that is bad; it is the last one.
async fn bad(server: &TestServer, name: &str) -> String {
    let mut findings = check(server, name).await;
    let (is_good, last) = findings.pop().unwrap();
    assert!(!is_good, "{findings:?} {last}");
    assert!(findings.iter().all(|(is_good, _)| *is_good), "{findings:?}");
    last
}

#[tokio::test]
async fn a_check_says_what_was_resolved_connected_and_verified() {
    let network = TestNetwork::new();
    let (server, _other) = (network.start("a.test").await, network.start("b.test").await);
    let findings = check(&server, "b.test").await;
    let expected = [
        "the configuration allows",
        "delegates to no other name",
        "srv records of b.test: b.test:",
        "b.test has the addresses 127.0.0.1",
        "the certificate is good: wick",
        "its signing keys are verified: ed25519:1",
        "it accepts this server's signature",
    ];
    assert_eq!(findings.len(), expected.len(), "{findings:?}");
    for ((is_good, line), expected) in findings.iter().zip(expected) {
        assert!(*is_good && line.contains(expected), "{line}, not {expected}");
    }
}

#[tokio::test]
async fn a_check_ends_with_the_step_that_fails() {
    let network = TestNetwork::new();
    let mut options = network.options("a.test");
    options.config.federation.deny = vec!["denied.test".to_owned()];
    let server = TestServer::start_from(options).await;
    network.join("a.test", server.router()).await;
    assert!(bad(&server, "denied.test").await.contains("forbids"));
    network.set_service("_matrix-fed._tcp.closed.test", &[("closed.test", 9)]);
    assert!(bad(&server, "closed.test").await.contains("no connection"));
    let port = network.serve(&["other.test"], Router::new()).await.port();
    network.set_service("_matrix-fed._tcp.certificate.test", &[("other.test", port)]);
    assert!(bad(&server, "certificate.test").await.contains("certificate"));
    network.join("empty.test", Router::new()).await;
    assert!(bad(&server, "empty.test").await.contains("status 404"));
    let mut options = network.options("b.test");
    options.config.federation.deny = vec!["a.test".to_owned()];
    let b = TestServer::start_from(options).await;
    network.join("b.test", b.router()).await;
    let refused = bad(&server, "b.test").await;
    assert!(refused.contains("refuses a signed request") && refused.contains("401"), "{refused}");
}

#[tokio::test]
async fn destinations_are_listed_with_their_failures_and_can_be_reset() {
    let network = TestNetwork::new();
    let server = TestServer::start_from(network.options("a.test")).await;
    network.set_service("_matrix-fed._tcp.b.test", &[("b.test", 9)]);
    network.join("c.test", Router::new()).await;
    for name in ["b.test", "c.test"] {
        assert!(profile(&server, name, "@x:b.test").await.is_err());
    }
    let listed = server.ask_admin("/federation/destinations").await;
    let listed = listed["destinations"].as_array().unwrap().clone();
    let names: Vec<_> = listed.iter().map(|row| row["server"].clone()).collect();
    assert_eq!(names, ["b.test", "c.test"]);
    assert_eq!((&listed[0]["failures"], &listed[1]["failures"]), (&json!(1), &json!(0)));
    assert!(listed[0]["failure"].as_str().unwrap().contains("no connection"), "{listed:?}");
    assert!(listed[1]["last_success"].is_u64(), "a refusal is an answer: {listed:?}");
    let after = server.ask_admin("/federation/destinations?after=b.test&limit=5").await;
    assert_eq!(after["destinations"].as_array().unwrap().len(), 1);

    assert_eq!(reason(profile(&server, "b.test", "@x:b.test").await), RemoteReason::BackingOff);
    let federation = server.services().federation().unwrap();
    let name = ServerName::parse("b.test").unwrap();
    assert!(federation.reset_destination(&name).await.unwrap());
    assert!(!federation.reset_destination(&name).await.unwrap());
    assert_eq!(reason(profile(&server, "b.test", "@x:b.test").await), RemoteReason::Unreachable);
}

#[tokio::test]
async fn a_new_signing_key_signs_at_once_and_the_former_one_is_published_as_old() {
    let network = TestNetwork::new();
    let (a, b) = (network.start("a.test").await, network.start("b.test").await);
    let status = async || match reason(profile(&a, "b.test", "@x:b.test").await) {
        RemoteReason::Refused { status, .. } => status,
        other => panic!("{other:?}"),
    };
    assert_eq!(status().await, 404, "the signature is good");
    let (_, before) = a.get("/_matrix/key/v2/server", "").await;
    let id = a.services().federation().unwrap().keys.rotate().await.unwrap();
    let (_, after) = a.get("/_matrix/key/v2/server", "").await;
    let current: Vec<_> = after["verify_keys"].as_object().unwrap().keys().collect();
    assert_eq!(current, [&id]);
    let old = &after["old_verify_keys"]["ed25519:1"];
    assert_eq!(old["key"], before["verify_keys"]["ed25519:1"]["key"]);
    assert!(old["expired_ts"].is_u64(), "{after}");
    assert!(after["signatures"]["a.test"].get(&id).is_some(), "{after}");
    // The keys of a server are not fetched twice within a minute.
    b.clock.advance(Duration::from_secs(60)).await;
    assert_eq!(status().await, 404, "the new signature is good");
}

#[tokio::test]
async fn the_former_key_is_good_for_former_events_and_for_no_request() {
    let network = TestNetwork::new();
    let server = TestServer::start_from(network.options("a.test")).await;
    let federation = server.services().federation().unwrap();
    let name = ServerName::parse("a.test").unwrap();
    let id = <&ServerSigningKeyId>::try_from("ed25519:1").unwrap();
    let rules = RoomVersionId::V11.rules().unwrap();
    let now = wick_core::Clock::now(&server.clock).0;
    let event = |at: u64| -> CanonicalJsonObject {
        serde_json::from_value(json!({
            "sender": "@a:a.test", "type": "m.room.message", "content": {}, "origin_server_ts": at,
            "signatures": { "a.test": { "ed25519:1": "" } },
        }))
        .unwrap()
    };
    assert!(federation.keys.for_request(&name, id).await.unwrap().is_some());
    federation.keys.rotate().await.unwrap();
    assert!(federation.keys.for_request(&name, id).await.unwrap().is_none());
    let (former, later) = (event(now), event(now + 10_000));
    let keys = federation.keys.for_events(&[&former, &later], &rules).await.unwrap();
    assert_eq!([keys[0].len(), keys[1].len()], [1, 0]);
}
