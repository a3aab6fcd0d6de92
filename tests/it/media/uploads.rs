//! Uploads: stored as they are or not at all, within the limits.

use std::{io, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{Method, StatusCode};
use serde_json::json;
use tokio::sync::mpsc;
use wick_core::config::Rate;
use wick_harness::{Body, TestServer};
use wick_media::{Action, Which};

use super::{
    UPLOAD, V1, call, download, errcode, files, get, must_upload, patiently, settle, told, upload,
};

fn megabyte(byte: u8) -> Vec<u8> {
    vec![byte; 1 << 20]
}

#[tokio::test]
async fn what_is_uploaded_is_downloaded_as_it_was() {
    let server = TestServer::start().await;
    let user = server.register("alice").await;
    for size in [0, 1, 65_536, 131_071, 131_072, 131_073, 1_000_003] {
        let file: Vec<u8> = (0..size).map(|n: u32| (n % 251).to_le_bytes()[0]).collect();
        let media = must_upload(&server, &user, "text/x-odd; charset=utf-8", &file).await;
        let answer = download(&server, &user, &media).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert!(answer.bytes == file, "{size} bytes came back as {}", answer.bytes.len());
        assert_eq!(told(&answer, "content-length"), file.len().to_string());
        assert_eq!(told(&answer, "content-type"), "text/x-odd; charset=utf-8");
    }
}

#[tokio::test]
async fn uploads_need_an_access_token() {
    let server = TestServer::start().await;
    let answer = call(&server, (Method::POST, UPLOAD, ""), &[], "file").await;
    assert_eq!((answer.status, errcode(&answer)), (StatusCode::UNAUTHORIZED, "M_MISSING_TOKEN"));
    assert_eq!(files(&server), [""; 0]);
}

#[tokio::test]
async fn a_file_that_is_too_large_is_refused_and_nothing_of_it_is_stored() {
    let server = TestServer::start_with(|config| config.media.max_upload_megabytes = 1).await;
    let user = server.register("alice").await;
    must_upload(&server, &user, "a/b", &megabyte(1)).await;
    let mut larger = megabyte(2);
    larger.push(2);
    let answer = upload(&server, &user, "a/b", &larger).await;
    assert_eq!((answer.status, errcode(&answer)), (StatusCode::PAYLOAD_TOO_LARGE, "M_TOO_LARGE"));
    // The length of this one is not announced, or it is announced wrongly.
    for headers in [&[][..], &[("content-length", "1")]] {
        let chunks = stream::iter(vec![Ok::<_, io::Error>(Bytes::from(larger.clone()))]);
        let request = (Method::POST, UPLOAD, &*user.token);
        let answer = call(&server, request, headers, Body::from_stream(chunks)).await;
        assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE, "{}", answer.body);
    }
    settle(&server, 1).await;
    let config = get(&server, &user, &format!("{V1}/config")).await;
    assert_eq!(config.body["m.upload.size"], 1 << 20);
    let config = get(&server, &user, "/_matrix/media/v3/config").await;
    assert_eq!(config.body["m.upload.size"], 1 << 20);
}

#[tokio::test]
async fn what_a_user_may_store_is_counted_to_the_byte_and_for_each_user() {
    let server = TestServer::start_with(|config| config.media.max_user_megabytes = 1).await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let half = &megabyte(1)[..1 << 19];
    let first = must_upload(&server, &alice, "a/b", half).await;
    // The same content is stored once and counts again.
    must_upload(&server, &alice, "a/b", half).await;
    assert_eq!(files(&server).len(), 1);
    let answer = upload(&server, &alice, "a/b", b"x").await;
    assert_eq!((answer.status, errcode(&answer)), (StatusCode::FORBIDDEN, "M_FORBIDDEN"));
    must_upload(&server, &bob, "a/b", half).await;
    assert!(super::act(&server, Action::Delete, &first).await.unwrap());
    must_upload(&server, &alice, "a/b", half).await;
    assert_eq!(upload(&server, &alice, "a/b", b"x").await.status, StatusCode::FORBIDDEN);
    settle(&server, 1).await;
}

#[tokio::test]
async fn a_user_may_have_so_many_files_however_small() {
    let server = TestServer::start_with(|config| config.media.max_user_files = 2).await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let first = must_upload(&server, &alice, "a/b", b"").await;
    must_upload(&server, &alice, "a/b", b"").await;
    let answer = upload(&server, &alice, "a/b", b"").await;
    assert_eq!((answer.status, errcode(&answer)), (StatusCode::FORBIDDEN, "M_FORBIDDEN"));
    must_upload(&server, &bob, "a/b", b"").await;
    assert!(super::act(&server, Action::Delete, &first).await.unwrap());
    must_upload(&server, &alice, "a/b", b"").await;
    assert_eq!(upload(&server, &alice, "a/b", b"").await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn uploads_at_the_same_time_take_no_more_space_together_than_the_user_has() {
    let server = TestServer::start_with(|config| config.media.max_user_megabytes = 4).await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let answer = upload_during(&server, &alice.token, async || {
        // Three megabytes have arrived, and four fit. The length of the other upload is announced, or not.
        for headers in [&[("content-length", "1048577")][..], &[]] {
            let parts = [megabyte(8), b"8".to_vec()].map(|part| Ok::<_, io::Error>(part.into()));
            let body = Body::from_stream(stream::iter::<[io::Result<Bytes>; 2]>(parts));
            let request = (Method::POST, UPLOAD, &*alice.token);
            let answer = call(&server, request, headers, body).await;
            assert_eq!((answer.status, errcode(&answer)), (StatusCode::FORBIDDEN, "M_FORBIDDEN"));
        }
        must_upload(&server, &bob, "a/b", &megabyte(9).repeat(4)).await;
    })
    .await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    // What was refused counts no longer.
    must_upload(&server, &alice, "a/b", &megabyte(7)).await;
    settle(&server, 3).await;
}

/// Does something while a file is being uploaded.
async fn upload_during(
    server: &TestServer,
    token: &str,
    meanwhile: impl AsyncFnOnce(),
) -> wick_harness::Answer {
    let (send, receive) = mpsc::channel(1);
    let body = Body::from_stream(stream::unfold(receive, |mut receive| async move {
        let bytes: Bytes = receive.recv().await?;
        Some((Ok::<_, io::Error>(bytes), receive))
    }));
    let upload = call(server, (Method::POST, UPLOAD, token), &[], body);
    let events = async {
        // When there is room for the last, the last but one has been taken, and all before it has been received.
        for part in [megabyte(0), megabyte(1), megabyte(2), Vec::new(), Vec::new()] {
            send.send(part.into()).await.unwrap();
        }
        meanwhile().await;
        drop(send);
    };
    tokio::join!(upload, events).0
}

#[tokio::test]
async fn an_upload_of_a_device_that_is_logged_out_or_erased_meanwhile_is_not_stored() {
    let server = TestServer::start().await;
    let erase = json!({ "erase": true, "auth": {
        "type": "m.login.password", "password": "correct horse battery staple",
        "identifier": { "type": "m.id.user", "user": "bob" },
    } });
    for (name, path, body) in [
        ("alice", "/_matrix/client/v3/logout", json!({})),
        ("bob", "/_matrix/client/v3/account/deactivate", erase),
    ] {
        let user = server.register(name).await;
        let answer = upload_during(&server, &user.token, async || {
            let (status, body) = server.post(path, &user.token, body).await;
            assert_eq!(status, StatusCode::OK, "{body}");
        })
        .await;
        let expected = (StatusCode::UNAUTHORIZED, "M_UNKNOWN_TOKEN");
        assert_eq!((answer.status, errcode(&answer)), expected, "{path}");
        settle(&server, 0).await;
        assert_eq!(server.services().media.list(&Which::Own, None, 10).unwrap().len(), 0);
    }
}

#[tokio::test]
async fn an_upload_goes_on_if_another_device_is_logged_out() {
    let server = TestServer::start().await;
    let user = server.register("alice").await;
    let other = server.log_in(&user).await;
    let answer = upload_during(&server, &user.token, async || {
        let (status, _) = server.post("/_matrix/client/v3/logout", &other.token, json!({})).await;
        assert_eq!(status, StatusCode::OK);
    })
    .await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
}

#[tokio::test]
async fn uploads_of_a_user_are_limited_in_number() {
    let server = TestServer::start_with(|config| {
        config.limits.enabled = true;
        config.limits.uploads = Rate { per_second: 0.1, burst: 2 };
    })
    .await;
    let user = server.register("alice").await;
    for _ in 0..2 {
        must_upload(&server, &user, "a/b", b"file").await;
    }
    let answer = upload(&server, &user, "a/b", b"file").await;
    assert_eq!(
        (answer.status, errcode(&answer)),
        (StatusCode::TOO_MANY_REQUESTS, "M_LIMIT_EXCEEDED")
    );
    server.clock.advance(Duration::from_secs(10)).await;
    must_upload(&server, &user, "a/b", b"file").await;
}

#[tokio::test]
async fn an_upload_that_breaks_off_leaves_nothing() {
    let server = TestServer::start().await;
    let user = server.register("alice").await;
    let parts = vec![Ok(Bytes::from(megabyte(1))), Err(io::Error::other("gone"))];
    let body = Body::from_stream(stream::iter(parts));
    let answer = call(&server, (Method::POST, UPLOAD, &user.token), &[], body).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", answer.body);
    settle(&server, 0).await;
    let short = server.services().users.get(&user.user_id).unwrap().unwrap().0;
    assert_eq!(server.services().media.usage(short).unwrap(), 0);
}

#[tokio::test]
async fn an_upload_that_trickles_is_given_up() {
    let server = TestServer::start().await;
    let user = server.register("alice").await;
    let clock = server.clock.clone();
    // A byte every ten seconds, for ever.
    let bytes = stream::unfold(clock, |clock| async move {
        let wait = wick_core::Clock::monotonic(&clock) + Duration::from_secs(10);
        wick_core::Clock::sleep_until(&clock, wait).await;
        Some((Ok::<_, io::Error>(Bytes::from_static(b"x")), clock))
    });
    let body = Body::from_stream(bytes.boxed());
    let request = call(&server, (Method::POST, UPLOAD, &user.token), &[], body);
    let answer = patiently(&server, request).await;
    assert_eq!(answer.status, StatusCode::REQUEST_TIMEOUT, "{}", answer.body);
    settle(&server, 0).await;
}

#[tokio::test]
async fn a_long_upload_lasts_as_long_as_bytes_keep_coming() {
    let server = TestServer::start().await;
    let user = server.register("alice").await;
    let steady = stream::unfold((server.clock.clone(), 0), |(clock, sent)| async move {
        let wait = wick_core::Clock::monotonic(&clock) + Duration::from_secs(50);
        wick_core::Clock::sleep_until(&clock, wait).await;
        (sent < 10).then(|| (Ok::<_, io::Error>(Bytes::from(vec![1; 65_536])), (clock, sent + 1)))
    });
    let body = Body::from_stream(steady.boxed());
    let request = call(&server, (Method::POST, UPLOAD, &user.token), &[], body);
    let answer = patiently(&server, request).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
}
