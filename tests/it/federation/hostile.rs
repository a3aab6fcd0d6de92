//! Servers that answer badly: every answer ends in an error, after bounded work, and holds up nothing else.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Json, Router,
    response::{IntoResponse, Redirect, Response},
};
use futures_util::stream;
use http::StatusCode;
use serde_json::json;
use wick_core::{Clock, RemoteReason};
use wick_harness::{Body, TestNetwork, TestServer};

use super::{Answer, counted, profile, reason};

const USER: &str = "@b:b.test";

/// A server that answers everything alike, and how often it did.
async fn answering(
    network: &TestNetwork,
    name: &str,
    answer: impl Fn() -> Response + Clone + Send + Sync + 'static,
) -> Arc<AtomicUsize> {
    let (asked, handler) = counted(answer);
    network.join(name, Router::new().fallback(handler)).await;
    asked
}

#[tokio::test]
async fn what_is_not_what_was_asked_for_is_an_error() {
    let network = TestNetwork::new();
    let server = TestServer::start_from(network.options("a.test")).await;
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(5_000), "]".repeat(5_000));
    let unreadable = RemoteReason::Unreadable;
    let answers: [(&str, Answer, RemoteReason); 4] = [
        ("html", Arc::new(|| "<html>".into_response()), unreadable.clone()),
        ("array", Arc::new(|| Json(json!([1])).into_response()), unreadable.clone()),
        ("deep", Arc::new(move || deep.clone().into_response()), unreadable),
        ("huge", Arc::new(|| "a".repeat((16 << 20) + 1).into_response()), RemoteReason::TooLarge),
    ];
    for (what, answer, expected) in answers {
        let name = format!("{what}.test");
        answering(&network, &name, move || answer()).await;
        let failed = profile(&server, &name, USER).await;
        assert_eq!(reason(failed), expected, "{what}");
    }
}

#[tokio::test]
async fn a_redirect_of_a_signed_request_is_not_followed() {
    let network = TestNetwork::new();
    let server = TestServer::start_from(network.options("a.test")).await;
    let asked =
        answering(&network, "b.test", || Redirect::temporary("/elsewhere").into_response()).await;
    let failed = reason(profile(&server, "b.test", USER).await);
    assert_eq!(failed, RemoteReason::Refused { status: 307, kind: None });
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_server_that_is_broken_is_asked_later_each_time_and_one_that_refuses_is_not() {
    let network = TestNetwork::new();
    let mut server = TestServer::start_from(network.options("a.test")).await;
    let broken = answering(&network, "b.test", || StatusCode::BAD_GATEWAY.into_response()).await;
    let refusing = answering(&network, "c.test", || StatusCode::FORBIDDEN.into_response()).await;
    for _ in 0..3 {
        assert!(matches!(
            reason(profile(&server, "c.test", USER).await),
            RemoteReason::Refused { .. }
        ));
    }
    assert_eq!(refusing.load(Ordering::SeqCst), 3);
    assert!(matches!(reason(profile(&server, "b.test", USER).await), RemoteReason::Refused { .. }));
    assert_eq!(reason(profile(&server, "b.test", USER).await), RemoteReason::BackingOff);
    server.restart().await;
    assert_eq!(reason(profile(&server, "b.test", USER).await), RemoteReason::BackingOff);
    assert_eq!(broken.load(Ordering::SeqCst), 1);
    // The first wait is about ten seconds, the second one about twenty.
    server.clock.advance(Duration::from_secs(13)).await;
    assert!(matches!(reason(profile(&server, "b.test", USER).await), RemoteReason::Refused { .. }));
    server.clock.advance(Duration::from_secs(13)).await;
    assert_eq!(reason(profile(&server, "b.test", USER).await), RemoteReason::BackingOff);
    assert_eq!(broken.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_word_from_a_server_ends_its_back_off() {
    let network = TestNetwork::new();
    let server = TestServer::start_from(network.options("a.test")).await;
    let peer = super::peer::Peer::join(&network, "b.test").await;
    // It publishes its keys and has no other endpoint, so nothing is broken; its connection is.
    network.set_service("_matrix-fed._tcp.b.test", &[("b.test", 9)]);
    assert_eq!(reason(profile(&server, "b.test", USER).await), RemoteReason::Unreachable);
    assert_eq!(reason(profile(&server, "b.test", USER).await), RemoteReason::BackingOff);
    let again = super::peer::Peer::join(&network, "b.test").await;
    let endpoint =
        (http::Method::GET, "/_matrix/federation/v1/query/profile?user_id=%40x%3Aa.test");
    let request = again.signed(endpoint, "a.test", &serde_json::Value::Null);
    assert_eq!(super::peer::answer(&server, request).await.0, 404);
    let failed = reason(profile(&server, "b.test", USER).await);
    assert!(matches!(failed, RemoteReason::Refused { status: 404, .. }), "{failed:?}");
    assert_eq!(peer.asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up_in_time() {
    let network = TestNetwork::new();
    let server = TestServer::start_from(network.options("a.test")).await;
    network.join("b.test", Router::new().fallback(std::future::pending::<()>)).await;
    let passing = async {
        loop {
            server.clock.advance(Duration::from_secs(1)).await;
        }
    };
    tokio::select! {
        failed = profile(&server, "b.test", USER) => {
            assert_eq!(reason(failed), RemoteReason::Unreachable);
        }
        () = passing => {}
    }
}

#[tokio::test]
async fn a_body_that_comes_slowly_or_without_an_end_is_given_up() {
    let network = TestNetwork::new();
    let server = TestServer::start_from(network.options("a.test")).await;
    let chunk = |size: usize| Ok::<_, std::io::Error>(vec![b' '; size]);
    answering(&network, "endless.test", move || {
        Body::from_stream(stream::repeat_with(move || chunk(1 << 20))).into_response()
    })
    .await;
    let failed = reason(profile(&server, "endless.test", USER).await);
    assert_eq!(failed, RemoteReason::TooLarge);
    // It keeps sending, a byte now and then.
    let clock = server.clock.clone();
    answering(&network, "slow.test", move || {
        let clock = clock.clone();
        let bytes = stream::unfold(clock, move |clock| async move {
            clock.sleep_until(clock.monotonic() + Duration::from_secs(1)).await;
            Some((chunk(1), clock))
        });
        Body::from_stream(bytes).into_response()
    })
    .await;
    let passing = async {
        loop {
            server.clock.advance(Duration::from_secs(1)).await;
        }
    };
    tokio::select! {
        failed = profile(&server, "slow.test", USER) => {
            assert_eq!(reason(failed), RemoteReason::Unreachable);
        }
        () = passing => {}
    }
}
