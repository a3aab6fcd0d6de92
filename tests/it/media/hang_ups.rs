//! Clients that hang up after any number of steps: media is there with its file or not at all.

use http::{Method, StatusCode};
use tokio::task::yield_now;
use wick_harness::{TestServer, User, hang_up_after};
use wick_media::Which;

use super::{CREATE, UPLOAD, V1, call, download, files, media_of, must_upload, pictures};

/// Waits until no more than `tasks` run.
async fn ended(server: &TestServer, tasks: usize) {
    let ended = async {
        while server.services().supervisor.tasks() > tasks {
            yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), ended).await.expect("it ends");
}

/// Hangs up in each step of a request; the media of `user` must be sound each time.
async fn hang_up(request: fn(&str) -> (Method, String, Vec<u8>)) {
    let server = TestServer::start().await;
    for polls in 0.. {
        let user: User = server.register(&format!("user{polls}")).await;
        let picture = pictures::png(100 + u32::try_from(polls).unwrap(), 100);
        let there = must_upload(&server, &user, "image/png", &picture).await;
        let reserved = call(&server, (Method::POST, CREATE, &user.token), &[], "{}").await;
        let reserved = media_of(&reserved.body);
        let (method, path, body) = request(&there);
        let path = path.replace("RESERVED", &reserved);
        let tasks = server.idle_tasks().await;
        let call = call(&server, (method, &path, &user.token), &[], body);
        let answer = hang_up_after(polls, call).await;
        ended(&server, tasks).await;
        let short = server.services().users.get(&user.user_id).unwrap().unwrap().0;
        let listed = server.services().media.list(&Which::Of(short), None, 10).unwrap();
        let size: u64 = listed.iter().map(|media| media.size).sum();
        assert_eq!(server.services().media.usage(short).unwrap(), size, "after {polls} polls");
        for media in listed {
            let media = format!("localhost/{}", media.media_id);
            assert_eq!(download(&server, &user, &media).await.status, StatusCode::OK);
        }
        if let Some(answer) = answer {
            assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
            break;
        }
    }
    // Uploads that were given up remove their file on a thread of their own.
    let unfinished = || files(&server).iter().filter(|name| name.ends_with(".new")).count();
    let removed = async {
        while unfinished() > 0 {
            yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), removed).await.expect("removed");
}

#[tokio::test]
async fn an_upload_happens_wholly_or_not_at_all_if_the_client_hangs_up() {
    hang_up(|_| (Method::POST, UPLOAD.to_owned(), vec![7; 300_000])).await;
}

#[tokio::test]
async fn an_upload_to_a_reserved_media_id_does_too() {
    hang_up(|_| (Method::PUT, "/_matrix/media/v3/upload/RESERVED".to_owned(), b"file".to_vec()))
        .await;
}

#[tokio::test]
async fn a_reservation_does_too() {
    hang_up(|_| (Method::POST, CREATE.to_owned(), b"{}".to_vec())).await;
}

#[tokio::test]
async fn a_thumbnail_does_too() {
    hang_up(|media| {
        let path = format!("{V1}/thumbnail/{media}?width=32&height=32&method=crop");
        (Method::GET, path, Vec::new())
    })
    .await;
}
