//! Accounts over HTTP: registration, log-in, tokens, log-out, password, deactivation.

use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::{Value, json};
use wick_account::{Proof, devices::NewDevice, users::NewAccount};
use wick_core::config::Mode;
use wick_harness::TestServer;

const REGISTER: &str = "/_matrix/client/v3/register";
const LOGIN: &str = "/_matrix/client/v3/login";
const WHOAMI: &str = "/_matrix/client/v3/account/whoami";

fn errcode(body: &Value) -> &str {
    body["errcode"].as_str().unwrap_or_default()
}

fn dummy(username: &str) -> Value {
    json!({ "username": username, "password": "sUp3rs3kr1t", "auth": { "type": "m.login.dummy" } })
}

fn password_login(user: &str, password: &str) -> Value {
    json!({
        "type": "m.login.password", "password": password,
        "identifier": { "type": "m.id.user", "user": user },
    })
}

fn with_password(mut body: Value, user: &str, password: &str) -> Value {
    if let Some(object) = body.as_object_mut() {
        object.insert("auth".to_owned(), password_login(user, password));
    }
    body
}

#[tokio::test]
async fn registration_without_proof_says_what_to_show() {
    let server = TestServer::start().await;
    let (status, body) = server.post(REGISTER, "", json!({})).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert_eq!(body["flows"], json!([{ "stages": ["m.login.dummy"] }]));
    let mut request = dummy("alice");
    request["auth"]["session"] = body["session"].clone();
    let (status, body) = server.post(REGISTER, "", request).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert_eq!(body["user_id"], "@alice:localhost");
}

#[tokio::test]
async fn registration_logs_in_with_the_wanted_device() {
    let server = TestServer::start().await;
    let mut request = dummy("User-UPPER");
    request["device_id"] = "my_device".into();
    request["refresh_token"] = true.into();
    let (status, body) = server.post(REGISTER, "", request).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert_eq!(body["device_id"], "my_device");
    assert_eq!(body["expires_in_ms"], 3_600_000);
    assert!(body["refresh_token"].is_string());
    let (status, who) = server.get(WHOAMI, body["access_token"].as_str().unwrap()).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(who["user_id"], "@user-upper:localhost");
    assert_eq!(who["device_id"], "my_device");
}

#[tokio::test]
async fn registration_can_be_asked_not_to_log_in() {
    let server = TestServer::start().await;
    let mut request = dummy("alice");
    request["inhibit_login"] = true.into();
    let (status, body) = server.post(REGISTER, "", request).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(body, json!({ "user_id": "@alice:localhost" }));
    let (status, _) = server.post(LOGIN, "", password_login("alice", "sUp3rs3kr1t")).await;
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn registration_refuses_what_it_cannot_do() {
    let server = TestServer::start().await;
    server.register("taken").await;
    let mut short = dummy("short");
    short["password"] = "short".into();
    let mut none = dummy("none");
    none["password"] = Value::Null;
    for (path, body, expected) in [
        (REGISTER, dummy("TAKEN"), (400, "M_USER_IN_USE")),
        (REGISTER, dummy("us,er"), (400, "M_INVALID_USERNAME")),
        (REGISTER, dummy(""), (400, "M_INVALID_USERNAME")),
        (REGISTER, dummy(&"a".repeat(300)), (400, "M_INVALID_USERNAME")),
        (REGISTER, short, (400, "M_WEAK_PASSWORD")),
        (REGISTER, none, (400, "M_MISSING_PARAM")),
        (REGISTER, json!({ "username": 1 }), (400, "M_BAD_JSON")),
        ("/_matrix/client/v3/register?kind=guest", json!({}), (403, "M_GUEST_ACCESS_FORBIDDEN")),
    ] {
        let (status, answer) = server.post(path, "", body.clone()).await;
        assert_eq!((status.as_u16(), errcode(&answer)), expected, "{body}");
    }
}

#[tokio::test]
async fn a_name_is_available_until_it_is_taken() {
    let server = TestServer::start().await;
    let path = |name: &str| format!("{REGISTER}/available?username={name}");
    let (status, body) = server.get(&path("alice"), "").await;
    assert_eq!((status, body), (StatusCode::OK, json!({ "available": true })));
    server.register("alice").await;
    for (name, expected) in
        [("alice", "M_USER_IN_USE"), ("a,b", "M_INVALID_USERNAME"), ("", "M_INVALID_USERNAME")]
    {
        let (status, body) = server.get(&path(name), "").await;
        assert_eq!((status.as_u16(), errcode(&body)), (400, expected), "{name}");
    }
    let (status, body) = server.get(&format!("{REGISTER}/available"), "").await;
    assert_eq!((status.as_u16(), errcode(&body)), (400, "M_MISSING_PARAM"));
}

#[tokio::test]
async fn closed_registration_is_forbidden() {
    let server = TestServer::start_with(|config| config.registration.mode = Mode::Closed).await;
    let (status, body) = server.post(REGISTER, "", dummy("alice")).await;
    assert_eq!((status.as_u16(), errcode(&body)), (403, "M_FORBIDDEN"));
}

#[tokio::test]
async fn a_registration_token_opens_registration() {
    let server = TestServer::start_with(|config| {
        config.registration.mode = Mode::Token;
        config.registration.token = "letmein".to_owned().into();
    })
    .await;
    let (status, body) = server.post(REGISTER, "", dummy("alice")).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert_eq!(body["flows"], json!([{ "stages": ["m.login.registration_token"] }]));
    for (token, valid) in [("letmein", true), ("guess", false)] {
        let path = "/_matrix/client/v1/register/m.login.registration_token/validity";
        let (status, body) = server.get(&format!("{path}?token={token}"), "").await;
        assert_eq!((status, body), (StatusCode::OK, json!({ "valid": valid })));
        let mut request = dummy("alice");
        request["auth"] = json!({ "type": "m.login.registration_token", "token": token });
        let (status, body) = server.post(REGISTER, "", request).await;
        assert_eq!(status == StatusCode::OK, valid, "{body}");
    }
}

#[tokio::test]
async fn the_shared_secret_is_no_endpoint_unless_it_is_configured() {
    let path = "/_synapse/admin/v1/register";
    let server = TestServer::start().await;
    for (status, body) in
        [server.get(path, "").await, server.post(path, "", json!({ "nonce": "x" })).await]
    {
        assert_eq!((status.as_u16(), errcode(&body)), (404, "M_UNRECOGNIZED"));
    }
    let server = TestServer::start_with(|config| {
        config.registration.shared_secret = "complement".to_owned().into();
    })
    .await;
    let (status, body) = server.get(path, "").await;
    assert_eq!(status, StatusCode::OK);
    let request = json!({
        "nonce": body["nonce"], "username": "root", "password": "password", "mac": "00",
    });
    let (status, body) = server.post(path, "", request).await;
    assert_eq!((status.as_u16(), errcode(&body)), (403, "M_FORBIDDEN"));
    let (status, body) = server.post(path, "", json!({ "nonce": 1 })).await;
    assert_eq!((status.as_u16(), errcode(&body)), (400, "M_BAD_JSON"));
}

#[tokio::test]
async fn a_login_needs_the_right_password() {
    let server = TestServer::start().await;
    let (_, body) = server.get(LOGIN, "").await;
    assert_eq!(body["flows"], json!([{ "type": "m.login.password" }]));
    server.post(REGISTER, "", dummy("alice")).await;
    for user in ["alice", "@alice:localhost", "@ALICE:localhost"] {
        let (status, body) = server.post(LOGIN, "", password_login(user, "sUp3rs3kr1t")).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        assert_eq!(body["user_id"], "@alice:localhost");
    }
    let old = json!({ "type": "m.login.password", "user": "alice", "password": "sUp3rs3kr1t" });
    assert_eq!(server.post(LOGIN, "", old).await.0, StatusCode::OK);
    let mail = json!({
        "type": "m.login.password", "password": "sUp3rs3kr1t",
        "identifier": { "type": "m.id.thirdparty", "medium": "email", "address": "a@b.c" },
    });
    for (body, expected) in [
        (password_login("alice", "wrong"), (403, "M_FORBIDDEN")),
        (password_login("nobody", "sUp3rs3kr1t"), (403, "M_FORBIDDEN")),
        (password_login("@alice:elsewhere", "sUp3rs3kr1t"), (403, "M_FORBIDDEN")),
        (mail, (403, "M_FORBIDDEN")),
        (json!({ "type": "m.login.magic" }), (400, "M_UNKNOWN")),
        (json!({ "password": "x" }), (400, "M_BAD_JSON")),
        (json!({ "type": "m.login.password" }), (400, "M_BAD_JSON")),
        (json!({ "type": "m.login.password", "password": "x" }), (400, "M_MISSING_PARAM")),
    ] {
        let (status, answer) = server.post(LOGIN, "", body.clone()).await;
        assert_eq!((status.as_u16(), errcode(&answer)), expected, "{body}");
    }
}

#[tokio::test]
async fn requests_without_a_good_token_are_told_so() {
    let mut server = TestServer::start().await;
    let (status, body) = server.get(WHOAMI, "").await;
    assert_eq!((status.as_u16(), errcode(&body)), (401, "M_MISSING_TOKEN"));
    let (status, body) = server.get(WHOAMI, "nonsense").await;
    assert_eq!((status.as_u16(), errcode(&body)), (401, "M_UNKNOWN_TOKEN"));
    let alice = server.register("alice").await;
    server.restart().await;
    assert_eq!(server.get(WHOAMI, &alice.token).await.0, StatusCode::OK);
    let by_query = format!("{WHOAMI}?access_token={}", alice.token);
    assert_eq!(server.get(&by_query, "").await.0, StatusCode::OK);
}

#[tokio::test]
async fn logging_out_takes_effect_at_once() {
    let server = TestServer::start().await;
    let phone = server.register("alice").await;
    let laptop = server.log_in(&phone).await;
    let tablet = server.log_in(&phone).await;
    assert_eq!(server.get(WHOAMI, &laptop.token).await.0, StatusCode::OK);
    let (status, body) = server.post("/_matrix/client/v3/logout", &laptop.token, Value::Null).await;
    assert_eq!((status, body), (StatusCode::OK, json!({})));
    let (status, body) = server.get(WHOAMI, &laptop.token).await;
    assert_eq!((status.as_u16(), errcode(&body)), (401, "M_UNKNOWN_TOKEN"));
    assert_eq!(server.get(WHOAMI, &phone.token).await.0, StatusCode::OK);
    server.post("/_matrix/client/v3/logout/all", &phone.token, json!({})).await;
    for user in [phone, tablet] {
        assert_eq!(server.get(WHOAMI, &user.token).await.0, StatusCode::UNAUTHORIZED);
    }
}

#[tokio::test]
async fn an_expired_token_is_refreshed() {
    let server = TestServer::start().await;
    let mut request = dummy("alice");
    request["refresh_token"] = true.into();
    let (_, body) = server.post(REGISTER, "", request).await;
    let token = body["access_token"].as_str().unwrap();
    server.clock.advance(Duration::from_secs(3600)).await;
    let (status, answer) = server.get(WHOAMI, token).await;
    assert_eq!((status.as_u16(), errcode(&answer)), (401, "M_UNKNOWN_TOKEN"));
    assert_eq!(answer["soft_logout"], true);
    let refresh = json!({ "refresh_token": body["refresh_token"] });
    let (status, new) = server.post("/_matrix/client/v3/refresh", "", refresh.clone()).await;
    assert_eq!(status, StatusCode::OK, "{new}");
    assert_eq!(new["expires_in_ms"], 3_600_000);
    let token = new["access_token"].as_str().unwrap();
    assert_eq!(server.get(WHOAMI, token).await.0, StatusCode::OK);
    let (status, answer) = server.post("/_matrix/client/v3/refresh", "", refresh).await;
    assert_eq!((status.as_u16(), errcode(&answer)), (401, "M_UNKNOWN_TOKEN"));
}

#[tokio::test]
async fn a_new_password_needs_the_old_one() {
    let server = TestServer::start().await;
    let (_, body) = server.post(REGISTER, "", dummy("alice")).await;
    let own = body["access_token"].as_str().unwrap();
    let (_, body) = server.post(LOGIN, "", password_login("alice", "sUp3rs3kr1t")).await;
    let other = body["access_token"].as_str().unwrap();
    let path = "/_matrix/client/v3/account/password";
    let request = json!({ "new_password": "my_new_password" });

    let (status, body) = server.post(path, "", request.clone()).await;
    assert_eq!((status.as_u16(), errcode(&body)), (401, "M_MISSING_TOKEN"));
    let (status, body) = server.post(path, own, request.clone()).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert_eq!(body["flows"], json!([{ "stages": ["m.login.password"] }]));
    assert_eq!(body["params"], json!({}));
    let wrong = with_password(request.clone(), "alice", "wrong");
    let (status, body) = server.post(path, own, wrong).await;
    assert_eq!((status.as_u16(), errcode(&body)), (401, "M_FORBIDDEN"));
    assert!(body["session"].is_string() && body["error"].is_string());
    let right = with_password(request, "alice", "sUp3rs3kr1t");
    let (status, body) = server.post(path, own, right).await;
    assert_eq!(status, StatusCode::OK, "{body}");

    assert_eq!(server.get(WHOAMI, own).await.0, StatusCode::OK);
    assert_eq!(server.get(WHOAMI, other).await.0, StatusCode::UNAUTHORIZED);
    let (status, _) = server.post(LOGIN, "", password_login("alice", "sUp3rs3kr1t")).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let (status, _) = server.post(LOGIN, "", password_login("alice", "my_new_password")).await;
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn a_deactivated_account_is_over() {
    let server = TestServer::start().await;
    let (_, body) = server.post(REGISTER, "", dummy("alice")).await;
    let token = body["access_token"].as_str().unwrap();
    let path = "/_matrix/client/v3/account/deactivate";
    let (status, _) = server.post(path, token, json!({})).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    let (status, body) =
        server.post(path, token, with_password(json!({}), "alice", "sUp3rs3kr1t")).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert_eq!(server.get(WHOAMI, token).await.0, StatusCode::UNAUTHORIZED);
    let (status, body) = server.post(LOGIN, "", password_login("alice", "sUp3rs3kr1t")).await;
    assert_eq!((status.as_u16(), errcode(&body)), (403, "M_USER_DEACTIVATED"));
    let (status, _) = server.get("/_matrix/client/v3/profile/@alice:localhost", "").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn what_this_server_does_not_have_is_empty() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    for (path, expected) in [
        ("/_matrix/client/v3/account/3pid", json!({ "threepids": [] })),
        ("/_matrix/client/v3/voip/turnServer", json!({})),
        ("/_matrix/client/v3/thirdparty/protocols", json!({})),
        ("/_matrix/client/v3/pushers", json!({ "pushers": [] })),
    ] {
        let (status, body) = server.get(path, &alice.token).await;
        assert_eq!(status, StatusCode::OK, "{path}");
        assert_eq!(body, expected, "{path}");
        let (status, _) = server.request(Method::GET, path, "", Value::Null).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{path}");
    }
}

#[tokio::test]
async fn an_openid_token_is_made_for_oneself_alone() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let path = |user: &str| format!("/_matrix/client/v3/user/{user}/openid/request_token");
    let (status, body) = server.post(&path("@alice:localhost"), &alice.token, json!({})).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert_eq!(body["expires_in"], 3600);
    let token = body["access_token"].as_str().unwrap();
    let user = server.services().openid.user(token).unwrap();
    assert_eq!(user.as_ref(), Some(&alice.user_id));
    assert_eq!(server.get(WHOAMI, token).await.0, StatusCode::UNAUTHORIZED);
    server.clock.advance(Duration::from_secs(3600)).await;
    assert_eq!(server.services().openid.user(token).unwrap(), None);
    let (status, _) = server.post(&path("@bob:localhost"), &alice.token, json!({})).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn the_sessions_of_a_user_are_shown_to_the_user_and_to_administrators() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let admin = NewAccount {
        localpart: Some("admin".to_owned()),
        password: "sUp3rs3kr1t".to_owned(),
        admin: true,
        device: Some(NewDevice::default()),
    };
    let made = server.services().users.register(admin, &Proof::not_needed()).await.unwrap();
    let admin = made.device.unwrap().1.access;
    let path = "/_matrix/client/v3/admin/whois/@alice:localhost";
    assert_eq!(server.get(WHOAMI, &alice.token).await.0, StatusCode::OK);
    for token in [&alice.token, &admin] {
        let (status, body) = server.get(path, token).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        assert_eq!(body["user_id"], "@alice:localhost");
        let sessions = &body["devices"][alice.device_id.as_str()]["sessions"];
        assert_eq!(sessions[0]["connections"][0]["ip"], "127.0.0.1");
        assert!(sessions[0]["connections"][0]["last_seen"].is_u64());
    }
    let (status, body) = server.get(path, &bob.token).await;
    assert_eq!((status.as_u16(), errcode(&body)), (403, "M_FORBIDDEN"));
    let (status, body) = server.get(&path.replace("alice", "nobody"), &admin).await;
    assert_eq!((status.as_u16(), errcode(&body)), (404, "M_NOT_FOUND"));
}
