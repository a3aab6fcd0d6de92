//! From the name of a server to where it is reached, and what its certificate has to say.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use axum::{
    Json, Router,
    response::{IntoResponse, Redirect, Response},
    routing::get,
};
use http::{Request, header};
use serde_json::{Value, json};
use wick_core::RemoteReason;
use wick_harness::{Body, TestNetwork, TestServer};

use super::{Answer, counted, profile, reason};

/// Answers every request with the host that it names.
fn echo() -> Router {
    Router::new().fallback(async |request: Request<Body>| {
        let of_header = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
        let authority = request.uri().authority().map(ToString::to_string);
        Json(json!({ "host": authority.or_else(|| of_header.map(str::to_owned)) }))
    })
}

/// The host that requests to `name` name.
async fn host(server: &TestServer, name: &str) -> Value {
    profile(server, name, "@a:a.test").await.unwrap()["host"].clone()
}

/// Serves a well-known file of `host`, and counts how often it is read.
async fn well_known(
    network: &TestNetwork,
    host: &str,
    answer: impl Fn() -> Response + Clone + Send + Sync + 'static,
) -> Arc<AtomicUsize> {
    let (read, file) = counted(answer);
    let router = Router::new().route("/.well-known/matrix/server", get(file));
    let address = network.serve(&[host], router).await;
    network.set_port(host, address.port());
    read
}

fn delegates_to(name: &str) -> Response {
    Json(json!({ "m.server": name })).into_response()
}

#[tokio::test]
async fn every_kind_of_name_leads_to_its_server_and_is_what_the_request_names() {
    let network = TestNetwork::new();
    let server = TestServer::start_from(network.options("a.test")).await;
    let port = network.serve(&["port.test"], echo()).await.port();
    let literal = network.serve(&["127.0.0.1"], echo()).await.port();
    let service = network.serve(&["service.test", "old.test"], echo()).await.port();
    network.set_service("_matrix-fed._tcp.service.test", &[("elsewhere.test", service)]);
    network.set_service("_matrix._tcp.service.test", &[("wrong.test", port)]);
    network.set_service("_matrix._tcp.old.test", &[("elsewhere.test", service)]);
    let to_port = format!("port.test:{port}");
    let delegated = to_port.clone();
    well_known(&network, "delegating.test", move || delegates_to(&delegated)).await;
    well_known(&network, "serving.test", || delegates_to("service.test")).await;
    for (name, named) in [
        (&*to_port, &*to_port),
        (&format!("127.0.0.1:{literal}"), &format!("127.0.0.1:{literal}")),
        ("service.test", "service.test"),
        ("old.test", "old.test"),
        ("delegating.test", &to_port),
        ("serving.test", "service.test"),
    ] {
        assert_eq!(host(&server, name).await, named, "{name}");
    }
}

#[tokio::test]
async fn a_certificate_for_where_an_srv_record_leads_is_none_for_the_server() {
    let network = TestNetwork::new();
    let server = TestServer::start_from(network.options("a.test")).await;
    let target = network.serve(&["target.test"], echo()).await.port();
    network.set_service("_matrix-fed._tcp.b.test", &[("target.test", target)]);
    assert_eq!(reason(profile(&server, "b.test", "@b:b.test").await), RemoteReason::Unreachable);
    well_known(&network, "c.test", || delegates_to("target.test")).await;
    network.set_service("_matrix-fed._tcp.target.test", &[("target.test", target)]);
    assert_eq!(host(&server, "c.test").await, "target.test");
}

#[tokio::test]
async fn a_well_known_file_that_makes_no_sense_is_passed_over() {
    let network = TestNetwork::new();
    let server = TestServer::start_from(network.options("a.test")).await;
    let huge = json!({ "m.server": "wrong.test", "padding": "a".repeat(60_000) }).to_string();
    let answers: [(&str, Answer); 5] = [
        ("missing", Arc::new(|| http::StatusCode::NOT_FOUND.into_response())),
        ("html", Arc::new(|| "<html>".into_response())),
        ("name", Arc::new(|| delegates_to("not a name"))),
        ("huge", Arc::new(move || huge.clone().into_response())),
        ("loop", Arc::new(|| Redirect::temporary("/.well-known/matrix/server").into_response())),
    ];
    for (what, answer) in answers {
        let name = format!("{what}.test");
        network.join(&name, echo()).await;
        let read = well_known(&network, &name, move || answer()).await;
        assert_eq!(host(&server, &name).await, *name);
        let expected = if what == "loop" { 6 } else { 1 };
        assert_eq!(read.load(Ordering::SeqCst), expected, "{what}");
    }
}

#[tokio::test]
async fn a_well_known_file_is_read_behind_redirects_and_whatever_its_content_type() {
    let network = TestNetwork::new();
    let server = TestServer::start_from(network.options("a.test")).await;
    network.join("real.test", echo()).await;
    let elsewhere = Router::new().fallback(async || r#"{"m.server":"real.test"}"#);
    let port = network.serve(&["elsewhere.test"], elsewhere).await.port();
    let url = format!("https://elsewhere.test:{port}/file");
    well_known(&network, "b.test", move || Redirect::permanent(&url).into_response()).await;
    assert_eq!(host(&server, "b.test").await, "real.test");
    let plain = format!("http://elsewhere.test:{port}/file");
    well_known(&network, "c.test", move || Redirect::permanent(&plain).into_response()).await;
    network.join("c.test", echo()).await;
    assert_eq!(host(&server, "c.test").await, "c.test", "no redirect leads away from https");
}

#[tokio::test]
async fn a_well_known_file_is_remembered_as_its_headers_allow_and_holds_while_it_cannot_be_read() {
    let network = TestNetwork::new();
    let server = TestServer::start_from(network.options("a.test")).await;
    network.join("real.test", echo()).await;
    let broken = Arc::new(AtomicUsize::new(0));
    let is_broken = Arc::clone(&broken);
    let read = well_known(&network, "b.test", move || {
        if is_broken.load(Ordering::SeqCst) > 0 {
            return http::StatusCode::BAD_GATEWAY.into_response();
        }
        ([(header::CACHE_CONTROL, "max-age=600")], delegates_to("real.test")).into_response()
    })
    .await;
    let seconds = std::time::Duration::from_secs;
    for (pause, reads) in [(0, 1), (599, 1), (1, 2)] {
        server.clock.advance(seconds(pause)).await;
        assert_eq!(host(&server, "b.test").await, "real.test");
        assert_eq!(read.load(Ordering::SeqCst), reads, "after {pause} seconds");
    }
    broken.store(1, Ordering::SeqCst);
    // After a failure it is read again later each time.
    for (pause, reads) in [(600, 3), (59, 3), (1, 4), (119, 4), (1, 5)] {
        server.clock.advance(seconds(pause)).await;
        assert_eq!(host(&server, "b.test").await, "real.test");
        assert_eq!(read.load(Ordering::SeqCst), reads, "after {pause} seconds");
    }
}

#[tokio::test]
async fn no_request_goes_to_a_server_or_an_address_that_is_denied() {
    let network = TestNetwork::new();
    let mut options = network.options("a.test");
    options.config.federation.deny = vec!["*.evil.test".to_owned()];
    options.config.federation.deny_addresses = vec!["127.0.0.2".parse().unwrap()];
    let server = TestServer::start_from(options).await;
    network.join("b.evil.test", echo()).await;
    for name in ["b.evil.test", "127.0.0.2", "127.0.0.2:1", "[::ffff:127.0.0.2]:1", "a.test"] {
        let failed = profile(&server, name, "@b:b.test").await;
        assert_eq!(reason(failed), RemoteReason::Forbidden, "{name}");
    }
}

#[tokio::test]
async fn where_this_server_is_reached_is_announced_as_configured() {
    let network = TestNetwork::new();
    let mut server = TestServer::start_from(network.options("a.test")).await;
    let path = "/.well-known/matrix/server";
    let (status, body) = server.get(path, "").await;
    assert_eq!((status.as_u16(), &body["errcode"]), (404, &json!("M_NOT_FOUND")));
    server
        .restart_with(|config| config.server.well_known_server = "matrix.a.test:443".to_owned())
        .await;
    let (status, body) = server.get(path, "").await;
    assert_eq!((status.as_u16(), body), (200, json!({ "m.server": "matrix.a.test:443" })));
}
