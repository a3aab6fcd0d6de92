//! The limits of media in the manual's table, and the sizes of thumbnails.

use std::{io, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{Method, StatusCode};
use wick_core::Clock;
use wick_harness::{Answer, Body, TestServer, User};

use super::{
    UPLOAD, V1, call, download, errcode, get, media_of, must_upload, patiently, pictures, settle,
    told,
};

async fn thumbnail(server: &TestServer, user: &User, media: &str, query: &str) -> Answer {
    get(server, user, &format!("{V1}/thumbnail/{media}?{query}")).await
}

#[tokio::test]
async fn a_content_type_or_name_of_more_than_255_bytes_is_dropped() {
    let server = TestServer::start().await;
    let user = server.register("alice").await;
    for (length, is_kept) in [(255, true), (256, false)] {
        let content_type = format!("text/{}", "x".repeat(length - 5));
        let name = "n".repeat(length);
        let path = format!("{UPLOAD}?filename={name}");
        let headers = [("content-type", &*content_type)];
        let answer = call(&server, (Method::POST, &path, &user.token), &headers, "file").await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        let answer = download(&server, &user, &media_of(&answer.body)).await;
        let expected = if is_kept { &*content_type } else { "application/octet-stream" };
        assert_eq!(told(&answer, "content-type"), expected);
        assert_eq!(told(&answer, "content-disposition").contains(&name), is_kept);
    }
}

#[tokio::test]
async fn an_upload_takes_at_most_six_hours() {
    let server = TestServer::start().await;
    let user = server.register("alice").await;
    // Bytes keep coming as fast as the time limit of portions wants.
    let steady = stream::unfold(server.clock.clone(), |clock| async move {
        let wait = clock.monotonic() + Duration::from_secs(50);
        clock.sleep_until(wait).await;
        Some((Ok::<_, io::Error>(Bytes::from(vec![1; 131_072])), clock))
    });
    let body = Body::from_stream(steady.boxed());
    let request = call(&server, (Method::POST, UPLOAD, &user.token), &[], body);
    let begun = server.clock.now();
    let answer = patiently(&server, request).await;
    assert_eq!(answer.status, StatusCode::REQUEST_TIMEOUT, "{}", answer.body);
    let hours = server.clock.now().since(begun).as_secs() / 3600;
    assert_eq!(hours, 6);
    settle(&server, 0).await;
}

#[tokio::test]
async fn a_thumbnail_is_made_of_at_most_32_mebibytes() {
    let server = TestServer::start().await;
    let user = server.register("alice").await;
    let mut file = pictures::png(100, 100);
    file.resize(32 << 20, 0);
    let query = "width=32&height=32&method=crop";
    let media = must_upload(&server, &user, "image/png", &file).await;
    let answer = thumbnail(&server, &user, &media, query).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    file.push(0);
    let media = must_upload(&server, &user, "image/png", &file).await;
    let answer = thumbnail(&server, &user, &media, query).await;
    let expected = (StatusCode::PAYLOAD_TOO_LARGE, "M_TOO_LARGE");
    assert_eq!((answer.status, errcode(&answer)), expected);
}

#[tokio::test]
async fn an_animation_of_more_than_four_times_the_pixels_of_an_image_gets_a_still_thumbnail() {
    let server = TestServer::start_with(|config| config.media.max_image_megapixels = 1).await;
    let user = server.register("alice").await;
    for (frames, content_type) in [(33, "image/gif"), (34, "image/jpeg")] {
        let animation = pictures::gif(400, 300, frames);
        let media = must_upload(&server, &user, "image/gif", &animation).await;
        let query = "width=96&height=96&method=crop&animated=true";
        let answer = thumbnail(&server, &user, &media, query).await;
        assert_eq!(told(&answer, "content-type"), content_type, "{frames}: {}", answer.body);
    }
}

#[tokio::test]
async fn an_animation_of_more_than_a_thousand_frames_gets_a_still_thumbnail() {
    let server = TestServer::start().await;
    let user = server.register("alice").await;
    for (frames, content_type) in [(1000, "image/gif"), (1001, "image/jpeg")] {
        let media = must_upload(&server, &user, "image/gif", &pictures::gif(40, 1, frames)).await;
        let query = "width=32&height=32&method=crop&animated=true";
        let answer = thumbnail(&server, &user, &media, query).await;
        assert_eq!(told(&answer, "content-type"), content_type, "{frames}: {}", answer.body);
    }
}

#[tokio::test]
async fn an_animation_that_would_grow_by_being_made_small_gets_a_still_thumbnail() {
    let server = TestServer::start().await;
    let user = server.register("alice").await;
    for (frames, content_type) in [(6, "image/gif"), (60, "image/jpeg")] {
        let animation = pictures::noisy_gif(400, 300, frames);
        assert!(animation.len() < 1 << 18, "{} bytes", animation.len());
        let media = must_upload(&server, &user, "image/gif", &animation).await;
        let query = "width=320&height=240&method=scale&animated=true";
        let answer = thumbnail(&server, &user, &media, query).await;
        assert_eq!(told(&answer, "content-type"), content_type, "{frames}: {}", answer.body);
        assert!(answer.bytes.len() <= 1 << 20, "{} bytes", answer.bytes.len());
    }
}

#[tokio::test]
async fn each_size_of_the_specification_is_made_exactly() {
    let server = TestServer::start().await;
    let user = server.register("alice").await;
    let media = must_upload(&server, &user, "image/png", &pictures::png(1600, 1200)).await;
    for (width, height, method, made) in [
        (32, 32, "crop", (32, 32)),
        (96, 96, "crop", (96, 96)),
        (320, 240, "scale", (320, 240)),
        (640, 480, "scale", (640, 480)),
        (800, 600, "scale", (800, 600)),
        // The next one that scales.
        (32, 32, "scale", (320, 240)),
        (800, 600, "crop", (800, 600)),
    ] {
        let query = format!("width={width}&height={height}&method={method}");
        let answer = thumbnail(&server, &user, &media, &query).await;
        let image = image::load_from_memory(&answer.bytes).unwrap();
        assert_eq!((image.width(), image.height()), made, "{query}");
    }
}
