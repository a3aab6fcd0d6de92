//! Deletion, quarantine and retention.

use std::time::Duration;

use http::StatusCode;
use serde_json::json;
use wick_core::{ShortUserId, config::Period};
use wick_harness::{TestServer, User};
use wick_media::{Action, Which};

use super::{V1, act, download, errcode, files, get, must_upload, pass_until, pictures, upload};

const DAY: Duration = Duration::from_secs(86_400);

fn short(server: &TestServer, user: &User) -> ShortUserId {
    server.services().users.get(&user.user_id).unwrap().unwrap().0
}

#[tokio::test]
async fn a_file_goes_with_the_last_media_that_has_it() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let media = &server.services().media;
    let one = must_upload(&server, &alice, "a/b", b"file").await;
    let two = must_upload(&server, &bob, "a/b", b"file").await;
    assert!(act(&server, Action::Delete, &one).await.unwrap());
    assert_eq!(download(&server, &alice, &one).await.status, StatusCode::NOT_FOUND);
    assert_eq!(download(&server, &alice, &two).await.bytes, "file");
    assert_eq!(media.usage(short(&server, &alice)).unwrap(), 0);
    assert_eq!(media.usage(short(&server, &bob)).unwrap(), 4);
    assert!(!act(&server, Action::Delete, &one).await.unwrap());
    assert!(act(&server, Action::Delete, &two).await.unwrap());
    assert_eq!(files(&server), [""; 0]);
    // The same content can come again.
    let three = must_upload(&server, &bob, "a/b", b"file").await;
    assert_eq!(download(&server, &alice, &three).await.bytes, "file");
}

#[tokio::test]
async fn all_media_of_a_user_can_be_listed_and_deleted() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let media = &server.services().media;
    for number in 0..150_u32 {
        let file = number.to_be_bytes();
        assert_eq!(upload(&server, &alice, "a/b", &file).await.status, StatusCode::OK);
    }
    let kept = must_upload(&server, &bob, "a/b", b"file").await;
    let short = short(&server, &alice);
    let of = Which::Of(short);
    let first = media.list(&of, None, 100).unwrap();
    let last = first.last().map(|media| (media.server_name.clone(), media.media_id.clone()));
    let rest = media.list(&of, last.as_ref(), 100).unwrap();
    assert_eq!((first.len(), rest.len()), (100, 50));
    assert_eq!(media.list(&Which::Own, None, 1000).unwrap().len(), 151);
    assert_eq!(media.delete_all_of(short).await.unwrap(), 150);
    assert_eq!(media.list(&of, None, 100).unwrap().len(), 0);
    assert_eq!(media.usage(short).unwrap(), 0);
    assert_eq!(download(&server, &alice, &kept).await.bytes, "file");
    assert_eq!(files(&server).len(), 1);
}

#[tokio::test]
async fn a_quarantined_content_is_not_served_whoever_uploads_it() {
    let mut server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let picture = pictures::png(500, 500);
    let one = must_upload(&server, &alice, "image/png", &picture).await;
    let other = must_upload(&server, &alice, "image/png", b"other").await;
    assert!(act(&server, Action::Quarantine, &one).await.unwrap());
    let two = must_upload(&server, &bob, "image/png", &picture).await;
    server.restart().await;
    for media in [&one, &two] {
        let thumbnail = format!("{V1}/thumbnail/{media}?width=32&height=32");
        for path in [format!("{V1}/download/{media}"), thumbnail] {
            let answer = get(&server, &alice, &path).await;
            assert_eq!((answer.status, errcode(&answer)), (StatusCode::NOT_FOUND, "M_NOT_FOUND"));
        }
    }
    assert_eq!(download(&server, &alice, &other).await.status, StatusCode::OK);
    assert!(act(&server, Action::Release, &two).await.unwrap());
    assert_eq!(download(&server, &alice, &one).await.status, StatusCode::OK);
}

#[tokio::test]
async fn the_media_of_an_erased_user_is_deleted_and_that_of_another_is_not() {
    let server = TestServer::start().await;
    let bob = server.register("bob").await;
    let mut media = Vec::new();
    for (name, erase) in [("alice", true), ("carol", false)] {
        let user = server.register(name).await;
        media.push(must_upload(&server, &user, "a/b", name.as_bytes()).await);
        let auth = json!({
            "type": "m.login.password", "password": "correct horse battery staple",
            "identifier": { "type": "m.id.user", "user": name },
        });
        let path = "/_matrix/client/v3/account/deactivate";
        let body = json!({ "erase": erase, "auth": auth });
        let (status, body) = server.post(path, &user.token, body).await;
        assert_eq!(status, StatusCode::OK, "{body}");
    }
    assert_eq!(download(&server, &bob, &media[0]).await.status, StatusCode::NOT_FOUND);
    assert_eq!(download(&server, &bob, &media[1]).await.status, StatusCode::OK);
    assert_eq!(files(&server).len(), 1);
}

#[tokio::test]
async fn retention_spares_what_is_young_or_used_as_an_avatar() {
    let server = TestServer::start_with(|config| {
        config.media.retention_age = Period::from_secs(30 * 86_400)
    })
    .await;
    let user = server.register("alice").await;
    let mut media = Vec::new();
    for file in ["message", "profile", "room", "former"] {
        media.push(must_upload(&server, &user, "a/b", file.as_bytes()).await);
    }
    let avatar = format!("/_matrix/client/v3/profile/{}/avatar_url", user.user_id);
    for number in [3, 1] {
        let body = json!({ "avatar_url": format!("mxc://{}", media[number]) });
        assert_eq!(server.put(&avatar, &user.token, body).await.0, StatusCode::OK);
    }
    let state = json!([{
        "type": "m.room.avatar", "state_key": "", "content": { "url": format!("mxc://{}", media[2]) },
    }]);
    let body = json!({ "initial_state": state });
    let (status, body) = server.post("/_matrix/client/v3/createRoom", &user.token, body).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    server.clock.advance(20 * DAY).await;
    let young = must_upload(&server, &user, "a/b", b"young").await;
    assert_eq!(files(&server).len(), 5);
    server.clock.advance(11 * DAY).await;
    pass_until(&server, 3).await;
    for (media, status) in [
        (&media[0], StatusCode::NOT_FOUND),
        (&media[1], StatusCode::OK),
        (&media[2], StatusCode::OK),
        (&media[3], StatusCode::NOT_FOUND),
        (&young, StatusCode::OK),
    ] {
        assert_eq!(download(&server, &user, media).await.status, status);
    }
}

#[tokio::test]
async fn what_is_downloaded_now_and_then_is_kept() {
    let server = TestServer::start_with(|config| {
        config.media.retention_unused = Period::from_secs(10 * 86_400);
    })
    .await;
    let user = server.register("alice").await;
    let used = must_upload(&server, &user, "a/b", b"used").await;
    let unused = must_upload(&server, &user, "a/b", b"unused").await;
    for _ in 0..4 {
        server.clock.advance(8 * DAY).await;
        assert_eq!(download(&server, &user, &used).await.status, StatusCode::OK);
    }
    pass_until(&server, 1).await;
    assert_eq!(download(&server, &user, &unused).await.status, StatusCode::NOT_FOUND);
    server.clock.advance(11 * DAY).await;
    pass_until(&server, 0).await;
}
