//! One-time keys on a server that is started from a backup.

use std::fs;

use http::StatusCode;
use serde_json::{Value, json};
use wick_harness::TestServer;

use super::signer::{ALGORITHM, claim, keys, query, upload, upload_device_keys};

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

    server.stop().await;
    let store = server.folder().join("data").join("db");
    fs::remove_dir_all(&store).unwrap();
    fs::rename(&copy, &store).unwrap();
    server.restart().await;
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
