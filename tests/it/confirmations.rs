//! What serves once: sessions of user-interactive authentication, registration nonces. They outlive a
//! restart, and a request that was done is answered again and not done again.

#![expect(
    clippy::indexing_slicing,
    reason = "the helpers of tests, which clippy does not take for tests"
)]

use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::{Value, json};
use wick_database::{
    Range, Read,
    schema::{
        confirmations::{EXPIRY_BY_REGISTRATION_NONCE, UIA_SESSION_BY_HASH},
        users::OPENID_TOKEN_BY_HASH,
    },
};
use wick_harness::{TestServer, User};

const REGISTER: &str = "/_matrix/client/v3/register";
const WHOAMI: &str = "/_matrix/client/v3/account/whoami";
const PASSWORD: &str = "correct horse battery staple";

fn errcode(body: &Value) -> &str {
    body["errcode"].as_str().unwrap_or_default()
}

async fn session(server: &TestServer, method: Method, path: &str, user: Option<&User>) -> Value {
    let token = user.map_or("", |user| &user.token);
    let body = if path.ends_with("delete_devices") {
        json!({ "devices": user.map(|user| [&user.device_id]) })
    } else if path.ends_with("password") {
        json!({ "new_password": "another password" })
    } else {
        json!({})
    };
    let (status, body) = server.request(method, path, token, body).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED, "{body}");
    body["session"].clone()
}

fn registration(username: Option<&str>, session: &Value) -> Value {
    let mut body = json!({
        "password": PASSWORD, "refresh_token": true,
        "auth": { "type": "m.login.dummy", "session": session },
    });
    if let Some(username) = username {
        body["username"] = username.into();
    }
    body
}

#[tokio::test]
async fn a_repeated_registration_is_answered_again_and_makes_one_account() {
    for username in [None, Some("alice")] {
        let mut server = TestServer::start().await;
        let session = session(&server, Method::POST, REGISTER, None).await;
        server.restart().await;
        let request = registration(username, &session);
        let (status, first) = server.post(REGISTER, "", request.clone()).await;
        assert_eq!(status, StatusCode::OK, "{first}");
        for restart in [false, true] {
            if restart {
                server.restart().await;
            }
            let (status, again) = server.post(REGISTER, "", request.clone()).await;
            assert_eq!((status, &again), (StatusCode::OK, &first));
        }
        let token = first["access_token"].as_str().unwrap();
        let (_, who) = server.get(WHOAMI, token).await;
        assert_eq!(who["user_id"], first["user_id"]);
        let (_, devices) = server.get("/_matrix/client/v3/devices", token).await;
        assert_eq!(devices["devices"].as_array().unwrap().len(), 1);
        let refresh = json!({ "refresh_token": first["refresh_token"] });
        let (status, _) = server.post("/_matrix/client/v3/refresh", "", refresh).await;
        assert_eq!(status, StatusCode::OK);
    }
}

#[tokio::test]
async fn registrations_at_once_in_one_session_make_one_account_and_get_one_answer() {
    let server = TestServer::start().await;
    let session = session(&server, Method::POST, REGISTER, None).await;
    let post = || server.post(REGISTER, "", registration(None, &session));
    let (one, two, three) = tokio::join!(post(), post(), post());
    assert_eq!(one.0, StatusCode::OK, "{}", one.1);
    assert_eq!(one, two);
    assert_eq!(one, three);
}

#[tokio::test]
async fn a_finished_session_answers_its_own_request_alone() {
    let server = TestServer::start().await;
    let session = session(&server, Method::POST, REGISTER, None).await;
    let request = registration(Some("alice"), &session);
    assert_eq!(server.post(REGISTER, "", request.clone()).await.0, StatusCode::OK);
    for (key, value) in [("password", "another password"), ("device_id", "ANOTHER")] {
        let mut other = request.clone();
        other[key] = value.into();
        other["username"] = "bob".into();
        let (status, body) = server.post(REGISTER, "", other).await;
        assert_eq!((status.as_u16(), errcode(&body)), (403, "M_FORBIDDEN"), "{body}");
    }
    let mut other = request.clone();
    other["password"] = "another password".into();
    let (status, body) = server.post(REGISTER, "", other).await;
    assert!(!status.is_success() && body.get("access_token").is_none(), "{body}");
}

#[tokio::test]
async fn every_repeated_confirmed_request_is_answered_again_whatever_it_ended() {
    let paths = [
        (Method::POST, "/_matrix/client/v3/account/password"),
        (Method::POST, "/_matrix/client/v3/delete_devices"),
        (Method::DELETE, "/_matrix/client/v3/devices/DEVICE"),
        (Method::POST, "/_matrix/client/v3/account/deactivate"),
    ];
    for (method, path) in paths {
        let mut server = TestServer::start().await;
        let alice = server.register("alice").await;
        let path = path.replace("DEVICE", alice.device_id.as_str());
        let session = session(&server, method.clone(), &path, Some(&alice)).await;
        let mut body = json!({
            "auth": {
                "type": "m.login.password", "password": PASSWORD, "session": session,
                "identifier": { "type": "m.id.user", "user": "alice" },
            },
        });
        if path.ends_with("password") {
            body["new_password"] = "another password".into();
        }
        if path.ends_with("delete_devices") {
            body["devices"] = json!([alice.device_id]);
        }
        let request = || server.request(method.clone(), &path, &alice.token, body.clone());
        let (status, first) = request().await;
        assert_eq!(status, StatusCode::OK, "{path}: {first}");
        assert_eq!(request().await, (status, first.clone()), "{path}");
        server.restart().await;
        let request = || server.request(method.clone(), &path, &alice.token, body.clone());
        assert_eq!(request().await, (status, first), "{path} after a restart");
        server.clock.advance(Duration::from_secs(15 * 60)).await;
        assert_ne!(request().await.0, StatusCode::OK, "{path} after the session has expired");
    }
}

#[tokio::test]
async fn a_session_that_is_not_known_confirms_nothing() {
    let server = TestServer::start().await;
    let unknown = registration(Some("alice"), &json!("unknown"));
    let (status, body) = server.post(REGISTER, "", unknown).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED, "{body}");
    let request = registration(Some("alice"), &body["session"]);
    assert_eq!(server.post(REGISTER, "", request).await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_nonce_serves_once_also_after_a_restart() {
    let mut server = TestServer::start_with(|config| {
        config.registration.shared_secret = "secret".to_owned().into();
    })
    .await;
    let path = "/_synapse/admin/v1/register";
    let (_, body) = server.get(path, "").await;
    server.restart().await;
    let wrong = json!({
        "nonce": body["nonce"], "username": "alice", "password": PASSWORD, "mac": "00",
    });
    // A wrong signature does not use the nonce up, and an unknown nonce has none that is right.
    for _ in 0..2 {
        let (status, body) = server.post(path, "", wrong.clone()).await;
        assert_eq!((status.as_u16(), errcode(&body)), (403, "M_FORBIDDEN"));
    }
    server.clock.advance(Duration::from_secs(61)).await;
    let (status, body) = server.post(path, "", wrong).await;
    assert_eq!((status.as_u16(), errcode(&body)), (400, "M_INVALID_PARAM"));
}

#[tokio::test]
async fn what_has_expired_is_removed() {
    let server = TestServer::start_with(|config| {
        config.registration.shared_secret = "secret".to_owned().into();
    })
    .await;
    let alice = server.register("alice").await;
    session(&server, Method::POST, REGISTER, None).await;
    server.get("/_synapse/admin/v1/register", "").await;
    let openid = "/_matrix/client/v3/user/@alice:localhost/openid/request_token";
    assert_eq!(server.post(openid, &alice.token, json!({})).await.0, StatusCode::OK);
    let rows = || {
        let read = server.services().database.latest();
        (
            read.scan(&UIA_SESSION_BY_HASH, Range::all()).count(),
            read.scan(&EXPIRY_BY_REGISTRATION_NONCE, Range::all()).count(),
            read.scan(&OPENID_TOKEN_BY_HASH, Range::all()).count(),
        )
    };
    assert_eq!(rows(), (1, 1, 1));
    server.clock.advance(Duration::from_secs(5 * 60)).await;
    tokio::time::timeout(Duration::from_secs(60), async {
        while rows() != (1, 0, 1) {
            tokio::task::yield_now().await;
        }
        server.clock.advance(Duration::from_secs(3600)).await;
        while rows() != (0, 0, 0) {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the job removes them");
}
