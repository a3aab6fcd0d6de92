//! Thumbnails: right in size and content, kept, and cheap to refuse.

use std::io::Cursor;

use http::StatusCode;
use image::{AnimationDecoder, GenericImageView, codecs::gif::GifDecoder};
use proptest::prelude::*;
use wick_harness::{Answer, TestServer, User};
use wick_media::Action;

use super::{
    V1, act, download, errcode, files, get, must_upload,
    pictures::{self, QUARTERS},
    told,
};

async fn thumbnail(server: &TestServer, user: &User, media: &str, query: &str) -> Answer {
    get(server, user, &format!("{V1}/thumbnail/{media}?{query}")).await
}

/// The thumbnail's size and the colours in the middle of its quarters.
fn look(answer: &Answer) -> ((u32, u32), Vec<[u8; 3]>) {
    let image = image::load_from_memory(&answer.bytes).unwrap().into_rgb8();
    let (width, height) = image.dimensions();
    let middle = |right: u32, below: u32| {
        image.get_pixel(width / 4 + right * width / 2, height / 4 + below * height / 2).0
    };
    ((width, height), vec![middle(0, 0), middle(1, 0), middle(0, 1), middle(1, 1)])
}

fn assert_alike(seen: &[[u8; 3]], expected: &[[u8; 3]], what: &str) {
    for (seen, expected) in seen.iter().flatten().zip(expected.iter().flatten()) {
        assert!(seen.abs_diff(*expected) < 12, "{what}: {seen} is not {expected}");
    }
}

#[tokio::test]
async fn a_thumbnail_has_the_next_configured_size_and_the_colours_of_the_image() {
    let server = TestServer::start().await;
    let user = server.register("alice").await;
    for (picture, content_type) in [
        (pictures::png(1600, 1000), "image/png"),
        (pictures::jpeg(1600, 1000, 1), "image/jpeg"),
        (pictures::webp(1600, 1000), "image/webp"),
    ] {
        // The content type that the client claims does not matter.
        for claimed in [content_type, "text/plain"] {
            let media = must_upload(&server, &user, claimed, &picture).await;
            for (query, size) in [
                ("width=30&height=30&method=crop", (32, 32)),
                ("width=90&height=40&method=crop", (96, 96)),
                ("width=200&height=100", (320, 200)),
                ("width=320&height=241&method=scale", (640, 400)),
                ("width=800&height=600&method=scale", (800, 500)),
            ] {
                let answer = thumbnail(&server, &user, &media, query).await;
                assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
                let (seen, colours) = look(&answer);
                assert_eq!(seen, size, "{content_type} {query}");
                assert_alike(&colours, &QUARTERS, query);
                let made = if content_type == "image/png" { "image/png" } else { "image/jpeg" };
                assert_eq!(told(&answer, "content-type"), made);
                assert_eq!(told(&answer, "content-disposition"), "inline");
                assert_eq!(told(&answer, "x-content-type-options"), "nosniff");
            }
        }
    }
}

#[tokio::test]
async fn a_thumbnail_is_made_once_and_goes_with_its_file() {
    let mut server = TestServer::start().await;
    let user = server.register("alice").await;
    let picture = pictures::png(700, 500);
    let (one, two) = (
        must_upload(&server, &user, "image/png", &picture).await,
        must_upload(&server, &user, "image/png", &picture).await,
    );
    let query = "width=32&height=32&method=crop";
    let first = thumbnail(&server, &user, &one, query).await;
    let stored = files(&server);
    assert_eq!(stored.len(), 2);
    server.restart().await;
    let again = thumbnail(&server, &user, &two, query).await;
    assert_eq!((&first.bytes, files(&server)), (&again.bytes, stored));
    assert_eq!(told(&first, "etag"), told(&again, "etag"));
    assert_ne!(told(&first, "etag"), told(&download(&server, &user, &one).await, "etag"));
    assert!(act(&server, Action::Delete, &one).await.unwrap());
    assert_eq!(files(&server).len(), 2);
    assert!(act(&server, Action::Delete, &two).await.unwrap());
    assert_eq!(files(&server).len(), 0);
}

#[tokio::test]
async fn a_photo_is_turned_as_its_metadata_say_which_are_left_out() {
    let server = TestServer::start().await;
    let user = server.register("alice").await;
    let [a, b, c, d] = QUARTERS;
    for (orientation, colours) in [
        (1, [a, b, c, d]),
        (2, [b, a, d, c]),
        (3, [d, c, b, a]),
        (4, [c, d, a, b]),
        (5, [a, c, b, d]),
        (6, [c, a, d, b]),
        (7, [d, b, c, a]),
        (8, [b, d, a, c]),
    ] {
        let photo = pictures::jpeg(1200, 600, orientation);
        let media = must_upload(&server, &user, "image/jpeg", &photo).await;
        let answer = thumbnail(&server, &user, &media, "width=300&height=200").await;
        let (size, seen) = look(&answer);
        let turned = if orientation < 5 { (320, 160) } else { (120, 240) };
        assert_eq!(size, turned, "orientation {orientation}");
        assert_alike(&seen, &colours, &format!("orientation {orientation}"));
        assert!(!answer.bytes.windows(6).any(|part| part == b"SECRET" || part == b"Exif\0\0"));
    }
}

#[tokio::test]
async fn nothing_is_made_larger_than_it_is() {
    let server = TestServer::start().await;
    let user = server.register("alice").await;
    let small = pictures::png(100, 50);
    let media = must_upload(&server, &user, "text/plain", &small).await;
    for query in
        ["width=800&height=600", "width=3000&height=3000", "width=110&height=60&method=crop"]
    {
        let answer = thumbnail(&server, &user, &media, query).await;
        assert_eq!(answer.bytes, small, "{query}");
        assert_eq!(told(&answer, "content-type"), "image/png");
    }
    // Smaller than the size in one direction alone.
    let answer = thumbnail(&server, &user, &media, "width=96&height=96&method=crop").await;
    assert_eq!(look(&answer).0, (96, 50));
    assert_eq!(files(&server).len(), 2);
}

#[tokio::test]
async fn transparency_is_kept() {
    let server = TestServer::start().await;
    let user = server.register("alice").await;
    let picture = pictures::transparent_png(500, 500);
    let media = must_upload(&server, &user, "image/png", &picture).await;
    let answer = thumbnail(&server, &user, &media, "width=32&height=32&method=crop").await;
    assert_eq!(told(&answer, "content-type"), "image/png");
    let image = image::load_from_memory(&answer.bytes).unwrap();
    assert_eq!((image.get_pixel(4, 16).0[3], image.get_pixel(28, 16).0), (0, [10, 250, 10, 255]));
}

#[tokio::test]
async fn a_thumbnail_is_animated_only_if_it_is_asked_for() {
    let server = TestServer::start().await;
    let user = server.register("alice").await;
    let media = must_upload(&server, &user, "image/gif", &pictures::gif(400, 200, 5)).await;
    let frames = |answer: &Answer| {
        let decoder = GifDecoder::new(Cursor::new(answer.bytes.clone())).unwrap();
        decoder.into_frames().count()
    };
    let moving = thumbnail(&server, &user, &media, "width=320&height=240&animated=true").await;
    assert_eq!((told(&moving, "content-type"), frames(&moving)), ("image/gif", 5));
    assert_eq!(look(&moving).0, (320, 160));
    // Smaller than the thumbnail, and yet not to be sent as it is.
    for query in ["width=320&height=240", "width=800&height=600&animated=false"] {
        let still = thumbnail(&server, &user, &media, query).await;
        assert_eq!(told(&still, "content-type"), "image/jpeg", "{query}");
    }
}

#[tokio::test]
async fn what_is_no_image_or_one_that_is_too_large_is_refused() {
    let server = TestServer::start_with(|config| config.media.max_image_megapixels = 1).await;
    let user = server.register("alice").await;
    let svg = br#"<svg xmlns="http://www.w3.org/2000/svg" width="900" height="900"/>"#;
    let mut cut = pictures::png(900, 900);
    cut.truncate(200);
    for (file, status, expected) in [
        (svg.to_vec(), StatusCode::BAD_REQUEST, "M_UNKNOWN"),
        (b"BM0000".to_vec(), StatusCode::BAD_REQUEST, "M_UNKNOWN"),
        (Vec::new(), StatusCode::BAD_REQUEST, "M_UNKNOWN"),
        (cut, StatusCode::BAD_REQUEST, "M_UNKNOWN"),
        (pictures::png_bomb(50_000, 50_000), StatusCode::PAYLOAD_TOO_LARGE, "M_TOO_LARGE"),
        (pictures::png_bomb(1001, 1000), StatusCode::PAYLOAD_TOO_LARGE, "M_TOO_LARGE"),
        (pictures::png_bomb(0, 0), StatusCode::BAD_REQUEST, "M_UNKNOWN"),
    ] {
        let media = must_upload(&server, &user, "image/png", &file).await;
        let answer = thumbnail(&server, &user, &media, "width=32&height=32").await;
        assert_eq!((answer.status, errcode(&answer)), (status, expected));
    }
    let media = must_upload(&server, &user, "image/png", &pictures::png(1000, 1000)).await;
    assert_eq!(
        thumbnail(&server, &user, &media, "width=32&height=32").await.status,
        StatusCode::OK
    );
    for query in
        ["", "width=32", "width=0&height=32", "width=-1&height=2", "width=1&height=1&method=a"]
    {
        let answer = thumbnail(&server, &user, &media, query).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{query}");
    }
}

#[test]
fn a_damaged_image_gets_a_thumbnail_or_is_refused() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (server, user) = runtime.block_on(async {
        let server = TestServer::start().await;
        let user = server.register("alice").await;
        (server, user)
    });
    let originals = [
        pictures::png(40, 40),
        pictures::jpeg(40, 40, 6),
        pictures::webp(40, 40),
        pictures::gif(40, 40, 3),
        pictures::transparent_png(40, 40),
    ];
    let damage = (
        0..originals.len(),
        prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        any::<bool>(),
    );
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    runner
        .run(&damage, |(which, changes, animated)| {
            let mut file = originals[which].clone();
            for (index, byte) in changes {
                let index = index.index(file.len());
                file[index] = byte;
            }
            runtime.block_on(async {
                let media = must_upload(&server, &user, "image/png", &file).await;
                let query = format!("width=20&height=20&method=crop&animated={animated}");
                let answer = thumbnail(&server, &user, &media, &query).await;
                let status = answer.status.as_u16();
                assert!([200, 400, 413].contains(&status), "{status} {}", answer.body);
            });
            Ok(())
        })
        .unwrap();
}
