//! What holds for every endpoint: errors for what cannot be read, unknown paths, web clients.

use http::{Method, Request, StatusCode, header};
use serde_json::{Value, json};
use wick_harness::TestServer;

fn errcode(body: &Value) -> &str {
    body["errcode"].as_str().unwrap_or_default()
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
