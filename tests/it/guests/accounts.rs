//! How the accounts of guests are made, become full ones, and end.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use axum::body::Body;
use http::Request;
use wick_api::Peer;
use wick_harness::Options;

use super::*;

const DAY: Duration = Duration::from_secs(86_400);

/// The registration that makes a guest a full account.
fn upgraded(guest: &User) -> Value {
    json!({
        "username": guest.user_id.localpart(), "password": "correct horse",
        "guest_access_token": guest.token, "auth": { "type": "m.login.dummy" },
    })
}

pub(super) async fn upgrade(server: &TestServer, guest: &User) -> Answer {
    register(server, upgraded(guest)).await
}

async fn register(server: &TestServer, body: Value) -> Answer {
    let (status, body) = server.post(REGISTER, "", body).await;
    Answer { status, body }
}

async fn is_guest(server: &TestServer, token: &str) -> bool {
    let (status, body) = server.get(&format!("{V3}/account/whoami"), token).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    body["is_guest"].as_bool().unwrap_or_default()
}

#[tokio::test]
async fn the_server_chooses_what_a_guest_is_called() {
    let server = server().await;
    let body = json!({
        "username": "visitor", "password": "x", "device_id": "MINE", "inhibit_login": true,
        "initial_device_display_name": "browser",
    });
    let (status, made) = server.post(&format!("{REGISTER}?kind=guest"), "", body).await;
    assert_eq!(status, StatusCode::OK, "{made}");
    assert_ne!(made["user_id"], "@visitor:localhost");
    assert_ne!(made["device_id"], "MINE");
    let token = made["access_token"].as_str().unwrap();
    assert!(is_guest(&server, token).await);
    let (_, devices) = server.get(&format!("{V3}/devices"), token).await;
    assert_eq!(devices["devices"].as_array().unwrap().len(), 1);
    assert_eq!(devices["devices"][0]["display_name"], "browser");
    let alice = server.register("alice").await;
    assert!(!is_guest(&server, &alice.token).await);
}

#[tokio::test]
async fn a_guest_becomes_a_full_account_with_the_same_user_id() {
    let server = server().await;
    let guest = server.register_guest().await;
    let refused = call(&server, &guest, (Method::POST, "createRoom"), json!({})).await;
    assert_eq!(refused.errcode(), FORBIDDEN);

    let body = upgrade(&server, &guest).await.ok();
    assert_eq!(body["user_id"], guest.user_id.as_str());
    assert_ne!(body["device_id"], guest.device_id.as_str());
    let token = body["access_token"].as_str().unwrap();
    for token in [token, &guest.token] {
        assert!(!is_guest(&server, token).await);
        let made = server.post(&format!("{V3}/createRoom"), token, json!({})).await;
        assert_eq!(made.0, StatusCode::OK, "{}", made.1);
    }
    let login = json!({
        "type": "m.login.password", "password": "correct horse",
        "identifier": { "type": "m.id.user", "user": guest.user_id },
    });
    let (status, body) = server.post(&format!("{V3}/login"), "", login).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert_eq!(server.services().users.guest_total().unwrap(), 0);
}

#[tokio::test]
async fn only_a_guest_becomes_a_full_account_and_only_under_its_own_name() {
    let server = server().await;
    let alice = server.register("alice").await;
    let guest = server.register_guest().await;
    let with = |key: &str, value: Value| {
        let mut body = upgraded(&guest);
        body[key] = value;
        body
    };
    for (body, expected) in [
        (with("username", Value::Null), (400, "M_MISSING_PARAM")),
        (with("username", "visitor".into()), (400, "M_INVALID_USERNAME")),
        (with("guest_access_token", "unknown".into()), (403, "M_FORBIDDEN")),
        (with("guest_access_token", Value::Null), (400, "M_USER_IN_USE")),
        (with("password", "short".into()), (400, "M_WEAK_PASSWORD")),
        (upgraded(&alice), (403, "M_FORBIDDEN")),
    ] {
        assert_eq!(register(&server, body.clone()).await.errcode(), expected, "{body}");
    }
    assert!(is_guest(&server, &guest.token).await);
    upgrade(&server, &guest).await.ok();
    assert_eq!(upgrade(&server, &guest).await.errcode(), (403, "M_FORBIDDEN"));
}

#[tokio::test]
async fn guests_do_not_become_full_accounts_where_registration_is_closed() {
    let server = TestServer::start_with(|config| {
        config.registration.guests = true;
        config.registration.mode = wick_core::config::Mode::Closed;
    })
    .await;
    let guest = server.register_guest().await;
    assert_eq!(upgrade(&server, &guest).await.errcode(), (403, "M_FORBIDDEN"));
}

#[tokio::test]
async fn a_repeated_upgrade_is_answered_again() {
    let server = server().await;
    let guest = server.register_guest().await;
    let mut body = upgraded(&guest);
    body["auth"] = Value::Null;
    let challenge = register(&server, body.clone()).await.body;
    body["auth"] = json!({ "type": "m.login.dummy", "session": challenge["session"] });
    let first = register(&server, body.clone()).await.ok();
    assert_eq!(register(&server, body).await.ok(), first);
}

#[tokio::test]
async fn an_upgraded_guest_is_one_no_more_after_a_restart() {
    let mut server = server().await;
    let guest = server.register_guest().await;
    let other = server.register_guest().await;
    upgrade(&server, &guest).await.ok();
    server.restart_with(|config| config.registration.guests = false).await;
    assert!(!is_guest(&server, &guest.token).await);
    assert!(is_guest(&server, &other.token).await);
}

#[tokio::test]
async fn guests_are_limited_by_address_and_in_number() {
    let mut options = Options::lenient();
    options.config.registration.guests = true;
    options.config.registration.max_guests = 3;
    options.config.limits.enabled = true;
    options.config.limits.registration.burst = 2;
    let server = TestServer::start_from(options).await;
    let register = async |address: [u8; 4]| {
        let request = Request::post(format!("{REGISTER}?kind=guest"))
            .extension(Peer::Address(IpAddr::from(address)))
            .body(Body::from("{}"));
        let answer = server.send(request.unwrap()).await;
        (answer.status.as_u16(), answer.body["errcode"].as_str().unwrap_or_default().to_owned())
    };
    let (made, limited) = ((200, String::new()), (429, "M_LIMIT_EXCEEDED".to_owned()));
    assert_eq!(register([10, 0, 0, 1]).await, made);
    assert_eq!(register([10, 0, 0, 1]).await, made);
    assert_eq!(register([10, 0, 0, 1]).await, limited);
    assert_eq!(register([10, 0, 0, 2]).await, made);
    assert_eq!(register([10, 0, 0, 2]).await, limited, "there are three");
}

#[tokio::test]
async fn guests_that_send_no_request_are_deactivated_and_leave_their_rooms() {
    let mut server = server().await;
    let alice = server.register("alice").await;
    let idle = server.register_guest().await;
    let upgraded = server.register_guest().await;
    upgrade(&server, &upgraded).await.ok();
    let busy = server.register_guest().await;
    let room = open_room(&server, &alice).await;
    let id = room.id.clone();
    join(&server, &idle, &room).await.ok();
    // Guests that are there already are removed even if there can be no new ones.
    server.restart_with(|config| config.registration.guests = false).await;
    for _ in 0..8 {
        assert!(is_guest(&server, &busy.token).await);
        server.clock.advance(DAY).await;
    }
    let path = format!("{V3}/rooms/{id}/state/m.room.member/{}", idle.user_id);
    let mut since = String::new();
    while server.get(&path, &alice.token).await.1["membership"] != "leave" {
        let (_, body) = server.get(&format!("{V3}/sync?timeout=1{since}"), &alice.token).await;
        since = format!("&since={}", body["next_batch"].as_str().unwrap());
    }
    let (status, _) = server.get(&format!("{V3}/account/whoami"), &idle.token).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(is_guest(&server, &busy.token).await);
    assert!(!is_guest(&server, &upgraded.token).await);
    assert_eq!(server.services().users.guest_total().unwrap(), 1);
}

#[tokio::test]
async fn administrators_see_the_guests() {
    let server = server().await;
    let guests = [server.register_guest().await, server.register_guest().await];
    let listed = server.ask_admin("/guests").await;
    let ids = listed["guests"].as_array().unwrap().iter();
    let ids: BTreeSet<_> = ids.map(|guest| guest["user_id"].as_str().unwrap()).collect();
    assert_eq!(ids, guests.iter().map(|guest| guest.user_id.as_str()).collect());
    assert_eq!(listed["total"], 2);
    assert!(listed["guests"][0]["created"].is_u64() && listed["guests"][0]["last_seen"].is_u64());
    assert_eq!(server.ask_admin("/guests?limit=1").await["guests"].as_array().unwrap().len(), 1);
}
