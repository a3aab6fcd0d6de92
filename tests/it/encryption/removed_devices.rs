//! What goes with a device: its keys, its inbox, its pushers and its place in the device lists, all at once.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "the helpers of tests, which clippy does not take for tests"
)]

use std::sync::Arc;

use http::StatusCode;
use serde_json::{Value, json};
use wick_database::FaultAction;
use wick_harness::{FATES, Options, Strike, TestServer, User};

use super::signer::{ALGORITHM, claim, keys, query, upload, upload_device_keys};

const V3: &str = "/_matrix/client/v3";

async fn post(server: &TestServer, user: &User, path: &str, body: Value) -> Value {
    let (status, body) = server.post(&format!("{V3}/{path}"), &user.token, body).await;
    assert_eq!(status, StatusCode::OK, "{path}: {body}");
    body
}

async fn pushers(server: &TestServer, user: &User) -> usize {
    let (_, body) = server.get(&format!("{V3}/pushers"), &user.token).await;
    body["pushers"].as_array().unwrap().len()
}

/// Everything that a device can have.
async fn equip(server: &TestServer, device: &User, sender: &User) {
    upload_device_keys(server, device).await;
    upload(server, device, json!({ "one_time_keys": keys(0..3), "fallback_keys": keys([9]) }))
        .await;
    let pusher = json!({
        "pushkey": "a", "kind": "http", "app_id": "b", "app_display_name": "c",
        "device_display_name": "d", "lang": "en",
        "data": { "url": "https://example.org/_matrix/push/v1/notify" },
    });
    post(server, device, "pushers/set", pusher).await;
    let message = json!({ device.user_id.as_str(): { device.device_id.as_str(): { "a": "b" } } });
    let path = format!("{V3}/sendToDevice/org.example.a/{}", device.device_id);
    let (status, body) = server.put(&path, &sender.token, json!({ "messages": message })).await;
    assert_eq!(status, StatusCode::OK, "{body}");
}

#[tokio::test]
async fn a_device_goes_with_everything_it_has_or_not_at_all() {
    for fate in FATES {
        let strike = Strike::new();
        let options = Options { fault: Some(Arc::clone(&strike) as _), ..Options::lenient() };
        let mut server = TestServer::start_from(options).await;
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let device = server.log_in(&alice).await;
        equip(&server, &device, &bob).await;
        let body = post(&server, &bob, "createRoom", json!({ "preset": "public_chat" })).await;
        let room = body["room_id"].as_str().unwrap().to_owned();
        post(&server, &alice, &format!("join/{room}"), json!({})).await;
        let (_, body) = server.get(&format!("{V3}/sync"), &bob.token).await;
        let since = body["next_batch"].as_str().unwrap().to_owned();

        strike.at(1, fate);
        let (status, body) = server.post(&format!("{V3}/logout"), &device.token, json!({})).await;
        assert!(strike.has_struck() && status.as_u16() == 500, "{fate:?}: {body}");
        if fate != FaultAction::Fail {
            server.crash().await;
        }
        for is_gone in [fate == FaultAction::StopAfter, true] {
            if is_gone && fate != FaultAction::StopAfter {
                post(&server, &device, "logout", json!({})).await;
            }
            let shown = query(&server, &bob, &[&alice]).await;
            let shown = &shown["device_keys"]["@alice:localhost"][device.device_id.as_str()];
            assert_eq!(shown.is_null(), is_gone, "{fate:?}");
            assert_eq!(pushers(&server, &alice).await, usize::from(!is_gone), "{fate:?}");
            let path = format!("{V3}/sync?since={since}");
            let (_, body) = server.get(&path, &bob.token).await;
            let changed = if is_gone { json!(["@alice:localhost"]) } else { json!([]) };
            assert_eq!(body["device_lists"]["changed"], changed, "{fate:?}");
        }
        assert_eq!(claim(&server, &bob, &device).await, Value::Null, "{fate:?}");
        // The same device again has nothing of what was.
        let login = json!({
            "type": "m.login.password", "password": "correct horse battery staple",
            "device_id": device.device_id, "identifier": { "type": "m.id.user", "user": "alice" },
        });
        let again =
            post(&server, &User { token: String::new(), ..device.clone() }, "login", login).await;
        let again = User { token: again["access_token"].as_str().unwrap().to_owned(), ..device };
        let (_, body) = server.get(&format!("{V3}/sync"), &again.token).await;
        assert_eq!(body["to_device"]["events"].as_array().map_or(0, Vec::len), 0, "{fate:?}");
        assert_eq!(body["device_one_time_keys_count"], json!({ ALGORITHM: 0 }), "{fate:?}");
        assert_eq!(body["device_unused_fallback_key_types"], json!([]), "{fate:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_upload_beside_a_log_out_leaves_no_key_of_a_device_that_is_gone() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    for round in 0..10 {
        let device = server.log_in(&alice).await;
        let path = format!("{V3}/keys/upload");
        let body = json!({ "one_time_keys": keys(0..5), "fallback_keys": keys([9]) });
        let uploads = (0..3).map(|number| {
            let mut body = body.clone();
            body["one_time_keys"] = keys(number * 5..number * 5 + 5);
            server.post(&path, &device.token, body)
        });
        let uploads = futures_util::future::join_all(uploads);
        let end = post(&server, &device, "logout", json!({}));
        let (answers, _) = tokio::join!(uploads, end);
        for (status, body) in answers {
            assert!(matches!(status.as_u16(), 200 | 401 | 404), "{round}: {body}");
        }
        assert_eq!(claim(&server, &bob, &device).await, Value::Null, "{round}");
    }
}
