//! The content repository: uploads, downloads, thumbnails, previews, deletion.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "the helpers of tests, which clippy does not take for tests"
)]

mod crashes;
mod deletion;
mod downloads;
mod full_disk;
mod hang_ups;
mod limits;
pub(crate) mod pictures;
mod previews;
mod reserved;
mod rooms;
mod thumbnails;
mod uploads;

use std::{fs, path::Path, time::Duration};

use http::{Method, Request, StatusCode, header};
use ruma::ServerName;
use serde_json::Value;
use wick_harness::{Answer, Body, TestServer, User};
use wick_media::Action;

const UPLOAD: &str = "/_matrix/media/v3/upload";
const CREATE: &str = "/_matrix/media/v1/create";
const PATIENCE: Duration = Duration::from_secs(120);
const V1: &str = "/_matrix/client/v1/media";

/// A request with an access token (or none, if it is empty) and headers.
async fn call(
    server: &TestServer,
    (method, path, token): (Method, &str, &str),
    headers: &[(&str, &str)],
    body: impl Into<Body>,
) -> Answer {
    let mut request = Request::builder().method(method).uri(path);
    if !token.is_empty() {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    server.send(request.body(body.into()).unwrap()).await
}

async fn upload(server: &TestServer, user: &User, content_type: &str, file: &[u8]) -> Answer {
    let headers = [("content-type", content_type)];
    call(server, (Method::POST, UPLOAD, &user.token), &headers, file.to_vec()).await
}

/// Uploads a file, which must succeed; returns `server/media id`.
async fn must_upload(server: &TestServer, user: &User, content_type: &str, file: &[u8]) -> String {
    let answer = upload(server, user, content_type, file).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    media_of(&answer.body)
}

/// The `server/media id` of an answer with a content URI.
fn media_of(body: &Value) -> String {
    body["content_uri"].as_str().unwrap().strip_prefix("mxc://").unwrap().to_owned()
}

fn media_id(media: &str) -> &str {
    media.split_once('/').unwrap().1
}

async fn get(server: &TestServer, user: &User, path: &str) -> Answer {
    call(server, (Method::GET, path, &user.token), &[], Body::empty()).await
}

async fn download(server: &TestServer, user: &User, media: &str) -> Answer {
    get(server, user, &format!("{V1}/download/{media}")).await
}

fn errcode(answer: &Answer) -> &str {
    answer.body["errcode"].as_str().unwrap_or_default()
}

fn told<'a>(answer: &'a Answer, name: &str) -> &'a str {
    answer.headers.get(name).map_or("", |value| value.to_str().unwrap())
}

/// Does something with the media `server/media id`; returns whether it is there.
pub(crate) async fn act(
    server: &TestServer,
    action: Action,
    media: &str,
) -> wick_core::Result<bool> {
    let (server_name, media_id) = media.split_once('/').unwrap();
    let name = (ServerName::parse(server_name).unwrap(), media_id.to_owned());
    Ok(server.services().media.act(action, &[name]).await? == 1)
}

/// The names of all files of the store, unfinished ones included.
pub(crate) fn files(server: &TestServer) -> Vec<String> {
    files_in(&server.folder().join("data/media"))
}

fn files_in(folder: &Path) -> Vec<String> {
    fn walk(folder: &Path, names: &mut Vec<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                walk(&entry.path(), names);
            } else {
                names.push(entry.file_name().into_string().unwrap());
            }
        }
    }
    let mut names = Vec::new();
    walk(folder, &mut names);
    names.sort();
    names
}

/// Waits until the store has so many files: some are removed on a thread of their own.
pub(crate) async fn settle(server: &TestServer, count: usize) {
    settle_in(&server.folder().join("data/media"), count).await;
}

async fn settle_in(folder: &Path, count: usize) {
    let settled = async {
        while files_in(folder).len() != count {
            tokio::task::yield_now().await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, settled).await;
    assert!(waited.is_ok(), "{:?}", files_in(folder));
}

/// The answer to requests that wait for the clock, however often.
pub(crate) async fn patiently<T>(server: &TestServer, request: impl Future<Output = T>) -> T {
    let mut request = std::pin::pin!(request);
    loop {
        tokio::select! {
            biased;
            answer = &mut request => return answer,
            () = server.clock.advance(Duration::from_secs(1)) => {}
        }
    }
}

/// Lets hours pass until the store has so many files: jobs run once in an hour, and on threads of their own.
pub(crate) async fn pass_until(server: &TestServer, count: usize) {
    let settled = async {
        while files(server).len() != count {
            server.clock.advance(Duration::from_secs(3600)).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, settled).await;
    assert!(waited.is_ok(), "{:?}", files(server));
}
