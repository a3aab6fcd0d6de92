//! Accounts when commits fail or the process crashes: a change is there wholly or not at all, and the
//! client can always continue.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use http::StatusCode;
use serde_json::{Value, json};
use wick_database::{Fault, FaultAction};
use wick_harness::{Options, TestServer};

const REGISTER: &str = "/_matrix/client/v3/register";
const LOGIN: &str = "/_matrix/client/v3/login";
const REFRESH: &str = "/_matrix/client/v3/refresh";
const WHOAMI: &str = "/_matrix/client/v3/account/whoami";
const FATES: [FaultAction; 3] =
    [FaultAction::Fail, FaultAction::StopBefore, FaultAction::StopAfter];

/// Strikes once, at the commit after it was armed.
struct Strike {
    fate: FaultAction,
    armed: AtomicU64,
}

impl Fault for Strike {
    fn before_commit(&self, _number: u64) -> FaultAction {
        if self.armed.swap(0, Ordering::SeqCst) == 1 { self.fate } else { FaultAction::Proceed }
    }
}

async fn server(fate: FaultAction) -> (TestServer, Arc<Strike>) {
    let strike = Arc::new(Strike { fate, armed: AtomicU64::new(0) });
    let mut options = Options::default();
    options.config.limits.enabled = false;
    options.config.accounts.argon2_memory_kilobytes = 8;
    options.config.accounts.argon2_iterations = 1;
    options.config.registration.guests = true;
    options.fault = Some(Arc::clone(&strike) as Arc<dyn Fault>);
    (TestServer::start_from(options).await, strike)
}

/// Makes a request whose commit meets the fault, then starts the server again if it crashed.
async fn suffer(
    server: &mut TestServer,
    strike: &Strike,
    (path, token, body): (&str, &str, &Value),
) {
    strike.armed.store(1, Ordering::SeqCst);
    let (status, answer) = server.post(path, token, body.clone()).await;
    assert_eq!(strike.armed.load(Ordering::SeqCst), 0, "nothing was committed");
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR, "{answer}");
    if strike.fate != FaultAction::Fail {
        server.crash().await;
    }
}

fn registration() -> Value {
    json!({
        "username": "alice", "password": "password", "refresh_token": true,
        "auth": { "type": "m.login.dummy" },
    })
}

fn login() -> Value {
    json!({
        "type": "m.login.password", "password": "password",
        "identifier": { "type": "m.id.user", "user": "alice" },
    })
}

fn text<'a>(body: &'a Value, key: &str) -> &'a str {
    body.get(key).and_then(Value::as_str).unwrap_or_default()
}

#[tokio::test]
async fn an_account_is_made_wholly_or_not_at_all() {
    for fate in FATES {
        let (mut server, strike) = server(fate).await;
        suffer(&mut server, &strike, (REGISTER, "", &registration())).await;
        let (status, body) = server.post(REGISTER, "", registration()).await;
        let made = fate == FaultAction::StopAfter;
        let expected = if made { StatusCode::BAD_REQUEST } else { StatusCode::OK };
        assert_eq!(status, expected, "{body}");
        let (status, body) = server.post(LOGIN, "", login()).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        let token = text(&body, "access_token");
        let (_, devices) = server.get("/_matrix/client/v3/devices", token).await;
        assert_eq!(devices["devices"].as_array().unwrap().len(), 2);
        let profile = "/_matrix/client/v3/profile/@alice:localhost";
        assert_eq!(server.get(profile, "").await.1, json!({ "displayname": "alice" }));
        let data = "/_matrix/client/v3/user/@alice:localhost/account_data/m.push_rules";
        assert_eq!(server.get(data, token).await.0, StatusCode::OK);
    }
}

#[tokio::test]
async fn a_lost_refresh_can_be_tried_again() {
    for fate in FATES {
        let (mut server, strike) = server(fate).await;
        let (_, old) = server.post(REGISTER, "", registration()).await;
        let refresh = json!({ "refresh_token": old["refresh_token"] });
        suffer(&mut server, &strike, (REFRESH, "", &refresh)).await;
        assert_eq!(server.get(WHOAMI, text(&old, "access_token")).await.0, StatusCode::OK);
        let (status, new) = server.post(REFRESH, "", refresh.clone()).await;
        assert_eq!(status, StatusCode::OK, "{new}");
        assert_eq!(server.get(WHOAMI, text(&new, "access_token")).await.0, StatusCode::OK);
        assert_eq!(server.get(WHOAMI, text(&old, "access_token")).await.0.as_u16(), 401);
        assert_eq!(server.post(REFRESH, "", refresh).await.0.as_u16(), 401);
    }
}

#[tokio::test]
async fn the_first_use_of_a_new_token_can_be_tried_again() {
    for fate in FATES {
        let (mut server, strike) = server(fate).await;
        let (_, old) = server.post(REGISTER, "", registration()).await;
        let refresh = json!({ "refresh_token": old["refresh_token"] });
        let (_, new) = server.post(REFRESH, "", refresh.clone()).await;
        let filter = "/_matrix/client/v3/user/@alice:localhost/filter";
        let token = text(&new, "access_token");
        suffer(&mut server, &strike, (filter, token, &json!({}))).await;
        assert_eq!(server.get(WHOAMI, token).await.0, StatusCode::OK);
        assert_eq!(server.get(WHOAMI, text(&old, "access_token")).await.0.as_u16(), 401);
        assert_eq!(server.post(REFRESH, "", refresh).await.0.as_u16(), 401);
    }
}

#[tokio::test]
async fn a_lost_logout_leaves_a_session_or_none_and_never_half_of_one() {
    for fate in FATES {
        let (mut server, strike) = server(fate).await;
        let (_, session) = server.post(REGISTER, "", registration()).await;
        let token = text(&session, "access_token");
        assert_eq!(server.get(WHOAMI, token).await.0, StatusCode::OK);
        // Seen already: the next commit is the log-out.
        suffer(&mut server, &strike, ("/_matrix/client/v3/logout", token, &json!({}))).await;
        let over = fate == FaultAction::StopAfter;
        let expected = if over { StatusCode::UNAUTHORIZED } else { StatusCode::OK };
        assert_eq!(server.get(WHOAMI, token).await.0, expected);
        let refresh = json!({ "refresh_token": session["refresh_token"] });
        assert_eq!(server.post(REFRESH, "", refresh).await.0, expected);
    }
}

#[tokio::test]
async fn a_password_is_the_old_one_or_the_new_one() {
    for fate in FATES {
        let (mut server, strike) = server(fate).await;
        let (_, own) = server.post(REGISTER, "", registration()).await;
        let (_, other) = server.post(LOGIN, "", login()).await;
        let token = text(&own, "access_token");
        assert_eq!(server.get(WHOAMI, token).await.0, StatusCode::OK);
        let change = json!({ "new_password": "another password", "auth": login() });
        let path = "/_matrix/client/v3/account/password";
        suffer(&mut server, &strike, (path, token, &change)).await;
        let changed = fate == FaultAction::StopAfter;
        assert_eq!(server.post(LOGIN, "", login()).await.0 == StatusCode::OK, !changed);
        let (status, _) = server.get(WHOAMI, text(&other, "access_token")).await;
        assert_eq!(status == StatusCode::OK, !changed);
        assert_eq!(server.get(WHOAMI, token).await.0, StatusCode::OK);
    }
}

#[tokio::test]
async fn a_guest_becomes_a_full_account_wholly_or_not_at_all() {
    for fate in FATES {
        let (mut server, strike) = server(fate).await;
        let guest = server.register_guest().await;
        // Seen already: the next commit is the upgrade.
        assert_eq!(server.get(WHOAMI, &guest.token).await.1["is_guest"], json!(true));
        let name = guest.user_id.localpart();
        let upgrade = json!({
            "username": name, "password": "password", "guest_access_token": guest.token,
            "auth": { "type": "m.login.dummy" },
        });
        suffer(&mut server, &strike, (REGISTER, "", &upgrade)).await;
        let made = fate == FaultAction::StopAfter;
        let login = json!({
            "type": "m.login.password", "password": "password",
            "identifier": { "type": "m.id.user", "user": name },
        });
        assert_eq!(server.post(LOGIN, "", login.clone()).await.0 == StatusCode::OK, made);
        let (_, own) = server.get(WHOAMI, &guest.token).await;
        assert_eq!(own.get("is_guest").is_some(), !made, "{own}");
        assert_eq!(server.services().users.guest_total().unwrap(), u64::from(!made));
        let (status, body) = server.post(REGISTER, "", upgrade).await;
        let expected = if made { StatusCode::FORBIDDEN } else { StatusCode::OK };
        assert_eq!(status, expected, "{body}");
        assert_eq!(server.post(LOGIN, "", login).await.0, StatusCode::OK);
    }
}
