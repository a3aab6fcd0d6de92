//! Uploading the keys of devices and looking them up.

#![expect(
    clippy::indexing_slicing,
    reason = "the helpers of tests, which clippy does not take for tests"
)]

use http::Method;
use serde_json::{Value, json};
use wick_harness::{TestServer, User};

use super::signer::{
    ALGORITHM, CLAIM, QUERY, Signer, UPLOAD, claim, key, keys, query, upload, upload_device_keys,
};

fn told((status, body): (http::StatusCode, Value)) -> (u16, String) {
    (status.as_u16(), body["errcode"].as_str().unwrap_or_default().to_owned())
}

async fn refused(server: &TestServer, user: &User, body: Value) -> (u16, String) {
    told(server.post(UPLOAD, &user.token, body).await)
}

fn shown<'a>(answer: &'a Value, user: &User) -> &'a Value {
    &answer["device_keys"][user.user_id.as_str()][user.device_id.as_str()]
}

#[tokio::test]
async fn keys_are_shown_as_they_were_uploaded_with_the_name_of_the_device() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let mut uploaded = Signer::of_device(&alice).device_keys(&alice);
    uploaded["org.example.more"] = json!({ "b": 1, "a": [true, null] });
    let mut with_unsigned = uploaded.clone();
    with_unsigned["unsigned"] = json!({ "device_display_name": "not the server's" });
    upload(&server, &alice, json!({ "device_keys": with_unsigned })).await;

    for (name, unsigned) in
        [(None, json!({})), (Some("a phone"), json!({ "device_display_name": "a phone" }))]
    {
        if let Some(name) = name {
            let path = format!("/_matrix/client/v3/devices/{}", alice.device_id);
            server.put(&path, &alice.token, json!({ "display_name": name })).await;
        }
        uploaded["unsigned"] = unsigned;
        assert_eq!(*shown(&query(&server, &bob, &[&alice]).await, &alice), uploaded);
    }
}

#[tokio::test]
async fn all_devices_are_shown_or_those_that_are_named() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let other = server.log_in(&alice).await;
    let without_keys = server.log_in(&alice).await;
    upload_device_keys(&server, &alice).await;
    upload_device_keys(&server, &other).await;
    let all = query(&server, &alice, &[&alice]).await;
    assert_eq!(all["device_keys"][alice.user_id.as_str()].as_object().unwrap().len(), 2);
    let named =
        json!({ alice.user_id.as_str(): [other.device_id, without_keys.device_id, "UNKNOWN"] });
    let (_, named) = server.post(QUERY, &alice.token, json!({ "device_keys": named })).await;
    let named = named["device_keys"][alice.user_id.as_str()].as_object().unwrap();
    assert_eq!(named.keys().collect::<Vec<_>>(), [other.device_id.as_str()]);
}

#[tokio::test]
async fn a_user_without_keys_has_none_and_one_of_another_server_is_a_failure() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let wanted =
        json!({ alice.user_id.as_str(): [], "@nobody:localhost": [], "@far:example.org": [] });
    let (status, body) = server.post(QUERY, &alice.token, json!({ "device_keys": wanted })).await;
    assert_eq!(status.as_u16(), 200);
    assert_eq!(body["device_keys"], json!({ alice.user_id.as_str(): {} }));
    assert!(body["failures"]["example.org"].is_object(), "{body}");
    let wanted = json!({ "@far:example.org": { "DEVICE": ALGORITHM } });
    let claim = json!({ "one_time_keys": wanted });
    let (_, body) = server.post(CLAIM, &alice.token, claim).await;
    assert_eq!(body["one_time_keys"], json!({}));
    assert!(body["failures"]["example.org"].is_object(), "{body}");
}

#[tokio::test]
async fn many_users_are_looked_up_as_few_are_and_too_many_are_refused() {
    let server = TestServer::start().await;
    let mut users = Vec::new();
    for number in 0..25 {
        let user = server.register(&format!("user{number}")).await;
        upload_device_keys(&server, &user).await;
        users.push(user);
    }
    let all: Vec<_> = users.iter().collect();
    let many = query(&server, &users[0], &all).await;
    for user in all {
        let one = query(&server, &users[0], &[user]).await;
        assert!(shown(&one, user).is_object());
        assert_eq!(shown(&many, user), shown(&one, user));
    }
    let wanted: Value = (0..5_001).map(|n| (format!("@{n}:localhost"), json!([]))).collect();
    let answer = server.post(QUERY, &users[0].token, json!({ "device_keys": wanted })).await;
    assert_eq!(told(answer), (400, "M_INVALID_PARAM".to_owned()));
    let devices: Value = (0..5_001).map(|n| (n.to_string(), json!(ALGORITHM))).collect();
    let body = json!({ "one_time_keys": { "@user0:localhost": devices } });
    let answer = server.post(CLAIM, &users[0].token, body).await;
    assert_eq!(told(answer), (400, "M_INVALID_PARAM".to_owned()));
}

#[tokio::test]
async fn a_query_whose_devices_are_no_list_is_bad_json() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    for devices in [json!({ "DEVICE": true }), json!("DEVICE"), json!([1])] {
        let body = json!({ "device_keys": { alice.user_id.as_str(): devices } });
        let answer = told(server.post(QUERY, &alice.token, body).await);
        assert_eq!(answer, (400, "M_BAD_JSON".to_owned()));
    }
}

#[tokio::test]
async fn malformed_keys_and_those_of_another_device_are_refused_and_nothing_is_stored() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let good = Signer::of_device(&alice).device_keys(&alice);
    let without = |field: &str| {
        let mut keys = good.clone();
        keys.as_object_mut().unwrap().remove(field);
        keys
    };
    let with = |field: &str, value: Value| {
        let mut keys = good.clone();
        keys[field] = value;
        keys
    };
    for bad in [
        without("user_id"),
        without("device_id"),
        without("algorithms"),
        without("keys"),
        without("signatures"),
        with("user_id", json!(bob.user_id)),
        with("device_id", json!("OTHER")),
        with("keys", json!({ "ed25519:OTHER": "key" })),
        with("keys", json!({ "without an algorithm": "key" })),
        with("signatures", json!({ "@alice:localhost": { "ed25519:A": 1 } })),
        with("more", json!(1.5)),
        json!("keys"),
    ] {
        let body = json!({ "device_keys": bad, "one_time_keys": keys(1..3) });
        assert_eq!(refused(&server, &alice, body).await, (400, "M_BAD_JSON".to_owned()), "{bad}");
    }
    let large = with("more", json!("a".repeat(40_000)));
    let body = json!({ "device_keys": large, "one_time_keys": keys(1..3) });
    assert_eq!(refused(&server, &alice, body).await, (413, "M_TOO_LARGE".to_owned()));
    assert_eq!(upload(&server, &alice, json!({})).await, json!({ ALGORITHM: 0 }));
    assert_eq!(*shown(&query(&server, &bob, &[&alice]).await, &alice), Value::Null);
}

#[tokio::test]
async fn malformed_one_time_keys_are_refused_and_nothing_is_stored() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let large = json!({ "key": "AAAA", "signatures": {}, "more": "a".repeat(5_000) });
    for (id, bad, expected) in [
        ("unknown:1", key(1), (400, "M_INVALID_PARAM")),
        ("signed_curve25519:1", json!("AAAA"), (400, "M_BAD_JSON")),
        ("signed_curve25519:1", json!({ "key": "AAAA" }), (400, "M_BAD_JSON")),
        ("signed_curve25519:1", json!(1), (400, "M_BAD_JSON")),
        ("curve25519:1", key(1), (400, "M_BAD_JSON")),
        ("without", key(1), (400, "M_BAD_JSON")),
        ("signed_curve25519:1", large, (413, "M_TOO_LARGE")),
    ] {
        for field in ["one_time_keys", "fallback_keys"] {
            let mut some = keys(5..7);
            some[id] = bad.clone();
            let body = json!({ field: some });
            let (status, errcode) = refused(&server, &alice, body).await;
            assert_eq!((status, &*errcode), expected, "{field} {id} {bad}");
        }
    }
    let two = json!({ "fallback_keys": keys(1..3) });
    assert_eq!(refused(&server, &alice, two).await, (400, "M_INVALID_PARAM".to_owned()));
    assert_eq!(upload(&server, &alice, json!({})).await, json!({ ALGORITHM: 0 }));
    assert_eq!(claim(&server, &alice, &alice).await, Value::Null);
}

#[tokio::test]
async fn a_one_time_key_is_accepted_again_and_its_id_is_not_given_to_another() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    assert_eq!(
        upload(&server, &alice, json!({ "one_time_keys": keys(1..5) })).await,
        json!({ ALGORITHM: 4 })
    );
    assert_eq!(
        upload(&server, &alice, json!({ "one_time_keys": keys(1..5) })).await,
        json!({ ALGORITHM: 4 })
    );
    assert_eq!(
        upload(&server, &alice, json!({ "one_time_keys": keys(3..7) })).await,
        json!({ ALGORITHM: 6 })
    );
    let mut conflicting = keys(7..9);
    conflicting[format!("{ALGORITHM}:1")] = key(99);
    let answer = refused(&server, &alice, json!({ "one_time_keys": conflicting })).await;
    assert_eq!(answer, (400, "M_INVALID_PARAM".to_owned()));
    assert_eq!(upload(&server, &alice, json!({})).await, json!({ ALGORITHM: 6 }));
}

#[tokio::test]
async fn keys_are_counted_by_algorithm() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let mut mixed = keys(0..3);
    mixed["curve25519:0"] = json!("3C5BFWi2Y8MaVvjM8M22DBmh24PmgR0nPvJOIArzgyI");
    let counts = upload(&server, &alice, json!({ "one_time_keys": mixed })).await;
    assert_eq!(counts, json!({ ALGORITHM: 3, "curve25519": 1 }));
}

#[tokio::test]
async fn application_services_can_be_told_the_counts_of_many_devices_at_once() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let other = server.log_in(&alice).await;
    let body = json!({ "one_time_keys": keys(0..3), "fallback_keys": keys([9]) });
    upload(&server, &alice, body.clone()).await;
    upload(&server, &bob, json!({ "fallback_keys": keys([9]) })).await;
    upload(&server, &other, body).await;
    claim(&server, &bob, &other).await;
    claim(&server, &bob, &bob).await;
    let gone = User { device_id: "GONE".into(), ..alice.clone() };
    let nobody = User { user_id: "@nobody:localhost".try_into().unwrap(), ..alice.clone() };
    let devices = [&alice, &other, &gone, &bob, &nobody];
    let devices = devices.map(|user| (&*user.user_id, &*user.device_id));
    let counts = server.services().device_keys.counts(devices).unwrap();
    let seen: Vec<_> = counts
        .iter()
        .flat_map(|(user, devices)| devices.iter().map(move |(device, keys)| (user, device, keys)))
        .map(|(user, device, keys)| {
            let unused = keys.unused_fallback_keys.as_slice();
            ((user, device), (keys.one_time_keys[ALGORITHM], unused))
        })
        .collect();
    let unused = &[ALGORITHM][..];
    let mut expected = [
        ((&alice.user_id, &alice.device_id), (3, unused)),
        ((&alice.user_id, &other.device_id), (2, unused)),
        ((&bob.user_id, &bob.device_id), (0, &[])),
    ];
    expected.sort();
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn a_device_has_at_most_500_one_time_keys_of_an_algorithm() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    assert_eq!(
        upload(&server, &alice, json!({ "one_time_keys": keys(0..500) })).await,
        json!({ ALGORITHM: 500 })
    );
    let answer = refused(&server, &alice, json!({ "one_time_keys": keys(500..501) })).await;
    assert_eq!(answer, (400, "M_TOO_LARGE".to_owned()));
    upload(&server, &alice, json!({ "one_time_keys": keys(0..500) })).await;
    claim(&server, &alice, &alice).await;
    assert_eq!(
        upload(&server, &alice, json!({ "one_time_keys": keys(500..501) })).await,
        json!({ ALGORITHM: 500 })
    );
}

#[tokio::test]
async fn a_removed_device_leaves_no_key_behind() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let other = server.log_in(&alice).await;
    upload_device_keys(&server, &other).await;
    let more = json!({ "one_time_keys": keys(0..5), "fallback_keys": keys(9..10) });
    upload(&server, &other, more).await;
    server.post("/_matrix/client/v3/logout", &other.token, json!({})).await;
    assert_eq!(*shown(&query(&server, &bob, &[&alice]).await, &other), Value::Null);
    assert_eq!(claim(&server, &bob, &other).await, Value::Null);
    // The same device again begins with none.
    let login = json!({
        "type": "m.login.password", "password": "correct horse battery staple",
        "device_id": other.device_id, "identifier": { "type": "m.id.user", "user": "alice" },
    });
    let (_, session) = server.post("/_matrix/client/v3/login", "", login).await;
    let token = session["access_token"].as_str().unwrap();
    let (_, body) = server.request(Method::POST, UPLOAD, token, json!({})).await;
    assert_eq!(body["one_time_key_counts"], json!({ ALGORITHM: 0 }));
    assert_eq!(claim(&server, &bob, &other).await, Value::Null);
}

#[tokio::test]
async fn a_query_shows_every_change_at_once_however_often_it_was_asked_before() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let name = async || {
        let body = query(&server, &bob, &[&alice]).await;
        assert_eq!(body, query(&server, &bob, &[&alice]).await);
        shown(&body, &alice)["unsigned"]["device_display_name"].clone()
    };
    assert_eq!(name().await, Value::Null);
    upload_device_keys(&server, &alice).await;
    let unnamed = shown(&query(&server, &bob, &[&alice]).await, &alice).clone();
    assert!(unnamed.is_object());
    let path = format!("/_matrix/client/v3/devices/{}", alice.device_id);
    for new in ["first", "second"] {
        let body = json!({ "display_name": new });
        let (status, body) = server.put(&path, &alice.token, body).await;
        assert_eq!(status.as_u16(), 200, "{body}");
        assert_eq!(name().await, new);
    }
    let again = server.log_in(&alice).await;
    upload_device_keys(&server, &again).await;
    let body = query(&server, &bob, &[&alice]).await;
    assert!(shown(&body, &alice).is_object() && shown(&body, &again).is_object());
    let (status, _) = server.post("/_matrix/client/v3/logout", &alice.token, json!({})).await;
    assert_eq!(status.as_u16(), 200);
    let body = query(&server, &bob, &[&alice]).await;
    assert!(shown(&body, &alice).is_null() && shown(&body, &again).is_object());
}
