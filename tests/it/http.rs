//! What holds for every endpoint: errors for what cannot be read, unknown paths, web clients.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use hyper::body::{Body as HttpBody, Frame};
use serde_json::{Value, json};
use wick_api::Peer;
use wick_core::config::Rate;
use wick_database::{Fault, FaultAction};
use wick_harness::{Body, Options, TestServer};

fn errcode(body: &Value) -> &str {
    body.get("errcode").and_then(Value::as_str).unwrap_or_default()
}

#[tokio::test]
async fn a_path_that_nobody_knows_is_404_unrecognized() {
    let server = TestServer::start().await;
    for path in [
        "/",
        "/_matrix/unknown",
        "/_matrix/client/unknown",
        "/_matrix/client/v3/unknown",
        "/_matrix/federation/unknown",
        "/_matrix/federation/v1/unknown",
        "/_matrix/key/unknown",
        "/_matrix/key/v2/unknown",
        "/_matrix/media/unknown",
        "/_matrix/media/v3/unknown",
    ] {
        for method in [Method::GET, Method::POST, Method::PUT] {
            let (status, body) = server.request(method, path, "", Value::Null).await;
            assert_eq!(
                (status, errcode(&body)),
                (StatusCode::NOT_FOUND, "M_UNRECOGNIZED"),
                "{path}"
            );
        }
    }
}

#[tokio::test]
async fn a_method_that_a_known_path_does_not_have_is_405_unrecognized() {
    let server = TestServer::start().await;
    for (method, path) in [
        (Method::PUT, "/_matrix/client/versions"),
        (Method::PATCH, "/_matrix/client/v3/capabilities"),
        (Method::PUT, "/_matrix/federation/v1/version"),
        (Method::PUT, "/_matrix/key/v2/query"),
        (Method::PATCH, "/_matrix/media/v3/upload"),
    ] {
        let (status, body) = server.request(method, path, "", Value::Null).await;
        let expected = (StatusCode::METHOD_NOT_ALLOWED, "M_UNRECOGNIZED");
        assert_eq!((status, errcode(&body)), expected, "{path}");
    }
}

#[tokio::test]
async fn an_endpoint_of_the_specification_that_is_not_served_is_404_unrecognized() {
    let server = TestServer::start().await;
    let (status, body) = server.get("/_matrix/federation/v1/version", "").await;
    assert_eq!((status, errcode(&body)), (StatusCode::NOT_FOUND, "M_UNRECOGNIZED"));
}

#[tokio::test]
async fn every_answer_may_be_read_by_web_clients_of_any_origin() {
    let server = TestServer::start().await;
    for path in ["/_matrix/client/versions", "/_matrix/client/v3/capabilities", "/nowhere"] {
        let request = Request::get(path).header(header::ORIGIN, "https://web.test");
        let answer = server.send(request.body(Default::default()).unwrap()).await;
        assert_eq!(answer.headers[header::ACCESS_CONTROL_ALLOW_ORIGIN], "*", "{path}");
    }
}

#[tokio::test]
async fn a_browser_is_told_beforehand_what_it_may_send() {
    let server = TestServer::start().await;
    let request = Request::options("/_matrix/client/v3/rooms/!a:b/send/m.room.message/1")
        .header(header::ORIGIN, "https://web.test")
        .header(header::ACCESS_CONTROL_REQUEST_METHOD, "PUT");
    let answer = server.send(request.body(Default::default()).unwrap()).await;
    assert_eq!(answer.status, StatusCode::OK);
    let methods = answer.headers[header::ACCESS_CONTROL_ALLOW_METHODS].to_str().unwrap();
    for method in ["GET", "POST", "PUT", "DELETE", "OPTIONS"] {
        assert!(methods.contains(method), "{methods}");
    }
    let headers = answer.headers[header::ACCESS_CONTROL_ALLOW_HEADERS].to_str().unwrap();
    for name in ["x-requested-with", "content-type", "authorization"] {
        assert!(headers.contains(name), "{headers}");
    }
}

#[tokio::test]
async fn head_is_get_without_the_body() {
    let server = TestServer::start().await;
    let request = Request::head("/_matrix/client/versions").body(Default::default()).unwrap();
    let answer = server.send(request).await;
    assert_eq!((answer.status, answer.body), (StatusCode::OK, Value::Null));
    assert_ne!(answer.headers[header::CONTENT_LENGTH], "0");
}

#[tokio::test]
async fn a_token_that_is_missing_and_one_that_is_unknown_are_told_apart() {
    let server = TestServer::start().await;
    let path = "/_matrix/client/v3/capabilities";
    let (status, body) = server.get(path, "").await;
    assert_eq!((status, errcode(&body)), (StatusCode::UNAUTHORIZED, "M_MISSING_TOKEN"));
    let (status, body) = server.get(path, "nonsense").await;
    assert_eq!((status, errcode(&body)), (StatusCode::UNAUTHORIZED, "M_UNKNOWN_TOKEN"));
    let (status, body) = server.get(&format!("{path}?access_token=nonsense"), "").await;
    assert_eq!((status, errcode(&body)), (StatusCode::UNAUTHORIZED, "M_UNKNOWN_TOKEN"));
}

#[tokio::test]
async fn the_base_url_is_announced_only_if_it_is_configured() {
    let path = "/.well-known/matrix/client";
    let (status, body) = TestServer::start().await.get(path, "").await;
    assert_eq!((status, errcode(&body)), (StatusCode::NOT_FOUND, "M_NOT_FOUND"));
    let url = "https://matrix.example.org";
    let server =
        TestServer::start_with(|config| config.server.well_known_client = url.to_owned()).await;
    let (_, body) = server.get(path, "").await;
    assert_eq!(body, json!({ "m.homeserver": { "base_url": url } }));
}

#[tokio::test]
async fn versions_announce_that_events_can_expire() {
    let server = TestServer::start().await;
    let (status, body) = server.get("/_matrix/client/versions", "").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(body["unstable_features"]["org.matrix.msc4140.will_expire"], true);
    assert!(body["versions"].as_array().unwrap().contains(&json!("v1.1")));
}

#[tokio::test]
async fn the_server_is_healthy_after_a_restart_and_after_a_crash() {
    let mut server = TestServer::start().await;
    server.restart().await;
    assert_eq!(server.get("/_wick/health", "").await.1["status"], "ok");
    server.crash().await;
    assert_eq!(server.get("/_wick/health", "").await.1["status"], "ok");
}

#[tokio::test]
async fn health_says_whether_a_write_would_work() {
    let strike = Arc::new(Switch::default());
    let mut options = Options::lenient();
    options.fault = Some(strike.clone());
    let server = TestServer::start_from(options).await;
    let health = async || {
        let (status, body) = server.get("/_wick/health", "").await;
        (status, body["status"].clone())
    };
    assert_eq!(health().await, (StatusCode::OK, json!("ok")));
    strike.0.store(true, Ordering::Relaxed);
    assert_eq!(health().await, (StatusCode::OK, json!("ok")), "it is asked once a second");
    server.clock.advance(Duration::from_secs(1)).await;
    assert_eq!(health().await, (StatusCode::SERVICE_UNAVAILABLE, json!("read-only")));
    strike.0.store(false, Ordering::Relaxed);
    server.clock.advance(Duration::from_secs(1)).await;
    assert_eq!(health().await, (StatusCode::OK, json!("ok")));
}

/// Lets every commit fail while it is on.
#[derive(Default)]
struct Switch(AtomicBool);

impl Fault for Switch {
    fn before_commit(&self, _: u64) -> FaultAction {
        if self.0.load(Ordering::Relaxed) { FaultAction::Fail } else { FaultAction::Proceed }
    }
}

async fn send_body(server: &TestServer, body: &'static [u8]) -> (StatusCode, String) {
    let request = Request::post("/_matrix/client/v3/login").body(body.into()).expect("a request");
    let answer = server.send(request).await;
    (answer.status, errcode(&answer.body).to_owned())
}

#[tokio::test]
async fn a_body_that_cannot_be_read_is_refused_by_what_is_wrong_with_it() {
    let server = TestServer::start().await;
    let bad_request = |errcode: &str| (StatusCode::BAD_REQUEST, errcode.to_owned());
    for body in [&b""[..], b"{", b"hello", b"{\"a\": }", b"{\"type\": \"\xff\"}", b"{} {}", b"\xff"]
    {
        assert_eq!(send_body(&server, body).await, bad_request("M_NOT_JSON"), "{body:?}");
    }
    for body in [&b"{}"[..], b"[]", b"null", b"\"text\"", b"7", b"{\"type\": 7}"] {
        assert_eq!(send_body(&server, body).await, bad_request("M_BAD_JSON"), "{body:?}");
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused() {
    let server = TestServer::start_with(|config| config.server.max_body_kilobytes = 64).await;
    let too_large = (StatusCode::PAYLOAD_TOO_LARGE, "M_TOO_LARGE".to_owned());
    assert_eq!(send_body(&server, &[b' '; 64 * 1024 + 1]).await, too_large);
    let read = (StatusCode::BAD_REQUEST, "M_NOT_JSON".to_owned());
    assert_eq!(send_body(&server, &[b' '; 64 * 1024]).await, read);
}

#[tokio::test]
async fn a_body_where_nothing_is_needed_may_be_missing() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let (status, body) = server.post("/_matrix/client/v3/logout", &alice.token, Value::Null).await;
    assert_eq!((status, body), (StatusCode::OK, json!({})));
}

#[tokio::test]
async fn a_body_that_is_needed_may_not_be_missing() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let (_, room) = server.post("/_matrix/client/v3/createRoom", &alice.token, json!({})).await;
    let room = format!("/_matrix/client/v3/rooms/{}", room["room_id"].as_str().unwrap());
    for (method, path) in [
        (Method::POST, "/_matrix/client/v3/createRoom".to_owned()),
        (Method::PUT, format!("{room}/send/m.room.message/1")),
        (Method::PUT, format!("{room}/state/m.room.topic")),
        (Method::PUT, format!("{room}/state/m.room.topic/")),
        (Method::PUT, format!("{room}/state/m.room.topic/key")),
    ] {
        for delay in ["", "?org.matrix.msc4140.delay=1000"] {
            let path = if method == Method::PUT { format!("{path}{delay}") } else { path.clone() };
            let (status, body) =
                server.request(method.clone(), &path, &alice.token, Value::Null).await;
            let expected = (StatusCode::BAD_REQUEST, "M_NOT_JSON");
            assert_eq!((status, errcode(&body)), expected, "{path}");
        }
    }
}

#[tokio::test]
async fn a_list_that_is_too_long_is_refused_in_a_body_and_in_a_query() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let refused = (StatusCode::BAD_REQUEST, "M_INVALID_PARAM");
    let users: Vec<_> = (0..101).map(|n| format!("@user{n}:localhost")).collect();
    let body = json!({ "invite": users });
    let (status, body) = server.post("/_matrix/client/v3/createRoom", &alice.token, body).await;
    assert_eq!((status, errcode(&body)), refused, "{body}");
    let filter = json!({ "room": { "rooms": vec!["!a:b"; 1001] } });
    let path = format!("/_matrix/client/v3/user/{}/filter", alice.user_id);
    let (status, body) = server.post(&path, &alice.token, filter.clone()).await;
    assert_eq!((status, errcode(&body)), refused, "{body}");
    let query = crate::talk::filter(&filter);
    let (status, body) =
        server.get(&format!("/_matrix/client/v3/sync?{query}"), &alice.token).await;
    assert_eq!((status, errcode(&body)), refused, "{body}");
}

#[tokio::test]
async fn a_path_that_is_no_utf8_and_one_that_is_no_id_are_refused() {
    let server = TestServer::start().await;
    for path in ["/_matrix/client/v3/profile/%ff", "/_matrix/client/v3/profile/alice"] {
        let (status, body) = server.get(path, "").await;
        let expected = (StatusCode::BAD_REQUEST, "M_INVALID_PARAM");
        assert_eq!((status, errcode(&body)), expected, "{path}");
    }
}

#[tokio::test]
async fn an_endpoint_is_served_under_every_path_of_its_history() {
    let server = TestServer::start().await;
    for version in ["r0", "v3"] {
        let (status, _) = server.get(&format!("/_matrix/client/{version}/login"), "").await;
        assert_eq!(status, StatusCode::OK, "{version}");
    }
}

#[tokio::test]
async fn a_token_in_the_query_is_as_good_as_one_in_the_header() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let path = format!("/_matrix/client/v3/account/whoami?access_token={}", alice.token);
    assert_eq!(server.get(&path, "").await.1["user_id"], alice.user_id.as_str());
}

#[tokio::test]
async fn capabilities_say_within_which_limits_events_may_expire() {
    let server = TestServer::start_with(|config| config.expiry.max_running = 7).await;
    let alice = server.register("alice").await;
    let (_, body) = server.get("/_matrix/client/v3/capabilities", &alice.token).await;
    let capability = &body["capabilities"]["m.will_expire"];
    let expected =
        json!({ "enabled": true, "min_duration": 1, "max_duration": 86_400, "max_running": 7 });
    assert_eq!(*capability, expected);
    assert_eq!(body["capabilities"]["m.room_versions"]["default"], "12");
    assert_eq!(body["capabilities"]["m.change_password"], json!({ "enabled": true }));
}

async fn log_in_from(server: &TestServer, address: &str, forwarded: &str) -> (StatusCode, bool) {
    let address = address.parse().expect("an address");
    let body = json!({
        "type": "m.login.password", "password": "wrong",
        "identifier": { "type": "m.id.user", "user": "nobody" },
    });
    let mut request = Request::post("/_matrix/client/v3/login")
        .header("x-forwarded-for", forwarded)
        .body(body.to_string().into())
        .expect("a request");
    request.extensions_mut().insert(Peer::Address(address));
    let answer = server.send(request).await;
    let told = answer.headers.contains_key(header::RETRY_AFTER)
        && answer.body.get("retry_after_ms").is_some_and(Value::is_u64)
        && errcode(&answer.body) == "M_LIMIT_EXCEEDED";
    (answer.status, told)
}

#[tokio::test]
async fn who_asks_too_often_from_one_address_is_told_when_to_come_back() {
    let server = TestServer::start_with(|config| {
        config.limits.enabled = true;
        config.limits.login = Rate { per_second: 0.1, burst: 2 };
        config.server.trusted_proxies = vec!["10.0.0.1".parse().unwrap()];
    })
    .await;
    let forbidden = (StatusCode::FORBIDDEN, false);
    let limited = (StatusCode::TOO_MANY_REQUESTS, true);
    for expected in [forbidden, forbidden, limited] {
        assert_eq!(log_in_from(&server, "1.1.1.1", "9.9.9.9").await, expected);
    }
    // `X-Forwarded-For` is ignored from other addresses, and taken from the trusted proxy.
    assert_eq!(log_in_from(&server, "1.1.1.1", "8.8.8.8").await, limited);
    assert_eq!(log_in_from(&server, "10.0.0.1", "1.1.1.1").await, limited);
    assert_eq!(log_in_from(&server, "10.0.0.1", "8.8.8.8").await, forbidden);
    server.clock.advance(Duration::from_secs(10)).await;
    assert_eq!(log_in_from(&server, "1.1.1.1", "").await, forbidden);
}

/// A body that never comes.
struct Silence;

impl HttpBody for Silence {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Pending
    }
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for_long() {
    let server = TestServer::start().await;
    let request = Request::post("/_matrix/client/v3/login").body(Body::new(Silence)).unwrap();
    let (answer, ()) =
        tokio::join!(server.send(request), server.clock.advance(Duration::from_secs(60)));
    assert_eq!(answer.status, StatusCode::REQUEST_TIMEOUT);
}
