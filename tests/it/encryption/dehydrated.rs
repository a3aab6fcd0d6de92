//! Dehydrated devices (MSC3814).

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "the helpers of tests, which clippy does not take for tests"
)]

use http::Method;
use serde_json::{Value, json};
use wick_harness::{FATES, Options, Strike, TestServer, User};

use super::signer::{Signer, claim, keys, query};

const PATH: &str = "/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device";
const V3: &str = "/_matrix/client/v3";

async fn ask(
    server: &TestServer,
    user: &User,
    method: Method,
    path: &str,
    body: Value,
) -> (u16, Value) {
    let (status, body) = server.request(method, path, &user.token, body).await;
    (status.as_u16(), body)
}

/// The dehydrated device with this id of a user, as another user would address it.
fn named(user: &User, device_id: &str) -> User {
    User { device_id: device_id.into(), ..user.clone() }
}

async fn put(server: &TestServer, user: &User, device_id: &str) -> (u16, Value) {
    let device = named(user, device_id);
    let body = json!({
        "device_id": device_id,
        "initial_device_display_name": "asleep",
        "device_data": { "algorithm": "org.example", "of": device_id },
        "device_keys": Signer::of_device(&device).device_keys(&device),
        "one_time_keys": keys([1, 2]),
    });
    ask(server, user, Method::PUT, PATH, body).await
}

async fn send(server: &TestServer, from: &User, to: &User, number: usize) {
    let path = format!("{V3}/sendToDevice/test.type/{number}");
    let messages = json!({ to.user_id.as_str(): { to.device_id.as_str(): { "n": number } } });
    let (status, body) =
        ask(server, from, Method::PUT, &path, json!({ "messages": messages })).await;
    assert_eq!(status, 200, "{body}");
}

async fn devices(server: &TestServer, user: &User) -> Vec<String> {
    let (_, body) = ask(server, user, Method::GET, &format!("{V3}/devices"), Value::Null).await;
    let devices = body["devices"].as_array().unwrap();
    devices.iter().map(|device| device["device_id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_dehydrated_device_is_kept_with_its_keys_and_replaced_by_the_next() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let (status, body) = ask(&server, &alice, Method::GET, PATH, Value::Null).await;
    assert_eq!((status, &body["errcode"]), (404, &json!("M_NOT_FOUND")));
    for device_id in ["FIRST", "SECOND", "SECOND"] {
        let device = named(&alice, device_id);
        assert_eq!(put(&server, &alice, device_id).await, (200, json!({ "device_id": device_id })));
        let (_, body) = ask(&server, &alice, Method::GET, PATH, Value::Null).await;
        assert_eq!(body["device_id"], device_id);
        assert_eq!(body["device_data"], json!({ "algorithm": "org.example", "of": device_id }));
        let shown = query(&server, &bob, &[&alice]).await;
        let shown = shown["device_keys"]["@alice:localhost"].as_object().unwrap().clone();
        assert_eq!(shown.keys().collect::<Vec<_>>(), [device_id]);
        assert!(claim(&server, &bob, &device).await.is_object());
        let listed = devices(&server, &alice).await;
        assert_eq!(listed.len(), 2, "{listed:?}");
        assert!(listed.iter().any(|listed| listed == device_id));
    }
}

#[tokio::test]
async fn its_messages_are_read_again_and_again_in_portions() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    put(&server, &alice, "ASLEEP").await;
    let asleep = named(&alice, "ASLEEP");
    for number in 0..150 {
        send(&server, &bob, &asleep, number).await;
    }
    let path = format!("{PATH}/ASLEEP/events");
    for _ in 0..2 {
        let (status, first) = ask(&server, &alice, Method::GET, &path, Value::Null).await;
        assert_eq!(status, 200, "{first}");
        let next = first["next_batch"].as_str().unwrap();
        let more = format!("{path}?from={next}");
        let (_, second) = ask(&server, &alice, Method::GET, &more, Value::Null).await;
        assert!(second.get("next_batch").is_none(), "{second}");
        let posted = json!({ "next_batch": next });
        assert_eq!(ask(&server, &alice, Method::POST, &path, posted).await.1, second);
        let numbers: Vec<_> = [first, second]
            .iter()
            .flat_map(|body| body["events"].as_array().unwrap())
            .map(|event| event["content"]["n"].as_u64().unwrap())
            .collect();
        assert_eq!(numbers, (0..150).collect::<Vec<_>>());
    }
    let (status, body) =
        ask(&server, &alice, Method::GET, &format!("{PATH}/OTHER/events"), Value::Null).await;
    assert_eq!((status, &body["errcode"]), (403, &json!("M_FORBIDDEN")));
    let (status, body) =
        ask(&server, &alice, Method::GET, &format!("{path}?from=x"), Value::Null).await;
    assert_eq!((status, &body["errcode"]), (400, &json!("M_INVALID_PARAM")));
}

#[tokio::test]
async fn it_ends_by_itself_and_with_all_other_devices() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let (status, _) = ask(&server, &alice, Method::DELETE, PATH, Value::Null).await;
    assert_eq!(status, 404);
    put(&server, &alice, "ASLEEP").await;
    let deleted = ask(&server, &alice, Method::DELETE, PATH, json!({})).await;
    assert_eq!(deleted, (200, json!({ "device_id": "ASLEEP" })));
    assert_eq!(devices(&server, &alice).await, [alice.device_id.as_str()]);
    put(&server, &alice, "ASLEEP").await;
    ask(&server, &alice, Method::POST, &format!("{V3}/logout/all"), json!({})).await;
    let again = server.log_in(&alice).await;
    assert_eq!(ask(&server, &again, Method::GET, PATH, Value::Null).await.0, 404);
    assert_eq!(devices(&server, &again).await, [again.device_id.as_str()]);
}

#[tokio::test]
async fn it_takes_no_other_devices_place_and_needs_keys_of_its_own() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let (status, body) = put(&server, &alice, alice.device_id.as_str()).await;
    assert_eq!((status, &body["errcode"]), (400, &json!("M_INVALID_PARAM")));
    let device = named(&alice, "ANOTHER");
    let keys = Signer::of_device(&device).device_keys(&device);
    let wrong = json!({ "device_id": "ASLEEP", "device_data": {}, "device_keys": keys });
    let missing = json!({ "device_id": "ASLEEP", "device_data": {} });
    for body in [wrong, missing] {
        let (status, body) = ask(&server, &alice, Method::PUT, PATH, body).await;
        assert_eq!(status, 400, "{body}");
    }
    assert_eq!(devices(&server, &alice).await, [alice.device_id.as_str()]);
}

#[tokio::test]
async fn a_dehydrated_device_replaces_another_wholly_or_not_at_all() {
    for fate in FATES {
        let strike = Strike::new();
        let options =
            Options { fault: Some(std::sync::Arc::clone(&strike) as _), ..Options::lenient() };
        let mut server = TestServer::start_from(options).await;
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        assert_eq!(put(&server, &alice, "FIRST").await.0, 200);
        assert!(query(&server, &bob, &[&alice]).await["device_keys"].is_object());
        strike.at(1, fate);
        assert_ne!(put(&server, &alice, "SECOND").await.0, 200, "{fate:?}");
        if fate != wick_database::FaultAction::Fail {
            server.crash().await;
        }
        let is_done = fate == wick_database::FaultAction::StopAfter;
        let (there, gone) = if is_done { ("SECOND", "FIRST") } else { ("FIRST", "SECOND") };
        let listed = devices(&server, &alice).await;
        assert!(listed.iter().any(|id| id == there), "{fate:?}: {listed:?}");
        assert!(listed.iter().all(|id| id != gone), "{fate:?}: {listed:?}");
        assert_eq!(put(&server, &alice, "SECOND").await.0, 200, "{fate:?}");
        assert_eq!(devices(&server, &alice).await.len(), 2, "{fate:?}");
        assert_eq!(claim(&server, &bob, &named(&alice, "SECOND")).await, keys([1]), "{fate:?}");
        assert!(claim(&server, &bob, &named(&alice, "FIRST")).await.is_null(), "{fate:?}");
    }
}

#[tokio::test]
async fn a_dehydrated_device_is_not_logged_out_for_another() {
    let server = TestServer::start_with(|config| config.accounts.max_devices = 2).await;
    let alice = server.register("alice").await;
    assert_eq!(put(&server, &alice, "ASLEEP").await.0, 200);
    for _ in 0..2 {
        server.clock.advance(std::time::Duration::from_secs(600)).await;
        server.log_in(&alice).await;
    }
    let newest = server.log_in(&alice).await;
    let (status, body) = ask(&server, &newest, Method::GET, PATH, Value::Null).await;
    assert_eq!((status, &body["device_id"]), (200, &json!("ASLEEP")), "{body}");
    let (_, listed) = server.get(&format!("{V3}/devices"), &newest.token).await;
    assert_eq!(listed["devices"].as_array().unwrap().len(), 2, "{listed}");
}
