//! `wick admin media` and `wick check --media`.

use std::path::Path;

use http::{Method, StatusCode};
use serde_json::{Value, json};
use tempfile::tempdir;
use wick_harness::process::{Process, run};

use super::{error, register};

/// The output of `wick admin media`, which must succeed.
fn admin(folder: &Path, arguments: &[&str]) -> String {
    let output = run(folder, &[&["admin", "media"][..], arguments].concat());
    assert!(output.status.success(), "{arguments:?}: {}", error(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The error of `wick admin media`, which must fail.
fn refusal(folder: &Path, arguments: &[&str]) -> String {
    let output = run(folder, &[&["admin", "media"][..], arguments].concat());
    assert!(!output.status.success(), "{arguments:?} succeeds");
    error(&output)
}

/// Uploads a file, and returns its media id.
async fn upload(server: &Process, token: &str, file: Value) -> String {
    let path = "/_matrix/media/v3/upload?filename=a%20b.json";
    let (status, body) = server.request(Method::POST, path, token, file).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let uri = body.get("content_uri").and_then(Value::as_str).unwrap_or_default();
    uri.strip_prefix("mxc://localhost/").expect("a content URI").to_owned()
}

async fn download(server: &Process, token: &str, media_id: &str) -> (StatusCode, Value) {
    let path = format!("/_matrix/client/v1/media/download/localhost/{media_id}");
    server.request(Method::GET, &path, token, Value::Null).await
}

#[tokio::test]
async fn an_administrator_lists_quarantines_and_deletes_media() {
    let folder = tempdir().unwrap();
    let folder = folder.path();
    let mut server = Process::start(folder, &[]);
    let (alice, bob) = (register(&server, "alice").await, register(&server, "bob").await);
    let file = json!({ "number": 1 });
    let mut ids = Vec::new();
    for number in 1..=3 {
        ids.push(upload(&server, &alice, json!({ "number": number })).await);
    }
    let other = upload(&server, &bob, file.clone()).await;

    let output = admin(folder, &["list", "--user", "@alice:localhost"]);
    assert_eq!(output.lines().count(), 4, "{output}");
    assert!(
        output.ends_with(&format!("bytes in all: {}\n", 3 * file.to_string().len())),
        "{output}"
    );
    for id in &ids {
        let line = output.lines().find(|line| line.starts_with(&**id)).unwrap_or_default();
        assert!(line.contains("@alice:localhost") && line.contains("a b.json"), "{output}");
        assert!(line.ends_with("false"), "{output}");
    }
    ids.sort();
    let output =
        admin(folder, &["list", "--user", "@alice:localhost", "--after", &ids[0], "--limit", "1"]);
    assert!(output.starts_with(&*ids[1]) && output.lines().count() == 2, "{output}");
    assert_eq!(admin(folder, &["list"]).lines().count(), 4);

    // The content of one of alice's is bob's, too.
    for (action, said, status) in [
        ("quarantine", "quarantined\n", StatusCode::NOT_FOUND),
        ("release", "released\n", StatusCode::OK),
    ] {
        assert_eq!(admin(folder, &[action, &other]), said);
        assert_eq!(download(&server, &bob, &other).await.0, status, "{action}");
        let output = admin(folder, &["list"]);
        let quarantined = output.lines().filter(|line| line.ends_with("true")).count();
        assert_eq!(quarantined, if action == "quarantine" { 2 } else { 0 }, "{output}");
    }
    assert_eq!(admin(folder, &["delete", &ids[0]]), "deleted\n");
    assert_eq!(download(&server, &alice, &ids[0]).await.0, StatusCode::NOT_FOUND);
    assert!(refusal(folder, &["delete", &ids[0]]).contains("no such media"));
    assert_eq!(admin(folder, &["delete-all", "@alice:localhost"]), "deleted: 2\n");
    assert_eq!(admin(folder, &["list", "--user", "@alice:localhost"]), "bytes in all: 0\n");
    assert_eq!(download(&server, &bob, &other).await, (StatusCode::OK, file));
    assert!(refusal(folder, &["list", "--user", "@nobody:localhost"]).contains("no such account"));
    assert!(refusal(folder, &["delete-all", "localhost"]).contains("not another server"));
    assert_eq!(admin(folder, &["delete-all", "other.example"]), "deleted: 0\n");
    assert_eq!(admin(folder, &["list", "--remote"]), "");
    assert!(refusal(folder, &["release-all", "!room:localhost"]).contains("no such room"));
    assert!(refusal(folder, &["quarantine", "../status"]).contains("no such media"));
    assert!(refusal(folder, &["delete", "mxc://other.example/file"]).contains("no such media"));
    // Media ids may begin with a hyphen.
    assert!(refusal(folder, &["delete", "-a"]).contains("no such media"));
    for path in ["/media", "/media/delete?user_id=@bob:localhost"] {
        let (status, _) = server.request(Method::GET, path, &alice, Value::Null).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{path} is served to the public");
    }

    server.terminate();
    assert!(server.ended().success());
    let check = run(folder, &["check", "--media"]);
    assert!(check.status.success(), "{}", error(&check));
    let media = folder.join("wick-data/media");
    let stored = std::fs::read_dir(&media).unwrap().map(|shard| shard.unwrap().path());
    let files = stored.flat_map(|shard| std::fs::read_dir(shard).unwrap());
    for file in files.map(|file| file.unwrap().path()) {
        std::fs::remove_file(file).unwrap();
    }
    let check = run(folder, &["check", "--media"]);
    assert!(
        !check.status.success() && error(&check).contains("things are wrong"),
        "{}",
        error(&check)
    );
}
