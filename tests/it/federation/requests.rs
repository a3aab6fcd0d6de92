//! Requests in both directions: which of them are taken, and what other servers learn of users.

use http::{Method, Request, header};
use ruma::{DeviceId, OneTimeKeyAlgorithm, ServerName, UserId};
use ruma_federation_api::{
    device::get_devices::v1 as get_devices,
    keys::{claim_keys::v1 as claim_keys, get_keys::v1 as get_keys},
};
use serde_json::{Value, json};
use wick_core::{RemoteReason, config::Rate};
use wick_harness::{TestNetwork, TestServer, User};

use super::{
    peer::{Peer, answer, pair},
    profile, reason,
};

const PROFILE: (Method, &str) =
    (Method::GET, "/_matrix/federation/v1/query/profile?user_id=%40alice%3Aa.test");
const CLAIM: (Method, &str) = (Method::POST, "/_matrix/federation/v1/user/keys/claim");

/// Two servers with a user each; the second one asks.
async fn two(network: &TestNetwork) -> (TestServer, TestServer, User) {
    let (a, b) = (network.start("a.test").await, network.start("b.test").await);
    let alice = a.register("alice").await;
    (a, b, alice)
}

#[tokio::test]
async fn a_server_shows_profiles_of_its_users_to_another_and_none_of_those_it_does_not_have() {
    let network = TestNetwork::new();
    let (a, b, alice) = two(&network).await;
    let path = "/_matrix/client/v3/profile/@alice:a.test/displayname";
    let name = json!({ "displayname": "Alice & Bob? 100 %" });
    assert_eq!(a.put(path, &alice.token, name.clone()).await.0, 200);
    assert_eq!(profile(&b, "a.test", "@alice:a.test").await.unwrap(), name);
    for user_id in ["@nobody:a.test", "@alice:b.test"] {
        let failed = reason(profile(&b, "a.test", user_id).await);
        let RemoteReason::Refused { status, kind } = failed else { panic!("{failed:?}") };
        assert_eq!(status, 404);
        assert_eq!(kind.unwrap().errcode().as_str(), "M_NOT_FOUND");
    }
}

/// Keys of a device, as good as real ones for a server that does not look into them.
fn device_keys(user: &User) -> Value {
    json!({
        "user_id": user.user_id, "device_id": user.device_id, "algorithms": ["m.olm.v1"],
        "keys": { format!("ed25519:{}", user.device_id): "a2V5", format!("curve25519:{}", user.device_id): "a2V5" },
        "signatures": {},
    })
}

#[tokio::test]
async fn devices_are_shown_to_other_servers_with_their_keys_and_without_their_names() {
    let network = TestNetwork::new();
    let (a, b, alice) = two(&network).await;
    let device = format!("/_matrix/client/v3/devices/{}", alice.device_id);
    a.put(&device, &alice.token, json!({ "display_name": "Alice's secret phone" })).await;
    let upload = "/_matrix/client/v3/keys/upload";
    let keys = json!({ "device_keys": device_keys(&alice) });
    let (status, body) = a.post(upload, &alice.token, keys).await;
    assert_eq!(status, 200, "{body}");
    let (federation, name) =
        (b.services().federation().unwrap(), ServerName::parse("a.test").unwrap());
    let devices = get_devices::Request::new(alice.user_id.clone());
    let devices = federation.request(&name, devices).await.unwrap();
    assert_eq!((&devices.user_id, devices.devices.len()), (&alice.user_id, 1));
    assert!(devices.stream_id > ruma::UInt::MIN);
    let shown = devices.devices[0].keys.json().get();
    assert!(shown.contains("a2V5") && !shown.contains("secret phone"), "{shown}");
    assert_eq!(devices.devices[0].device_display_name, None);

    let nobody = UserId::parse("@nobody:a.test").unwrap();
    let wanted = [(alice.user_id.clone(), Vec::new()), (nobody, Vec::new())].into();
    let keys = federation.request(&name, get_keys::Request::new(wanted)).await.unwrap();
    assert_eq!(keys.device_keys.keys().collect::<Vec<_>>(), [&alice.user_id]);
    assert!(keys.device_keys[&alice.user_id].contains_key(&alice.device_id));
}

#[tokio::test]
async fn a_one_time_key_that_another_server_claims_is_given_once() {
    let network = TestNetwork::new();
    let (a, b, alice) = two(&network).await;
    let keys = json!({ "one_time_keys": {
        "signed_curve25519:A": { "key": "Zmlyc3Q", "signatures": {} },
        "signed_curve25519:B": { "key": "c2Vjb25k", "signatures": {} },
    } });
    let (status, body) = a.post("/_matrix/client/v3/keys/upload", &alice.token, keys).await;
    assert_eq!(status, 200, "{body}");
    let name = ServerName::parse("a.test").unwrap();
    let mut claimed = Vec::new();
    for _ in 0..3 {
        let device_id: &DeviceId = &alice.device_id;
        let devices = [(device_id.to_owned(), OneTimeKeyAlgorithm::SignedCurve25519)].into();
        let wanted = [(alice.user_id.clone(), devices)].into();
        let federation = b.services().federation().unwrap();
        let keys = federation.request(&name, claim_keys::Request::new(wanted)).await.unwrap();
        let of_device =
            keys.one_time_keys.into_values().flat_map(std::collections::BTreeMap::into_values);
        claimed.extend(of_device.flat_map(std::collections::BTreeMap::into_keys));
    }
    claimed.sort();
    claimed.dedup();
    assert_eq!(claimed.len(), 2, "{claimed:?}");
}

#[tokio::test]
async fn a_request_that_is_not_signed_well_is_refused() {
    let network = TestNetwork::new();
    let mut options = network.options("a.test");
    options.config.federation.deny = vec!["denied.test".to_owned()];
    let server = TestServer::start_from(options).await;
    let peer = Peer::join(&network, "b.test").await;
    let (denied, gone) = (Peer::join(&network, "denied.test").await, pair("1"));
    let own =
        Peer { name: ServerName::parse("a.test").unwrap(), ..Peer::join(&network, "c.test").await };
    let body = json!({ "one_time_keys": {} });
    let good = || peer.signed(CLAIM, "a.test", &body);
    assert_eq!(answer(&server, good()).await.0, 200);

    let with = |change: &dyn Fn(&mut Request<Vec<u8>>)| {
        let mut request = good();
        change(&mut request);
        request
    };
    let refused = [
        (
            "no signature",
            with(&|request| drop(request.headers_mut().remove(header::AUTHORIZATION))),
        ),
        (
            "another body",
            with(&|request| *request.body_mut() = br#"{"one_time_keys":{"@a:b":{}}}"#.to_vec()),
        ),
        ("no body", with(&|request| request.body_mut().clear())),
        (
            "another path",
            with(&|request| {
                *request.uri_mut() = "/_matrix/federation/v1/user/keys/query".parse().unwrap()
            }),
        ),
        (
            "another query",
            with(&|request| *request.uri_mut() = format!("{}?a=b", CLAIM.1).parse().unwrap()),
        ),
        ("another destination", peer.signed(CLAIM, "c.test", &body)),
        ("another key", peer.signed_with(&pair("1"), CLAIM, "a.test", &body)),
        ("an unknown key", peer.signed_with(&pair("9"), CLAIM, "a.test", &body)),
        ("a denied server", denied.signed(CLAIM, "a.test", &body)),
        (
            "a server that is gone",
            Peer {
                name: ServerName::parse("gone.test").unwrap(),
                ..Peer::join(&network, "d.test").await
            }
            .signed_with(&gone, CLAIM, "a.test", &body),
        ),
        ("this server", own.signed(CLAIM, "a.test", &body)),
    ];
    for (what, request) in refused {
        let (status, body) = answer(&server, request).await;
        assert_eq!((status, &body["errcode"]), (401, &json!("M_UNAUTHORIZED")), "{what}: {body}");
    }
    let no_json = with(&|request| *request.body_mut() = b"{".to_vec());
    let (status, body) = answer(&server, no_json).await;
    assert_eq!((status, &body["errcode"]), (400, &json!("M_NOT_JSON")));
    assert_eq!(answer(&server, good()).await.0, 200);
}

#[tokio::test]
async fn a_request_whose_signature_is_malformed_is_refused() {
    let network = TestNetwork::new();
    let server = network.start("a.test").await;
    let peer = Peer::join(&network, "b.test").await;
    let body = json!({ "one_time_keys": {} });
    let with = |value: &str| {
        let mut request = peer.signed(CLAIM, "a.test", &body);
        drop(request.headers_mut().insert(header::AUTHORIZATION, value.parse().unwrap()));
        request
    };
    let good = peer.signed(CLAIM, "a.test", &body);
    let signature = good.headers()[header::AUTHORIZATION].to_str().unwrap().to_owned();
    assert_eq!(answer(&server, good).await.0, 200);
    let changed = |from: &str, to: &str| {
        assert!(signature.contains(from));
        signature.replace(from, to)
    };
    let refused = [
        ("an access token", "Bearer abc".to_owned()),
        ("no parameters", "X-Matrix origin=b.test".to_owned()),
        ("nonsense", "X-Matrix ,,,=\"".to_owned()),
        ("a parameter without an end", "X-Matrix origin=\"b.test".to_owned()),
        (
            "an origin that is no name",
            "X-Matrix origin=\"\",key=\"ed25519:1\",sig=\"AAAA\"".to_owned(),
        ),
        ("a key of another kind", "X-Matrix origin=b.test,key=\"rsa:1\",sig=\"AAAA\"".to_owned()),
        (
            "a signature that is none",
            "X-Matrix origin=b.test,key=\"ed25519:1\",sig=\"!\"".to_owned(),
        ),
        ("an origin twice", changed("origin=b.test", "origin=b.test,origin=c.test")),
        (
            "a destination twice",
            changed("destination=a.test", "destination=a.test,Destination=c.test"),
        ),
        ("a signature twice", format!("{signature},sig=\"AAAA\"")),
    ];
    for (what, value) in refused {
        let (status, body) = answer(&server, with(&value)).await;
        assert_eq!((status, &body["errcode"]), (401, &json!("M_UNAUTHORIZED")), "{what}: {body}");
    }
}

#[tokio::test]
async fn the_signature_counts_whatever_the_spelling_of_its_header_and_of_the_body() {
    let network = TestNetwork::new();
    let server = TestServer::start_from(network.options("a.test")).await;
    let peer = Peer::join(&network, "b.test").await;
    let body = json!({ "one_time_keys": {} });
    let mut request = peer.signed(CLAIM, "a.test", &body);
    let value = request.headers()[header::AUTHORIZATION].to_str().unwrap().to_owned();
    let old = value.replace("X-Matrix", "x-matrix").replace("destination=a.test,", "");
    let old = old.replace("origin=b.test", "Origin=\"b.test\"");
    request.headers_mut().insert(header::AUTHORIZATION, old.parse().unwrap());
    *request.body_mut() = b"{ \"one_time_keys\" : {} }".to_vec();
    assert_eq!(answer(&server, request).await.0, 200);
    // Everything in quotes, with escapes, white space, and a parameter that is not known.
    let mut request = peer.signed(CLAIM, "a.test", &body);
    let value = request.headers()[header::AUTHORIZATION].to_str().unwrap().to_owned();
    let quoted = value.replace("origin=b.test", "future=\"a,b\" , origin = \"b\\.test\"");
    let quoted = quoted.replace("destination=a.test", "destination=\"a.test\"");
    request.headers_mut().insert(header::AUTHORIZATION, quoted.parse().unwrap());
    assert_eq!(answer(&server, request).await.0, 200, "{quoted}");
}

#[tokio::test]
async fn requests_of_one_server_are_limited_and_those_of_another_are_not_by_that() {
    let network = TestNetwork::new();
    let mut options = network.options("a.test");
    options.config.limits.enabled = true;
    options.config.limits.servers = Rate { per_second: 0.1, burst: 2 };
    let server = TestServer::start_from(options).await;
    let (one, other) = (Peer::join(&network, "b.test").await, Peer::join(&network, "c.test").await);
    let mut statuses = Vec::new();
    for peer in [&one, &one, &one, &other] {
        statuses.push(answer(&server, peer.signed(PROFILE, "a.test", &Value::Null)).await.0);
    }
    assert_eq!(statuses, [404, 404, 429, 404]);
}
