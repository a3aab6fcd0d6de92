//! Media ids that are reserved before the upload (`/create`).

use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::{Value, json};
use wick_harness::{Answer, Body, TestServer, User};

use super::{CREATE, V1, call, download, errcode, get, media_of, told};

const BEGINNING: u64 = 1_790_000_000_000;

async fn create(server: &TestServer, user: &User) -> Answer {
    call(server, (Method::POST, CREATE, &user.token), &[], "{}").await
}

async fn reserve(server: &TestServer, user: &User) -> String {
    let answer = create(server, user).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    media_of(&answer.body)
}

async fn put(server: &TestServer, user: &User, media: &str, file: &'static str) -> Answer {
    let path = format!("/_matrix/media/v3/upload/{media}?filename=a.txt");
    let headers = [("content-type", "text/plain")];
    call(server, (Method::PUT, &path, &user.token), &headers, file).await
}

#[tokio::test]
async fn a_reserved_media_id_takes_one_upload_of_its_user() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let answer = create(&server, &alice).await;
    assert_eq!(answer.body["unused_expires_at"], BEGINNING + 86_400_000);
    let media = media_of(&answer.body);
    let answer = put(&server, &bob, &media, "bob's").await;
    assert_eq!((answer.status, errcode(&answer)), (StatusCode::FORBIDDEN, "M_FORBIDDEN"));
    let answer = put(&server, &alice, &media, "alice's").await;
    assert_eq!((answer.status, &answer.body), (StatusCode::OK, &json!({})));
    let answer = put(&server, &alice, &media, "again").await;
    let conflict = (StatusCode::CONFLICT, "M_CANNOT_OVERWRITE_MEDIA");
    assert_eq!((answer.status, errcode(&answer)), conflict);
    assert_eq!(put(&server, &bob, &media, "bob's").await.status, StatusCode::FORBIDDEN);
    let answer = download(&server, &bob, &media).await;
    assert_eq!(answer.bytes, "alice's");
    assert_eq!(told(&answer, "content-disposition"), "inline; filename=a.txt");
}

#[tokio::test]
async fn of_two_uploads_at_once_one_wins() {
    let server = TestServer::start().await;
    let user = server.register("alice").await;
    let media = reserve(&server, &user).await;
    let (one, two) =
        tokio::join!(put(&server, &user, &media, "one"), put(&server, &user, &media, "two"));
    let mut statuses = [one.status, two.status];
    statuses.sort();
    assert_eq!(statuses, [StatusCode::OK, StatusCode::CONFLICT]);
    let kept = if one.status == StatusCode::OK { "one" } else { "two" };
    assert_eq!(download(&server, &user, &media).await.bytes, kept);
    super::settle(&server, 1).await;
}

#[tokio::test]
async fn a_media_id_that_was_never_reserved_takes_no_upload() {
    let server = TestServer::start().await;
    let user = server.register("alice").await;
    for media in ["localhost/AAAA", "elsewhere.test/AAAA"] {
        let answer = put(&server, &user, media, "file").await;
        assert_eq!((answer.status, errcode(&answer)), (StatusCode::NOT_FOUND, "M_NOT_FOUND"));
    }
}

#[tokio::test]
async fn a_reservation_expires_and_makes_room_for_another() {
    let server = TestServer::start_with(|config| {
        config.media.max_pending = 2;
        config.media.pending_lifetime = wick_core::config::Period::from_secs(100);
    })
    .await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let first = reserve(&server, &alice).await;
    server.clock.advance(Duration::from_secs(40)).await;
    let second = reserve(&server, &alice).await;
    let answer = create(&server, &alice).await;
    assert_eq!(
        (answer.status, errcode(&answer)),
        (StatusCode::TOO_MANY_REQUESTS, "M_LIMIT_EXCEEDED")
    );
    assert_eq!(answer.body["retry_after_ms"], 60_000);
    reserve(&server, &bob).await;
    server.clock.advance(Duration::from_secs(60)).await;
    assert_eq!(put(&server, &alice, &first, "late").await.status, StatusCode::NOT_FOUND);
    assert_eq!(download(&server, &alice, &first).await.status, StatusCode::NOT_FOUND);
    reserve(&server, &alice).await;
    assert_eq!(put(&server, &alice, &second, "in time").await.status, StatusCode::OK);
    // An upload makes room, too.
    reserve(&server, &alice).await;
    assert_eq!(create(&server, &alice).await.status, StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test]
async fn a_download_waits_for_the_upload_as_long_as_it_says() {
    let server = TestServer::start().await;
    let user = server.register("alice").await;
    let media = reserve(&server, &user).await;
    for (query, seconds) in [("", 20), ("?timeout_ms=5000", 5), ("?timeout_ms=3600000", 60)] {
        let path = format!("{V1}/download/{media}{query}");
        let waiting = async {
            let mut answer = std::pin::pin!(get(&server, &user, &path));
            let early = server.clock.advance(Duration::from_millis(seconds * 1000 - 1));
            tokio::select! {
                biased;
                answer = &mut answer => panic!("{query}: answered too early: {}", answer.body),
                () = early => {}
            }
            tokio::join!(answer, server.clock.advance(Duration::from_millis(1))).0
        };
        let answer = waiting.await;
        let expected = (StatusCode::GATEWAY_TIMEOUT, "M_NOT_YET_UPLOADED");
        assert_eq!((answer.status, errcode(&answer)), expected, "{query}");
    }
    let path = format!("{V1}/download/{media}");
    let answer = async {
        let upload = put(&server, &user, &media, "here");
        tokio::join!(get(&server, &user, &path), upload).0
    };
    assert_eq!(answer.await.bytes, "here");
}

#[tokio::test]
async fn a_request_that_waits_for_an_upload_does_not_hold_up_the_end_of_the_server() {
    let mut server = TestServer::start().await;
    let user = server.register("alice").await;
    let media = reserve(&server, &user).await;
    let services = std::sync::Arc::clone(server.services());
    let path = format!("{V1}/download/{media}");
    let ((), answer) = tokio::join!(
        async {
            tokio::task::yield_now().await;
            services.supervisor.stopping().cancel();
        },
        get(&server, &user, &path),
    );
    assert_eq!(answer.status, StatusCode::GATEWAY_TIMEOUT);
    server.stop().await;
}

#[tokio::test]
async fn reserved_media_ids_survive_a_restart_until_they_expire() {
    let mut server = TestServer::start().await;
    let user = server.register("alice").await;
    let (kept, expired) = (reserve(&server, &user).await, reserve(&server, &user).await);
    server.restart().await;
    assert_eq!(put(&server, &user, &kept, "file").await.status, StatusCode::OK);
    server.clock.advance(Duration::from_secs(25 * 3600)).await;
    let answer = call(
        &server,
        (Method::GET, &format!("{V1}/download/{expired}"), &user.token),
        &[],
        Body::empty(),
    )
    .await;
    assert_eq!(
        (answer.status, &answer.body["errcode"]),
        (StatusCode::NOT_FOUND, &Value::from("M_NOT_FOUND"))
    );
}
