//! Media of another server.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use axum::{Router, response::IntoResponse, routing::get};
use http::{Method, Request, StatusCode, header};
use serde_json::json;
use wick_harness::{Answer, Body, Gate, TestNetwork, TestServer, User};

use crate::media::pictures::png;

const A: &str = "a.test";
const B: &str = "b.test";

/// Alice on one server, which has her files, and Bob on another.
struct Pair {
    network: TestNetwork,
    gate: Gate,
    a: TestServer,
    b: TestServer,
    alice: User,
    bob: User,
}

impl Pair {
    async fn start() -> Self {
        let network = TestNetwork::new();
        let gate = Gate::default();
        let a = TestServer::start_from(network.options(A)).await;
        gate.open(&a);
        network.join(A, gate.routes()).await;
        let mut options = network.options(B);
        options.config.media.max_upload_megabytes = 1;
        let b = TestServer::start_from(options).await;
        network.join(B, b.router()).await;
        let (alice, bob) = (a.register("alice").await, b.register("bob").await);
        Self { network, gate, a, b, alice, bob }
    }

    /// Uploads a file of Alice's. Returns `server/media id`.
    async fn upload(&self, content_type: &str, file: Vec<u8>) -> String {
        let request = Request::builder()
            .method(Method::POST)
            .uri("/_matrix/media/v3/upload?filename=a%20file")
            .header(header::AUTHORIZATION, format!("Bearer {}", self.alice.token))
            .header(header::CONTENT_TYPE, content_type)
            .body(Body::from(file))
            .unwrap();
        let answer = self.a.send(request).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        answer.body["content_uri"].as_str().unwrap().strip_prefix("mxc://").unwrap().to_owned()
    }

    /// What Bob gets.
    async fn get(&self, path: &str) -> Answer {
        let request = Request::builder()
            .uri(format!("/_matrix/client/v1/media/{path}"))
            .header(header::AUTHORIZATION, format!("Bearer {}", self.bob.token))
            .body(Body::empty())
            .unwrap();
        self.b.send(request).await
    }
}

#[tokio::test]
async fn a_file_of_another_server_is_fetched_once_and_kept() {
    let pair = Pair::start().await;
    // What looks like JSON in it does not matter, nor what looks like the end of a part.
    let file = [b"\r\n--[[[[{{{{".repeat(1_000), vec![0, 255, 13, 10]].concat();
    let media = pair.upload("text/plain", file.clone()).await;
    for is_open in [true, false] {
        if !is_open {
            pair.gate.close();
        }
        let answer = pair.get(&format!("download/{media}")).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        assert_eq!(answer.bytes, file);
        assert_eq!(answer.headers[header::CONTENT_TYPE], "text/plain");
        let disposition = answer.headers[header::CONTENT_DISPOSITION].to_str().unwrap();
        assert!(disposition.starts_with("inline") && disposition.contains("a file"));
    }
}

#[tokio::test]
async fn a_thumbnail_of_a_picture_of_another_server_is_made() {
    let pair = Pair::start().await;
    let media = pair.upload("image/png", png(400, 400)).await;
    let answer = pair.get(&format!("thumbnail/{media}?width=32&height=32&method=crop")).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    assert_eq!(answer.headers[header::CONTENT_TYPE], "image/jpeg");
    assert!(answer.bytes.len() < png(400, 400).len());
}

#[tokio::test]
async fn what_another_server_does_not_have_or_is_too_large_is_not_kept() {
    let pair = Pair::start().await;
    for missing in ["a.test/unknown", "a.test/..%2F..%2Fversion", "b.test/unknown"] {
        let answer = pair.get(&format!("download/{missing}")).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{missing}: {}", answer.body);
        assert_eq!(answer.body["errcode"], "M_NOT_FOUND");
    }
    let answer = pair.get("download/dead.test/file").await;
    assert_eq!(answer.status, StatusCode::BAD_GATEWAY, "{}", answer.body);
    let media = pair.upload("text/plain", vec![b'a'; (1 << 20) + 1]).await;
    let answer = pair.get(&format!("download/{media}")).await;
    assert_eq!(answer.status, StatusCode::BAD_GATEWAY, "{}", answer.body);
}

#[tokio::test]
async fn a_server_without_the_new_endpoint_is_asked_by_the_old_one_and_once_for_all_who_wait() {
    let pair = Pair::start().await;
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let file = async move || {
        counted.fetch_add(1, Ordering::SeqCst);
        ([(header::CONTENT_TYPE, "text/plain")], "old").into_response()
    };
    let missing = async || {
        let body = json!({ "errcode": "M_UNRECOGNIZED", "error": "no such endpoint" });
        (StatusCode::NOT_FOUND, axum::Json(body))
    };
    let router = Router::new()
        .route("/_matrix/media/v3/download/old.test/file", get(file))
        .fallback(missing);
    pair.network.join("old.test", router).await;
    let get = || pair.get("download/old.test/file");
    let (one, other) = tokio::join!(get(), get());
    for answer in [one, other] {
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        assert_eq!(answer.bytes, "old");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn files_are_given_to_other_servers_that_sign_their_requests_alone() {
    let pair = Pair::start().await;
    let media = pair.upload("text/plain", b"file".to_vec()).await;
    let media_id = media.strip_prefix("a.test/").unwrap();
    let path = format!("/_matrix/federation/v1/media/download/{media_id}");
    let (status, body) = pair.a.get(&path, "").await;
    assert_eq!(status, StatusCode::UNAUTHORIZED, "{body}");
}
