//! Guesses: of passwords, of tokens, of registration tokens. They are counted where they are checked.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "the helpers of tests, which clippy does not take for tests"
)]

use std::net::IpAddr;

use http::{Method, Request, StatusCode, header};
use serde_json::{Value, json};
use wick_api::Peer;
use wick_core::config::{Mode, Rate};
use wick_harness::{Answer, Body, TestServer, User};

const PASSWORD: &str = "correct horse battery staple";
const STRANGER: [u8; 4] = [192, 0, 2, 1];
const OWNER: [u8; 4] = [192, 0, 2, 2];

async fn server() -> TestServer {
    TestServer::start_with(|config| {
        config.limits.enabled = true;
        let plenty = Rate { per_second: 1e6, burst: 1_000_000 };
        config.limits.registration = plenty;
        config.limits.login = plenty;
    })
    .await
}

async fn from(
    server: &TestServer,
    address: [u8; 4],
    path: &str,
    token: &str,
    body: Value,
) -> Answer {
    let method = if body.is_null() { Method::GET } else { Method::POST };
    let mut request = Request::builder().method(method).uri(path);
    if !token.is_empty() {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
    let mut request = request.body(body).unwrap();
    request.extensions_mut().insert(Peer::Address(IpAddr::from(address)));
    server.send(request).await
}

fn login(password: &str) -> Value {
    json!({
        "type": "m.login.password", "password": password,
        "identifier": { "type": "m.id.user", "user": "alice" },
    })
}

/// Tries passwords until it is refused for their number.
async fn exhaust(server: &TestServer, address: [u8; 4]) -> usize {
    for tried in 0..50 {
        let answer = from(server, address, "/_matrix/client/v3/login", "", login("wrong")).await;
        if answer.status == StatusCode::TOO_MANY_REQUESTS {
            return tried;
        }
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{:?}", answer.body);
    }
    panic!("any number of passwords can be tried");
}

async fn delete_device(server: &TestServer, user: &User, password: &str) -> StatusCode {
    let body = json!({ "devices": ["NONE"], "auth": login(password) });
    from(server, STRANGER, "/_matrix/client/v3/delete_devices", &user.token, body).await.status
}

#[tokio::test]
async fn a_stranger_can_try_ten_passwords_and_does_not_lock_the_owner_out() {
    let server = server().await;
    let alice = server.register("alice").await;
    assert_eq!(exhaust(&server, STRANGER).await, 10);
    // The right password comes too late from there, and in time from elsewhere.
    let right = || login(PASSWORD);
    let answer = from(&server, STRANGER, "/_matrix/client/v3/login", "", right()).await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    let answer = from(&server, OWNER, "/_matrix/client/v3/login", "", right()).await;
    assert_eq!(answer.status, StatusCode::OK);
    // Nor do they lock out a device that is logged in, wherever it is.
    assert_eq!(delete_device(&server, &alice, PASSWORD).await, StatusCode::OK);
}

#[tokio::test]
async fn confirmation_tries_as_many_passwords_as_a_login_and_no_more() {
    let server = server().await;
    let alice = server.register("alice").await;
    let other = server.log_in(&alice).await;
    let mut tried = 0;
    loop {
        match delete_device(&server, &alice, "wrong").await {
            StatusCode::UNAUTHORIZED => tried += 1,
            status => break assert_eq!(status, StatusCode::TOO_MANY_REQUESTS),
        }
        assert!(tried <= 10, "any number of passwords can be tried");
    }
    assert_eq!(tried, 10);
    assert_eq!(delete_device(&server, &alice, PASSWORD).await, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(delete_device(&server, &other, PASSWORD).await, StatusCode::OK);
}

#[tokio::test]
async fn tries_at_many_accounts_are_counted_by_address() {
    let server = TestServer::start_with(|config| {
        config.limits.enabled = true;
        config.limits.login = Rate { per_second: 0.1, burst: 15 };
    })
    .await;
    let mut statuses = Vec::new();
    for number in 0..16 {
        let mut body = login("wrong");
        body["identifier"]["user"] = format!("user{number}").into();
        let answer = from(&server, STRANGER, "/_matrix/client/v3/login", "", body).await;
        statuses.push(answer.status.as_u16());
    }
    assert_eq!(statuses.pop(), Some(429));
    assert!(statuses.iter().all(|status| *status == 403), "{statuses:?}");
}

#[tokio::test]
async fn requests_with_a_token_that_is_not_good_are_counted_by_address() {
    let server = server().await;
    let alice = server.register("alice").await;
    let whoami = "/_matrix/client/v3/account/whoami";
    let mut refused = 0;
    loop {
        let answer = from(&server, STRANGER, whoami, &format!("guess{refused}"), Value::Null).await;
        if answer.status == StatusCode::TOO_MANY_REQUESTS {
            break;
        }
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        refused += 1;
        assert!(refused <= 100, "any number of tokens can be tried");
    }
    // A good token from there and a bad one from elsewhere are answered as ever.
    let answer = from(&server, STRANGER, whoami, &alice.token, Value::Null).await;
    assert_eq!(answer.status, StatusCode::OK);
    let answer = from(&server, OWNER, whoami, "guess", Value::Null).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn the_validity_of_registration_tokens_is_asked_as_often_as_one_can_register() {
    let server = TestServer::start_with(|config| {
        config.limits.enabled = true;
        config.registration.mode = Mode::Token;
        config.registration.token = "letmein".to_owned().into();
        config.limits.registration = Rate { per_second: 0.1, burst: 3 };
    })
    .await;
    let path = "/_matrix/client/v1/register/m.login.registration_token/validity?token=guess";
    for expected in [200, 200, 200, 429] {
        let answer = from(&server, STRANGER, path, "", Value::Null).await;
        assert_eq!(answer.status.as_u16(), expected);
    }
}
