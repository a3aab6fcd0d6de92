//! Media of another server.

use std::{
    convert::Infallible,
    fs, path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::Path,
    response::{IntoResponse, Response},
    routing::get,
};
use futures_util::{StreamExt, stream};
use http::{Method, Request, StatusCode, header};
use serde_json::json;
use tokio::sync::Notify;
use wick_core::config::Period;
use wick_database::{
    FaultAction, Range, Read,
    schema::media::{FILE_BY_HASH, REMOTE_MEDIA_BY_ID},
};
use wick_harness::{Answer, Body, FATES, Gate, Strike, TestNetwork, TestServer, User};
use wick_media::{Action, Which};

use crate::media::{act, files, pass_until, patiently, pictures::png, settle};

const A: &str = "a.test";
const B: &str = "b.test";

/// Alice on one server, which has her files, and Bob on another.
struct Pair {
    network: TestNetwork,
    /// Before Alice's server, and before Bob's.
    gate: Gate,
    gate_of_b: Gate,
    a: TestServer,
    b: TestServer,
    alice: User,
    bob: User,
}

impl Pair {
    async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    async fn start_with(change: impl FnOnce(&mut wick_harness::Options)) -> Self {
        let network = TestNetwork::new();
        let gate = Gate::default();
        let a = TestServer::start_from(network.options(A)).await;
        gate.open(&a);
        network.join(A, gate.routes()).await;
        let mut options = network.options(B);
        options.config.media.max_upload_megabytes = 1;
        change(&mut options);
        let b = TestServer::start_from(options).await;
        let gate_of_b = Gate::default();
        gate_of_b.open(&b);
        network.join(B, gate_of_b.routes()).await;
        let (alice, bob) = (a.register("alice").await, b.register("bob").await);
        Self { network, gate, gate_of_b, a, b, alice, bob }
    }

    /// Crashes Bob's server and starts it again.
    async fn crash(&mut self) {
        self.gate_of_b.close();
        self.b.crash().await;
        self.gate_of_b.open(&self.b);
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
    assert_eq!(answer.headers[header::CONTENT_TYPE], "image/png");
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
    for more in [1, 1 << 20] {
        let media = pair.upload("text/plain", vec![b'a'; (1 << 20) + more]).await;
        let answer = pair.get(&format!("download/{media}")).await;
        let seen = (answer.status, answer.body["errcode"].as_str());
        assert_eq!(seen, (StatusCode::BAD_GATEWAY, Some("M_TOO_LARGE")));
    }
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
async fn a_server_that_does_not_know_the_new_endpoint_may_refuse_it_in_any_words() {
    let pair = Pair::start().await;
    let refuse = async |Path(status): Path<u16>| (StatusCode::from_u16(status).unwrap(), "what?");
    let router = Router::new()
        .route("/_matrix/federation/v1/media/download/{id}", get(refuse))
        .route("/_matrix/media/v3/download/old.test/{id}", get(async || "old"));
    pair.network.join("old.test", router).await;
    for status in [400, 404, 405, 501, 403] {
        let answer = pair.get(&format!("download/old.test/{status}")).await;
        // A refusal for another reason does not mean that there is another endpoint.
        assert_eq!(answer.status == StatusCode::OK, status != 403, "{status}: {}", answer.body);
    }
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

const DOWNLOAD: &str = "/_matrix/federation/v1/media/download/file";

/// A body of the endpoint for servers, whose second part is what `parts` are together.
fn multipart(
    head: &str,
    parts: Vec<Bytes>,
    then: impl StreamExt<Item = Bytes> + Send + 'static,
) -> Response {
    let begin =
        format!("\r\n--b\r\nContent-Type: application/json\r\n\r\n{{}}\r\n--b\r\n{head}\r\n\r\n");
    let all = stream::iter([Bytes::from(begin)]).chain(stream::iter(parts)).chain(then);
    let body = Body::from_stream(all.map(Ok::<_, Infallible>));
    ([(header::CONTENT_TYPE, "multipart/mixed; boundary=b")], body).into_response()
}

fn end() -> impl StreamExt<Item = Bytes> + Send + 'static {
    stream::iter([Bytes::from_static(b"\r\n--b--\r\n")])
}

#[tokio::test]
async fn a_file_that_never_ends_is_given_up_at_the_size_of_an_upload_and_one_that_breaks_off_too() {
    let pair = Pair::start().await;
    let endless = async || {
        let zeros = stream::repeat(Bytes::from(vec![0; 10_000]));
        multipart("Content-Type: a/b", Vec::new(), zeros)
    };
    pair.network.join("endless.test", Router::new().route(DOWNLOAD, get(endless))).await;
    let answer = pair.get("download/endless.test/file").await;
    assert_eq!(answer.status, StatusCode::BAD_GATEWAY, "{}", answer.body);
    assert_eq!(answer.body["errcode"], "M_TOO_LARGE");
    let broken =
        async || multipart("Content-Type: a/b", vec![Bytes::from("half")], stream::empty());
    pair.network.join("broken.test", Router::new().route(DOWNLOAD, get(broken))).await;
    let none = async || ([(header::CONTENT_TYPE, "text/plain")], "no parts").into_response();
    pair.network.join("none.test", Router::new().route(DOWNLOAD, get(none))).await;
    for media in ["broken.test/file", "none.test/file"] {
        let answer = pair.get(&format!("download/{media}")).await;
        assert_eq!(answer.status, StatusCode::BAD_GATEWAY, "{media}: {}", answer.body);
    }
    settle(&pair.b, 0).await;
}

/// Bytes of a body that have been asked for, and the most of them that were not in the store at that time.
#[derive(Default)]
struct Behind {
    sent: AtomicUsize,
    most: AtomicUsize,
}

#[tokio::test]
async fn a_large_file_is_stored_while_it_arrives() {
    const MEGABYTE: usize = 1 << 20;
    const MEGABYTES: usize = 96;
    let pair = Pair::start_with(|options| options.config.media.max_upload_megabytes = 100).await;
    let (behind, store) = (Arc::new(Behind::default()), pair.b.folder().join("data/media"));
    let counted = Arc::clone(&behind);
    let large = async move || {
        let megabytes = stream::iter(0..MEGABYTES).map(move |_| {
            let stored = bytes_in(&store);
            let sent = counted.sent.fetch_add(MEGABYTE, Ordering::SeqCst);
            counted.most.fetch_max(sent.saturating_sub(stored), Ordering::SeqCst);
            Bytes::from(vec![b'a'; MEGABYTE])
        });
        multipart("Content-Type: a/b", Vec::new(), megabytes.chain(end()))
    };
    pair.network.join("large.test", Router::new().route(DOWNLOAD, get(large))).await;
    let answer = pair.get("download/large.test/file").await;
    assert_eq!((answer.status, answer.bytes.len()), (StatusCode::OK, MEGABYTES * MEGABYTE));
    // The rest is in the buffers of the connection.
    let most = behind.most.load(Ordering::SeqCst);
    assert!(most < 32 * MEGABYTE, "{most} bytes were on the way");
}

/// Bytes of all files below a folder.
fn bytes_in(folder: &path::Path) -> usize {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => bytes_in(&entry.path()),
        Ok(metadata) => usize::try_from(metadata.len()).unwrap(),
        // It has been renamed or removed meanwhile.
        Err(_) => 0,
    };
    entries.map(size).sum()
}

#[tokio::test]
async fn a_file_that_stops_arriving_is_given_up() {
    let pair = Pair::start().await;
    let asked = Arc::new(Notify::new());
    let noting = Arc::clone(&asked);
    let stuck = async move || {
        noting.notify_one();
        multipart("Content-Type: a/b", vec![Bytes::from(vec![0; 300_000])], stream::pending())
    };
    pair.network.join("stuck.test", Router::new().route(DOWNLOAD, get(stuck))).await;
    let request = pair.get("download/stuck.test/file");
    let give_up = async {
        asked.notified().await;
        // The first of it is there.
        settle(&pair.b, 1).await;
    };
    let mut request = std::pin::pin!(request);
    tokio::select! {
        answer = &mut request => panic!("{}", answer.body),
        () = give_up => {}
    }
    let answer = patiently(&pair.b, request).await;
    assert_eq!(answer.status, StatusCode::BAD_GATEWAY, "{}", answer.body);
    settle(&pair.b, 0).await;
}

#[tokio::test]
async fn a_fetch_goes_on_if_its_client_hangs_up() {
    let pair = Pair::start().await;
    let (asked, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (noting, waiting) = (Arc::clone(&asked), Arc::clone(&go_on));
    let slow = async move || {
        noting.notify_one();
        waiting.notified().await;
        multipart("Content-Type: a/b", vec![Bytes::from("slow")], end())
    };
    pair.network.join("slow.test", Router::new().route(DOWNLOAD, get(slow))).await;
    tokio::select! {
        answer = pair.get("download/slow.test/file") => panic!("{}", answer.body),
        () = asked.notified() => {}
    }
    go_on.notify_one();
    // It is not requested a second time: nothing would release that request.
    let answer = pair.get("download/slow.test/file").await;
    assert_eq!((answer.status, &*answer.bytes), (StatusCode::OK, &b"slow"[..]));
}

/// A server that refers to `location`.
async fn refer(network: &TestNetwork, name: &str, location: String) {
    let refer = async move || multipart(&format!("Location: {location}"), Vec::new(), end());
    network.join(name, Router::new().route(DOWNLOAD, get(refer))).await;
}

#[tokio::test]
async fn a_server_can_refer_to_another_address_but_not_to_one_that_is_denied() {
    let pair = Pair::start_with(|options| {
        options.config.federation.deny_addresses = vec!["127.0.0.2/32".parse().unwrap()];
    })
    .await;
    let file = async || ([(header::CONTENT_TYPE, "text/plain")], "elsewhere").into_response();
    let moved = async || (StatusCode::FOUND, [(header::LOCATION, "/file")]).into_response();
    let around = async || (StatusCode::FOUND, [(header::LOCATION, "/around")]).into_response();
    let router = Router::new()
        .route("/file", get(file))
        .route("/moved", get(moved))
        .route("/around", get(around));
    let port = pair.network.serve(&["files.test"], router).await.port();
    let at = |path: &str| format!("https://files.test:{port}/{path}");
    for (name, location, status) in [
        ("direct.test", at("file"), StatusCode::OK),
        ("moved.test", at("moved"), StatusCode::OK),
        ("around.test", at("around"), StatusCode::BAD_GATEWAY),
        ("missing.test", at("missing"), StatusCode::NOT_FOUND),
        ("denied.test", format!("https://127.0.0.2:{port}/file"), StatusCode::NOT_FOUND),
        ("plain.test", format!("http://files.test:{port}/file"), StatusCode::BAD_GATEWAY),
        ("other.test", "file:///etc/passwd".to_owned(), StatusCode::BAD_GATEWAY),
    ] {
        refer(&pair.network, name, location).await;
        let answer = pair.get(&format!("download/{name}/file")).await;
        assert_eq!(answer.status, status, "{name}: {}", answer.body);
        if status == StatusCode::OK {
            assert_eq!(answer.bytes, "elsewhere");
            assert_eq!(answer.headers[header::CONTENT_TYPE], "text/plain");
        }
    }
}

#[tokio::test]
async fn the_deprecated_endpoints_serve_media_of_other_servers_unless_the_request_or_a_freeze_forbids()
 {
    let mut pair = Pair::start_with(|options| options.config.media.legacy = true).await;
    let media = pair.upload("image/png", png(200, 200)).await;
    let ask = async |pair: &Pair, path: String| {
        let request = Request::builder().uri(format!("/_matrix/media/v3/{path}"));
        pair.b.send(request.body(Body::empty()).unwrap()).await
    };
    let local = ask(&pair, format!("download/{media}?allow_remote=false")).await;
    assert_eq!(local.status, StatusCode::NOT_FOUND, "{}", local.body);
    let whole = ask(&pair, format!("download/{media}")).await;
    assert_eq!((whole.status, whole.bytes), (StatusCode::OK, png(200, 200).into()));
    let named = ask(&pair, format!("download/{media}/name.png")).await;
    assert!(named.headers[header::CONTENT_DISPOSITION].to_str().unwrap().contains("name.png"));
    let small = ask(&pair, format!("thumbnail/{media}?width=32&height=32&method=scale")).await;
    assert_eq!(
        (small.status, &small.headers[header::CONTENT_TYPE]),
        (StatusCode::OK, &"image/png".parse().unwrap())
    );
    pair.gate_of_b.close();
    pair.b.restart_with(|config| config.media.legacy_freeze = u64::MAX / 1000).await;
    let frozen = ask(&pair, format!("download/{media}")).await;
    assert_eq!(frozen.status, StatusCode::NOT_FOUND, "{}", frozen.body);
}

#[tokio::test]
async fn media_of_other_servers_is_listed_quarantined_and_deleted_and_can_be_fetched_again() {
    let pair = Pair::start().await;
    let media = pair.upload("text/plain", b"file".to_vec()).await;
    let path = format!("download/{media}");
    let first = pair.get(&path).await;
    assert_eq!(first.status, StatusCode::OK, "{}", first.body);
    let listed = pair.b.ask_admin("/media?remote=true").await;
    assert_eq!(listed["media"][0]["media_id"], media);
    assert_eq!((&listed["media"][0]["size"], &listed["media"][1]), (&json!(4), &json!(null)));
    assert_eq!(pair.b.ask_admin("/media?server_name=a.test").await, listed);
    assert_eq!(pair.b.ask_admin("/media?server_name=c.test").await["media"], json!([]));
    assert_eq!(
        pair.b.ask_admin(&format!("/media?remote=true&after={media}")).await["media"],
        json!([])
    );
    for (action, status) in [("quarantine", StatusCode::NOT_FOUND), ("release", StatusCode::OK)] {
        let answer = pair.b.admin(Method::POST, &format!("/media/{media}/{action}")).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        assert_eq!(pair.get(&path).await.status, status, "{action}");
    }
    let answer = pair.b.admin(Method::POST, "/media/delete?server_name=a.test").await;
    assert_eq!(answer.body, json!({ "done": 1 }));
    assert_eq!(files(&pair.b), [""; 0]);
    assert_eq!(pair.get(&path).await.bytes, "file");
    assert!(act(&pair.b, Action::Delete, &media).await.unwrap());
    assert!(!act(&pair.b, Action::Delete, &media).await.unwrap());
    assert_eq!(pair.b.services().media.list(&Which::Remote, None, 10).unwrap().len(), 0);
}

#[tokio::test]
async fn retention_spares_what_of_other_servers_is_downloaded_now_and_then() {
    const DAY: Duration = Duration::from_secs(86_400);
    let pair = Pair::start_with(|options| {
        options.config.media.retention_unused = Period::from_secs(10 * 86_400);
    })
    .await;
    let used = pair.upload("text/plain", b"used".to_vec()).await;
    let unused = pair.upload("text/plain", b"unused".to_vec()).await;
    for media in [&used, &unused] {
        assert_eq!(pair.get(&format!("download/{media}")).await.status, StatusCode::OK);
    }
    pair.gate.close();
    for _ in 0..4 {
        pair.b.clock.advance(8 * DAY).await;
        assert_eq!(pair.get(&format!("download/{used}")).await.bytes, "used");
    }
    pass_until(&pair.b, 1).await;
    assert_eq!(pair.get(&format!("download/{unused}")).await.status, StatusCode::BAD_GATEWAY);
    pair.b.clock.advance(11 * DAY).await;
    pass_until(&pair.b, 0).await;
}

/// Every kept media has its file, and nothing else is counted.
fn assert_sound(server: &TestServer) {
    let read = server.services().database.published();
    let kept = read.scan(&REMOTE_MEDIA_BY_ID, Range::all()).count();
    let mut references = 0;
    for row in read.scan(&FILE_BY_HASH, Range::all()) {
        let (_, file) = row.unwrap();
        references += file.references;
        assert!(files(server).contains(&file.name));
    }
    assert_eq!(references, kept as u64);
}

#[tokio::test]
async fn a_fetch_that_is_disturbed_at_any_commit_can_be_repeated_and_leaves_no_row_without_a_file()
{
    for fate in FATES {
        for number in 1.. {
            let strike = Strike::new();
            let mut pair =
                Pair::start_with(|options| options.fault = Some(Arc::clone(&strike) as _)).await;
            let media = pair.upload("text/plain", b"file".to_vec()).await;
            let path = format!("download/{media}");
            // What the first request and the first contact write is not the fetch's.
            assert_eq!(pair.get("download/a.test/unknown").await.status, StatusCode::NOT_FOUND);
            strike.at(number, fate);
            let answer = pair.get(&path).await;
            if !strike.has_struck() {
                assert_eq!((number > 1, &*answer.bytes), (true, &b"file"[..]), "{}", answer.body);
                break;
            }
            if fate != FaultAction::Fail {
                pair.crash().await;
            }
            assert_sound(&pair.b);
            let again = pair.get(&path).await;
            assert_eq!(
                (again.status, &*again.bytes),
                (StatusCode::OK, &b"file"[..]),
                "{}",
                again.body
            );
            assert_sound(&pair.b);
            // What a crash has left is swept.
            pass_until(&pair.b, 1).await;
            assert_eq!(pair.get(&path).await.bytes, "file");
        }
    }
}
