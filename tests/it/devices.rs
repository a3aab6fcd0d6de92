//! The device list over HTTP, and the proof that deleting devices needs.

use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::{Value, json};
use wick_harness::{TestServer, User};

const PASSWORD: &str = "correct horse battery staple";

fn errcode(body: &Value) -> &str {
    body["errcode"].as_str().unwrap_or_default()
}

fn path(device_id: &str) -> String {
    format!("/_matrix/client/v3/devices/{device_id}")
}

fn auth(user: &str, password: &str) -> Value {
    json!({
        "type": "m.login.password", "password": password,
        "identifier": { "type": "m.id.user", "user": user },
    })
}

async fn log_in_as(server: &TestServer, user: &User, device_id: &str) -> String {
    let body = json!({
        "type": "m.login.password", "password": PASSWORD, "device_id": device_id,
        "initial_device_display_name": "device display",
        "identifier": { "type": "m.id.user", "user": user.user_id },
    });
    let (status, body) = server.post("/_matrix/client/v3/login", "", body).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    body.get("access_token").and_then(Value::as_str).unwrap_or_default().to_owned()
}

async fn delete(server: &TestServer, user: &User, id: &str, body: Value) -> (StatusCode, Value) {
    server.request(Method::DELETE, &path(id), &user.token, body).await
}

#[tokio::test]
async fn a_device_is_listed_with_its_name_and_when_it_was_seen() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let token = log_in_as(&server, &alice, "login_device").await;
    server.get("/_matrix/client/v3/account/whoami", &token).await;
    let (status, body) = server.get(&path("login_device"), &alice.token).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(body["device_id"], "login_device");
    assert_eq!(body["display_name"], "device display");
    assert_eq!(body["last_seen_ip"], "127.0.0.1");
    assert!(body["last_seen_ts"].is_u64());
    let (_, body) = server.get("/_matrix/client/v3/devices", &alice.token).await;
    assert_eq!(body["devices"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_device_is_renamed() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let own = path(alice.device_id.as_str());
    for body in [json!({ "display_name": "new name" }), json!({})] {
        let (status, body) = server.put(&own, &alice.token, body).await;
        assert_eq!((status, body), (StatusCode::OK, json!({})));
    }
    let (_, body) = server.get(&own, &alice.token).await;
    assert_eq!(body["display_name"], "new name");
    let long = json!({ "display_name": "n".repeat(2000) });
    let (status, body) = server.put(&own, &alice.token, long).await;
    assert_eq!((status.as_u16(), errcode(&body)), (400, "M_INVALID_PARAM"));
}

#[tokio::test]
async fn a_device_that_is_not_there_is_not_found() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    for id in ["unknown", bob.device_id.as_str()] {
        let (status, body) = server.get(&path(id), &alice.token).await;
        assert_eq!((status.as_u16(), errcode(&body)), (404, "M_NOT_FOUND"));
        let name = json!({ "display_name": "name" });
        let (status, body) = server.put(&path(id), &alice.token, name).await;
        assert_eq!((status.as_u16(), errcode(&body)), (404, "M_NOT_FOUND"));
    }
}

#[tokio::test]
async fn deleting_a_device_needs_its_owners_password() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    server.register("bob").await;
    let other = server.log_in(&alice).await;
    let id = other.device_id.as_str();

    let (status, body) = delete(&server, &alice, id, Value::Null).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(body["session"].is_string() && body["params"].is_object(), "{body}");
    assert_eq!(body["flows"], json!([{ "stages": ["m.login.password"] }]));

    let wrong = json!({ "auth": auth("alice", "wrong") });
    let (status, body) = delete(&server, &alice, id, wrong).await;
    assert_eq!((status.as_u16(), errcode(&body)), (401, "M_FORBIDDEN"));
    assert!(body["session"].is_string() && body["flows"].is_array() && body["error"].is_string());

    let of_bob = json!({ "auth": auth("bob", PASSWORD) });
    let (status, body) = delete(&server, &alice, id, of_bob).await;
    assert_eq!((status.as_u16(), errcode(&body)), (403, "M_FORBIDDEN"));
    assert_eq!(server.get(&path(id), &alice.token).await.0, StatusCode::OK);

    let right = json!({ "auth": auth("@alice:localhost", PASSWORD) });
    let (status, body) = delete(&server, &alice, id, right).await;
    assert_eq!((status, body), (StatusCode::OK, json!({})));
    assert_eq!(server.get(&path(id), &alice.token).await.0, StatusCode::NOT_FOUND);
    let (status, body) = server.get("/_matrix/client/v3/devices", &other.token).await;
    assert_eq!((status.as_u16(), errcode(&body)), (401, "M_UNKNOWN_TOKEN"));
}

#[tokio::test]
async fn a_session_proves_one_operation() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let (one, two) = (server.log_in(&alice).await, server.log_in(&alice).await);
    let (_, body) = delete(&server, &alice, one.device_id.as_str(), json!({})).await;
    let mut proof = json!({ "auth": auth("alice", PASSWORD) });
    proof["auth"]["session"] = body["session"].clone();
    let (status, body) = delete(&server, &alice, two.device_id.as_str(), proof.clone()).await;
    assert_eq!((status.as_u16(), errcode(&body)), (403, "M_FORBIDDEN"));
    let (status, _) = delete(&server, &alice, one.device_id.as_str(), proof).await;
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn many_devices_are_deleted_at_once() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let (one, two) = (server.log_in(&alice).await, server.log_in(&alice).await);
    let path = "/_matrix/client/v3/delete_devices";
    let devices = json!([one.device_id, two.device_id, one.device_id, "never there"]);
    let (status, _) = server.post(path, &alice.token, json!({ "devices": devices })).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    let body = json!({ "devices": devices, "auth": auth("alice", PASSWORD) });
    let (status, body) = server.post(path, &alice.token, body).await;
    assert_eq!((status, body), (StatusCode::OK, json!({})));
    let (_, body) = server.get("/_matrix/client/v3/devices", &alice.token).await;
    assert_eq!(body["devices"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_devices_notification_settings_and_pushers_go_with_it() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let other = server.log_in(&alice).await;
    let settings = format!(
        "/_matrix/client/v3/user/@alice:localhost/account_data/\
         org.matrix.msc3890.local_notification_settings.{}",
        other.device_id
    );
    let (status, _) = server.put(&settings, &alice.token, json!({ "is_silenced": true })).await;
    assert_eq!(status, StatusCode::OK);
    let pusher = json!({
        "kind": "http", "app_id": "app", "pushkey": "key", "lang": "en", "append": false,
        "app_display_name": "app", "device_display_name": "device", "profile_tag": "tag",
        "data": { "url": "https://dummy.url/_matrix/push/v1/notify" },
    });
    let set = "/_matrix/client/v3/pushers/set";
    let (status, body) = server.post(set, &other.token, pusher).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let (_, body) = server.get("/_matrix/client/v3/pushers", &alice.token).await;
    assert_eq!(body["pushers"][0]["pushkey"], "key");
    assert_eq!(body["pushers"][0]["kind"], "http");
    server.post("/_matrix/client/v3/logout", &other.token, Value::Null).await;
    let (status, body) = server.get(&settings, &alice.token).await;
    assert_eq!((status.as_u16(), errcode(&body)), (404, "M_NOT_FOUND"));
    let (_, body) = server.get("/_matrix/client/v3/pushers", &alice.token).await;
    assert_eq!(body, json!({ "pushers": [] }));
}

#[tokio::test]
async fn a_pusher_moves_to_the_user_who_sets_it_last_unless_it_is_appended() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let set = "/_matrix/client/v3/pushers/set";
    let pusher = |append: bool| {
        json!({
            "kind": "http", "app_id": "app", "pushkey": "key", "lang": "en", "append": append,
            "app_display_name": "app", "device_display_name": "device",
            "data": { "url": "https://dummy.url/_matrix/push/v1/notify" },
        })
    };
    let count = async |token: &str| {
        let (_, body) = server.get("/_matrix/client/v3/pushers", token).await;
        body["pushers"].as_array().unwrap().len()
    };
    server.post(set, &alice.token, pusher(false)).await;
    server.post(set, &bob.token, pusher(true)).await;
    assert_eq!((count(&alice.token).await, count(&bob.token).await), (1, 1));
    server.post(set, &bob.token, pusher(false)).await;
    assert_eq!((count(&alice.token).await, count(&bob.token).await), (0, 1));
    let gone = json!({ "kind": null, "app_id": "app", "pushkey": "key" });
    let (status, body) = server.post(set, &bob.token, gone).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert_eq!(count(&bob.token).await, 0);
    let (status, body) = server.post(set, &bob.token, json!({ "kind": "http" })).await;
    assert_eq!((status.as_u16(), errcode(&body)), (400, "M_BAD_JSON"));
}

#[tokio::test]
async fn a_login_beyond_the_most_devices_logs_the_longest_unused_one_out() {
    let server = TestServer::start_with(|config| config.accounts.max_devices = 3).await;
    let alice = server.register("alice").await;
    let later = async || server.clock.advance(Duration::from_secs(600)).await;
    let is_live = async |token: &str| {
        server.get("/_matrix/client/v3/account/whoami", token).await.0 == StatusCode::OK
    };
    later().await;
    let unused = log_in_as(&server, &alice, "UNUSED").await;
    later().await;
    let phone = log_in_as(&server, &alice, "PHONE").await;
    later().await;
    assert!(is_live(&alice.token).await, "the oldest is used");
    later().await;
    let phone_again = log_in_as(&server, &alice, "PHONE").await;
    assert!(!is_live(&phone).await);
    let laptop = log_in_as(&server, &alice, "LAPTOP").await;
    assert!(!is_live(&unused).await, "a device that is known takes no other's place");
    for token in [&alice.token, &phone_again, &laptop] {
        assert!(is_live(token).await);
    }
    let (_, listed) = server.get("/_matrix/client/v3/devices", &alice.token).await;
    let mut ids: Vec<_> =
        listed["devices"].as_array().unwrap().iter().map(|device| &device["device_id"]).collect();
    ids.sort_by_key(|id| id.to_string());
    let mut expected = [alice.device_id.as_str(), "PHONE", "LAPTOP"];
    expected.sort_unstable();
    assert_eq!(ids, expected);
}
