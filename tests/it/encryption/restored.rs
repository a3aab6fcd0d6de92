//! A server whose database goes back to an earlier state: one-time keys, and the tokens of clients that are ahead.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "the helpers of tests, which clippy does not take for tests"
)]

use std::{
    fs,
    path::{Path, PathBuf},
};

use http::StatusCode;
use ruma::{OwnedRoomId, RoomId};
use serde_json::{Value, json};
use wick_database::{Database, Options};
use wick_harness::{TestServer, User};

use super::signer::{ALGORITHM, claim, keys, query, upload, upload_device_keys};
use crate::talk::{bodies, events, joined, member, room, say, sync, sync_since};

/// Where the database of a server is.
fn store(server: &TestServer) -> PathBuf {
    server.folder().join("data").join("db")
}

/// Stops the server and starts it on a copy of its database.
async fn go_back_to(server: &mut TestServer, copy: &Path) {
    server.stop().await;
    let store = store(server);
    fs::remove_dir_all(&store).unwrap();
    fs::rename(copy, &store).unwrap();
    server.restart().await;
}

/// A server with two users in a room.
async fn with_room() -> (TestServer, User, User, OwnedRoomId) {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room = room(&server, &alice).await;
    member(&server, &room, &bob, &bob, "join").await;
    (server, alice, bob, room)
}

/// Bob sends Alice a message to her device and one to the room. Her syncs from an answer of before show both.
async fn assert_gets_news(
    server: &TestServer,
    alice: &User,
    bob: &User,
    room: &RoomId,
    before: &Value,
) {
    let path = "/_matrix/client/v3/sendToDevice/test.type/after";
    let messages = json!({ &alice.user_id: { &alice.device_id: { "n": 1 } } });
    let (status, body) = server.put(path, &bob.token, json!({ "messages": messages })).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    say(server, room, bob, "after").await;
    let news = sync_since(server, alice, before, "").await;
    assert_eq!(bodies(&joined(&news, room)["timeline"]), ["after"], "{news}");
    assert_eq!(events(&news["to_device"])[0]["content"]["n"], 1, "{news}");
    let later = sync_since(server, alice, &news, "").await;
    assert!(joined(&later, room).is_null(), "{later}");
    assert_eq!(events(&later["to_device"]), [] as [Value; 0]);
}

#[tokio::test]
async fn a_server_started_from_a_backup_gives_no_key_again_and_keeps_fallback_keys() {
    let mut server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    upload_device_keys(&server, &alice).await;
    let body = json!({ "one_time_keys": keys(0..5), "fallback_keys": keys([9]) });
    upload(&server, &alice, body).await;
    assert_eq!(claim(&server, &bob, &alice).await, keys([0]));
    let copy = server.folder().join("copy");
    server.services().database.backup(&copy).unwrap();
    // This one is not claimed in the copy.
    assert_eq!(claim(&server, &bob, &alice).await, keys([1]));

    go_back_to(&mut server, &copy).await;
    let sync = "/_matrix/client/v3/sync";
    let (status, body) = server.get(sync, &alice.token).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(body["device_one_time_keys_count"], json!({ ALGORITHM: 0 }));
    assert_eq!(body["device_unused_fallback_key_types"], json!([ALGORITHM]));
    assert_eq!(claim(&server, &bob, &alice).await, keys([9]));
    let shown = query(&server, &bob, &[&alice]).await;
    let device = &shown["device_keys"]["@alice:localhost"][alice.device_id.as_str()];
    assert_ne!(*device, Value::Null);

    // From then on it is a server like any other: what is uploaded stays.
    upload(&server, &alice, json!({ "one_time_keys": keys(20..22) })).await;
    server.restart().await;
    assert_eq!(upload(&server, &alice, json!({})).await, json!({ ALGORITHM: 2 }));
    assert_eq!(claim(&server, &bob, &alice).await, keys([20]));
}

#[tokio::test]
async fn the_keys_of_the_server_that_was_copied_stay() {
    let mut server = TestServer::start().await;
    let alice = server.register("alice").await;
    upload(&server, &alice, json!({ "one_time_keys": keys(0..5) })).await;
    server.services().database.backup(&server.folder().join("copy")).unwrap();
    server.restart().await;
    assert_eq!(upload(&server, &alice, json!({})).await, json!({ ALGORITHM: 5 }));
}

#[tokio::test]
async fn a_client_that_is_ahead_of_the_backup_misses_nothing_that_comes_after_it() {
    let (mut server, alice, bob, room) = with_room().await;
    let copy = server.folder().join("copy");
    server.services().database.backup(&copy).unwrap();
    for number in 0..20 {
        say(&server, &room, &bob, &number.to_string()).await;
    }
    let ahead = sync(&server, &alice, "").await;

    go_back_to(&mut server, &copy).await;
    assert_gets_news(&server, &alice, &bob, &room, &ahead).await;
}

#[tokio::test]
async fn a_client_that_is_ahead_of_what_a_power_loss_left_misses_nothing_that_comes_after_it() {
    let (mut server, alice, bob, room) = with_room().await;
    // What is durable by now: a copy that is not marked as one.
    let copy = server.folder().join("copy");
    server.services().database.backup(&copy).unwrap();
    fs::remove_file(copy.join("COPY")).unwrap();
    // These do not wait for the disk.
    for typing in [true, false, true, false, true, false] {
        let path = format!("/_matrix/client/v3/rooms/{room}/typing/{}", bob.user_id);
        let body = json!({ "typing": typing, "timeout": 10_000 });
        let (status, body) = server.put(&path, &bob.token, body).await;
        assert_eq!(status, StatusCode::OK, "{body}");
    }
    let ahead = sync(&server, &alice, "").await;

    go_back_to(&mut server, &copy).await;
    assert_gets_news(&server, &alice, &bob, &room, &ahead).await;
}

#[tokio::test]
async fn a_salvaged_server_gives_no_key_again() {
    let mut server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    upload_device_keys(&server, &alice).await;
    upload(&server, &alice, json!({ "one_time_keys": keys(0..5) })).await;
    let files = fs::read_dir(store(&server)).unwrap().map(|entry| entry.unwrap().path());
    let logs = files.filter(|path| path.extension().is_some_and(|extension| extension == "log"));
    let log = logs.max().unwrap();
    let before = usize::try_from(fs::metadata(&log).unwrap().len()).unwrap();
    assert_eq!(claim(&server, &bob, &alice).await, keys([0]));
    server.stop().await;
    let mut bytes = fs::read(&log).unwrap();
    bytes[before + 20] ^= 0x55;
    fs::write(&log, bytes).unwrap();

    assert!(Database::salvage(&store(&server), &Options::default()).unwrap().is_some());
    server.restart().await;
    assert_eq!(claim(&server, &bob, &alice).await, Value::Null);
    upload(&server, &alice, json!({ "one_time_keys": keys(20..22) })).await;
    assert_eq!(claim(&server, &bob, &alice).await, keys([20]));
}
