//! Downloads: headers, ranges, and the deprecated endpoints.

use std::time::Duration;

use http::{Method, StatusCode};
use ruma::{api::error::ErrorKind, server_name};
use wick_harness::{Answer, Body, TestServer, User};
use wick_media::Action;

use super::{V1, act, call, download, errcode, get, must_upload, told};

async fn with(server: &TestServer, user: &User, media: &str, headers: &[(&str, &str)]) -> Answer {
    let path = format!("{V1}/download/{media}");
    call(server, (Method::GET, &path, &user.token), headers, Body::empty()).await
}

/// A downloaded file that was uploaded with this content type and name.
async fn named(server: &TestServer, user: &User, content_type: &str, name: &str) -> Answer {
    let path = format!("/_matrix/media/v3/upload?filename={name}");
    let headers = [("content-type", content_type)];
    let answer = call(server, (Method::POST, &path, &user.token), &headers, "file").await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    download(server, user, &super::media_of(&answer.body)).await
}

#[tokio::test]
async fn every_download_has_the_headers_that_keep_a_browser_from_running_it() {
    let server = TestServer::start().await;
    let user = server.register("alice").await;
    let media = must_upload(&server, &user, "text/html", b"<script>").await;
    for path in [format!("{V1}/download/{media}"), format!("{V1}/download/{media}/a.html")] {
        let answer = get(&server, &user, &path).await;
        assert_eq!(
            told(&answer, "content-security-policy"),
            "sandbox; default-src 'none'; script-src 'none'; plugin-types application/pdf; \
             style-src 'unsafe-inline'; object-src 'self';"
        );
        assert_eq!(told(&answer, "cross-origin-resource-policy"), "cross-origin");
        assert_eq!(told(&answer, "x-content-type-options"), "nosniff");
        assert_eq!(told(&answer, "referrer-policy"), "no-referrer");
        assert!(told(&answer, "cache-control").contains("immutable"));
        assert!(told(&answer, "content-disposition").starts_with("attachment"));
    }
}

#[tokio::test]
async fn media_that_is_deleted_before_its_file_is_opened_is_not_found_even_if_the_content_is_back()
{
    let server = TestServer::start().await;
    let user = server.register("alice").await;
    let media = &server.services().media;
    for is_back in [false, true] {
        let uploaded = must_upload(&server, &user, "a/b", b"file").await;
        let media_id = super::media_id(&uploaded);
        let name = server_name!("localhost");
        let content = media.content(name, media_id, Duration::ZERO).await.unwrap();
        assert!(act(&server, Action::Delete, &uploaded).await.unwrap());
        if is_back {
            must_upload(&server, &user, "a/b", b"file").await;
        }
        let error = media.open(&content, 0..4).await.err().unwrap();
        assert_eq!(error.kind(), Some(&ErrorKind::NotFound), "{error}");
    }
}

#[tokio::test]
async fn only_safe_content_types_are_shown_inline_and_names_are_quoted() {
    let server = TestServer::start().await;
    let user = server.register("alice").await;
    for (content_type, name, disposition) in [
        ("image/png", "a.png", "inline; filename=a.png"),
        ("Text/Plain; charset=utf-8", "ascii", "inline; filename=ascii"),
        ("image/svg+xml", "a.svg", "attachment; filename=a.svg"),
        ("text/html", "a%20b;c.html", "attachment; filename=\"a b;c.html\""),
        ("application/pdf", "%F0%9F%90%94", "attachment; filename*=utf-8''%F0%9F%90%94"),
        ("image/png", "..%2F..%2Fetc%2Fpasswd", "inline; filename=passwd"),
        ("image/png", "a%0d%0aset-cookie:b", "inline; filename=\"aset-cookie:b\""),
        ("image/png", "", "inline"),
    ] {
        let answer = named(&server, &user, content_type, name).await;
        assert_eq!(told(&answer, "content-disposition"), disposition, "{content_type} {name}");
    }
    let media = must_upload(&server, &user, "image/png", b"file").await;
    let answer = get(&server, &user, &format!("{V1}/download/{media}/other%20name")).await;
    assert_eq!(told(&answer, "content-disposition"), "inline; filename=\"other name\"");
    let request = (Method::POST, super::UPLOAD, &*user.token);
    let media = super::media_of(&call(&server, request, &[], "file").await.body);
    let answer = download(&server, &user, &media).await;
    assert_eq!(told(&answer, "content-type"), "application/octet-stream");
    assert_eq!(told(&answer, "content-disposition"), "attachment");
}

#[tokio::test]
async fn a_part_of_a_file_can_be_had() {
    let server = TestServer::start().await;
    let user = server.register("alice").await;
    let file: Vec<u8> = (0..200_000_u32).map(|n| (n % 251).to_le_bytes()[0]).collect();
    let media = must_upload(&server, &user, "a/b", &file).await;
    for (range, part) in [
        ("bytes=0-0", 0..1),
        ("bytes=65535-131073", 65_535..131_074),
        ("bytes=199990-", 199_990..200_000),
        ("bytes=-7", 199_993..200_000),
    ] {
        let answer = with(&server, &user, &media, &[("range", range)]).await;
        assert_eq!(answer.status, StatusCode::PARTIAL_CONTENT, "{range}");
        assert!(answer.bytes == file[part.clone()], "{range}");
        let expected = format!("bytes {}-{}/200000", part.start, part.end - 1);
        assert_eq!(told(&answer, "content-range"), expected);
        assert_eq!(told(&answer, "content-length"), part.len().to_string());
    }
    let answer = with(&server, &user, &media, &[("range", "bytes=200000-")]).await;
    assert_eq!(answer.status, StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(told(&answer, "content-range"), "bytes */200000");
    assert_eq!(errcode(&answer), "M_UNKNOWN");
    let answer = with(&server, &user, &media, &[("range", "bytes=0-1,5-6")]).await;
    assert_eq!((answer.status, answer.bytes.len()), (StatusCode::OK, 200_000));
}

#[tokio::test]
async fn a_file_that_the_client_has_is_not_sent_again() {
    let server = TestServer::start().await;
    let user = server.register("alice").await;
    let media = must_upload(&server, &user, "a/b", b"file").await;
    let tag = told(&download(&server, &user, &media).await, "etag").to_owned();
    for known in [&tag, &format!("W/\"other\", {tag}"), "*"] {
        let answer = with(&server, &user, &media, &[("if-none-match", known)]).await;
        assert_eq!((answer.status, answer.bytes.len()), (StatusCode::NOT_MODIFIED, 0), "{known}");
        assert_eq!(told(&answer, "etag"), tag);
    }
    let answer = with(&server, &user, &media, &[("if-none-match", "\"other\"")]).await;
    assert_eq!(answer.status, StatusCode::OK);
    // A part of another file is of no use.
    for (condition, status) in [
        (&*tag, StatusCode::PARTIAL_CONTENT),
        ("\"other\"", StatusCode::OK),
        (&format!("W/{tag}"), StatusCode::OK),
        ("*", StatusCode::OK),
        ("Sat, 28 Nov 2026 12:00:00 GMT", StatusCode::OK),
    ] {
        let headers = [("if-range", condition), ("range", "bytes=1-2")];
        assert_eq!(with(&server, &user, &media, &headers).await.status, status);
    }
}

#[tokio::test]
async fn head_gets_the_size_without_the_file_whatever_part_is_asked_for() {
    let server = TestServer::start().await;
    let user = server.register("alice").await;
    let media = must_upload(&server, &user, "image/png", b"file").await;
    let path = format!("{V1}/download/{media}");
    for headers in [&[][..], &[("range", "bytes=1-2")], &[("range", "bytes=7-")]] {
        let request = (Method::HEAD, &*path, &*user.token);
        let answer = call(&server, request, headers, Body::empty()).await;
        assert_eq!((answer.status, answer.bytes.len()), (StatusCode::OK, 0));
        assert_eq!(told(&answer, "content-length"), "4");
        assert_eq!(told(&answer, "content-type"), "image/png");
    }
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let server = TestServer::start().await;
    let user = server.register("alice").await;
    let there = must_upload(&server, &user, "a/b", b"file").await;
    for media in ["localhost/AAAA".to_owned(), there.replace("localhost", "elsewhere.test")] {
        for path in [
            format!("{V1}/download/{media}"),
            format!("{V1}/download/{media}/name"),
            format!("{V1}/thumbnail/{media}?width=32&height=32"),
        ] {
            let answer = get(&server, &user, &path).await;
            let expected = (StatusCode::NOT_FOUND, "M_NOT_FOUND");
            assert_eq!((answer.status, errcode(&answer)), expected, "{path}");
        }
    }
    let answer = get(&server, &user, &format!("{V1}/download/not%20a%20server/AAAA")).await;
    assert_eq!((answer.status, errcode(&answer)), (StatusCode::BAD_REQUEST, "M_INVALID_PARAM"));
    let path = format!("{V1}/download/{there}");
    assert_eq!(
        call(&server, (Method::GET, &path, ""), &[], Body::empty()).await.status.as_u16(),
        401
    );
}

async fn legacy(server: &TestServer, media: &str) -> Vec<u16> {
    let v3 = "/_matrix/media/v3";
    let mut statuses = Vec::new();
    for path in [
        format!("{v3}/download/{media}"),
        format!("{v3}/download/{media}/name"),
        format!("{v3}/thumbnail/{media}?width=2000&height=2000"),
    ] {
        let answer = call(server, (Method::GET, &path, ""), &[], Body::empty()).await;
        assert!(answer.status != StatusCode::NOT_FOUND || errcode(&answer) == "M_NOT_FOUND");
        statuses.push(answer.status.as_u16());
    }
    statuses
}

#[tokio::test]
async fn the_deprecated_endpoints_serve_what_is_older_than_the_freeze() {
    let mut server = TestServer::start().await;
    let user = server.register("alice").await;
    let picture = super::pictures::png(4, 4);
    let old = must_upload(&server, &user, "image/png", &picture).await;
    assert_eq!(legacy(&server, &old).await, [404, 404, 404], "they are off");
    server.clock.advance(Duration::from_secs(1000)).await;
    let new = must_upload(&server, &user, "image/png", &picture).await;
    server.restart_with(|config| config.media.legacy = true).await;
    assert_eq!(legacy(&server, &old).await, [200, 200, 200]);
    assert_eq!(legacy(&server, &new).await, [200, 200, 200]);
    server.restart_with(|config| config.media.legacy_freeze = 1_790_000_500).await;
    assert_eq!(legacy(&server, &old).await, [200, 200, 200]);
    assert_eq!(legacy(&server, &new).await, [404, 404, 404]);
    assert_eq!(download(&server, &user, &new).await.status, StatusCode::OK);
}
