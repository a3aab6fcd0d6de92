//! The real binary: command line, signals, kills, the administrator's socket, backups.

mod media;
mod secrets;

use std::{fs, net::TcpListener, os::unix::fs::PermissionsExt};

use http::{Method, StatusCode};
use serde_json::{Value, json};
use tempfile::tempdir;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};
use wick_harness::process::{Process, run};

const WHOAMI: &str = "/_matrix/client/v3/account/whoami";

async fn register(server: &Process, name: &str) -> String {
    let body = json!({
        "username": name, "password": "correct horse", "auth": { "type": "m.login.dummy" },
    });
    let (status, body) =
        server.request(Method::POST, "/_matrix/client/v3/register", "", body).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    body.get("access_token").and_then(Value::as_str).unwrap_or_default().to_owned()
}

async fn user_of(server: &Process, token: &str) -> Value {
    let (_, body) = server.request(Method::GET, WHOAMI, token, Value::Null).await;
    body.get("user_id").cloned().unwrap_or_default()
}

fn error(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn without_configuration_it_serves_this_machine_and_ends_on_a_signal() {
    let folder = tempdir().unwrap();
    let mut server = Process::start(folder.path(), &[]);
    let token = register(&server, "alice").await;
    assert_eq!(user_of(&server, &token).await, "@alice:localhost");
    server.terminate();
    assert!(server.ended().success());
    let data = folder.path().join("wick-data");
    assert_eq!(fs::metadata(&data).unwrap().permissions().mode() & 0o777, 0o700);
    assert!(!data.join("admin.sock").exists());
}

#[tokio::test]
async fn what_was_answered_survives_a_kill() {
    let folder = tempdir().unwrap();
    let server = Process::start(folder.path(), &[]);
    let token = register(&server, "alice").await;
    server.kill();
    let server = Process::start(folder.path(), &[]);
    assert_eq!(user_of(&server, &token).await, "@alice:localhost");
}

#[tokio::test]
async fn a_request_that_was_taken_is_answered_though_the_server_stops() {
    let folder = tempdir().unwrap();
    let mut server = Process::start(folder.path(), &[]);
    let body = json!({ "username": "late", "password": "correct horse", "auth": { "type": "m.login.dummy" } })
        .to_string();
    let head = format!(
        "POST /_matrix/client/v3/register HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = BufReader::new(TcpStream::connect(server.address()).await.unwrap());
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut line = String::new();
    stream.read_line(&mut line).await.unwrap();
    // The server sends 100 when the handler asks for the body: the request was taken.
    assert_eq!(line, "HTTP/1.1 100 Continue\r\n");
    server.terminate();
    server.wait_for("stopping");
    stream.write_all(body.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("HTTP/1.1 200 OK"), "{answer}");
    assert!(server.ended().success());
}

#[tokio::test]
async fn a_second_server_on_the_same_data_is_refused() {
    let folder = tempdir().unwrap();
    let server = Process::start(folder.path(), &[]);
    let second = run(folder.path(), &["--listen", "127.0.0.1:0", "--set", "metrics.enabled=false"]);
    assert!(!second.status.success());
    assert!(error(&second).contains("the database cannot be opened"), "{}", error(&second));
    let token = register(&server, "alice").await;
    assert_eq!(user_of(&server, &token).await, "@alice:localhost");
}

#[test]
fn an_address_in_use_is_told_before_anything_is_made() {
    let folder = tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let server = run(folder.path(), &["--listen", &address, "--set", "metrics.enabled=false"]);
    assert!(!server.status.success());
    assert!(error(&server).contains(&address), "{}", error(&server));
    assert!(!folder.path().join("wick-data/db").exists());
}

#[tokio::test]
async fn a_backup_of_a_running_server_is_a_server() {
    let folder = tempdir().unwrap();
    let server = Process::start(folder.path(), &[]);
    let token = register(&server, "alice").await;
    let backup = run(folder.path(), &["backup", "copy"]);
    assert!(backup.status.success(), "{}", error(&backup));
    let later = register(&server, "bob").await;
    let again = run(folder.path(), &["backup", "copy"]);
    assert!(error(&again).contains("exists already"), "{}", error(&again));

    let copy = Process::start(folder.path(), &["--data", "copy"]);
    assert_eq!(user_of(&copy, &token).await, "@alice:localhost");
    assert_eq!(user_of(&copy, &later).await, Value::Null);
    let key = |data: &str| fs::read(folder.path().join(data).join("signing.key")).unwrap();
    assert_eq!(key("copy"), key("wick-data"));
}

#[tokio::test]
async fn a_server_started_from_a_backup_gives_no_one_time_key_of_it_and_the_fallback_key() {
    let folder = tempdir().unwrap();
    let server = Process::start(folder.path(), &[]);
    let token = register(&server, "alice").await;
    let ask = async |server: &Process, path: &str, body: Value| {
        let path = format!("/_matrix/client/v3/{path}");
        let (status, body) = server.request(Method::POST, &path, &token, body).await;
        assert_eq!(status, StatusCode::OK, "{path}: {body}");
        body
    };
    let key = |id: &str| json!({ format!("curve25519:{id}"): format!("key {id}") });
    let keys = json!({ "one_time_keys": key("once"), "fallback_keys": key("again") });
    let counts = ask(&server, "keys/upload", keys).await;
    assert_eq!(counts["one_time_key_counts"]["curve25519"], 1, "{counts}");
    let (_, body) =
        server.request(Method::GET, "/_matrix/client/v3/account/whoami", &token, Value::Null).await;
    let device = body["device_id"].as_str().unwrap().to_owned();
    let backup = run(folder.path(), &["backup", "copy"]);
    assert!(backup.status.success(), "{}", error(&backup));
    let claim = json!({ "one_time_keys": { "@alice:localhost": { &*device: "curve25519" } } });
    let claimed = |body: Value| body["one_time_keys"]["@alice:localhost"][&*device].clone();
    let of_server = claimed(ask(&server, "keys/claim", claim.clone()).await);
    assert_eq!(of_server, key("once"));

    let copy = Process::start(folder.path(), &["--data", "copy"]);
    let counts = ask(&copy, "keys/upload", json!({})).await;
    assert_eq!(counts["one_time_key_counts"]["curve25519"], Value::Null, "{counts}");
    assert_eq!(claimed(ask(&copy, "keys/claim", claim).await), key("again"));
}

#[tokio::test]
async fn a_backup_can_be_made_without_a_server() {
    let folder = tempdir().unwrap();
    let mut server = Process::start(folder.path(), &[]);
    let token = register(&server, "alice").await;
    server.terminate();
    server.ended();
    let backup = run(folder.path(), &["backup", "copy"]);
    assert!(backup.status.success(), "{}", error(&backup));
    let copy = Process::start(folder.path(), &["--data", "copy"]);
    assert_eq!(user_of(&copy, &token).await, "@alice:localhost");
}

#[tokio::test]
async fn the_administrator_asks_over_a_socket_that_nobody_else_may_open() {
    let folder = tempdir().unwrap();
    let server = Process::start(folder.path(), &[]);
    let socket = folder.path().join("wick-data/admin.sock");
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    let status = run(folder.path(), &["admin", "status"]);
    assert!(status.status.success(), "{}", error(&status));
    assert!(String::from_utf8_lossy(&status.stdout).contains("localhost"));
    let list = ["admin", "timers", "list", "--user", "@alice:localhost", "--room", "no room"];
    let timers = run(folder.path(), &list);
    assert!(error(&timers).contains("the server refused"), "{}", error(&timers));
    let timers = run(folder.path(), &["admin", "timers", "list", "--user", "@alice:localhost"]);
    let told = String::from_utf8_lossy(&timers.stdout);
    assert!(told.ends_with("running: 0\n"), "{told}");
    let ended = run(folder.path(), &["admin", "timers", "end", "1"]);
    assert!(error(&ended).contains("no such timer"), "{}", error(&ended));
    let calls = run(folder.path(), &["admin", "calls", "check"]);
    assert!(!calls.status.success());
    assert!(String::from_utf8_lossy(&calls.stdout).contains("calls.livekit_url is not set"));
    assert!(error(&calls).contains("calls do not work"), "{}", error(&calls));
    let token = register(&server, "alice").await;
    let path = "/_matrix/client/v3/users/@alice:localhost/report";
    let reason = json!({ "reason": "two\nlines" });
    assert_eq!(server.request(Method::POST, path, &token, reason).await.0, StatusCode::OK);
    let reports = run(folder.path(), &["admin", "reports"]);
    let told = String::from_utf8_lossy(&reports.stdout);
    assert_eq!(told.lines().count(), 1, "{told}");
    assert!(told.contains("@alice:localhost  -  -  @alice:localhost  two\\nlines"), "{told}");
    for path in ["/status", "/backup", "/timers", "/reports"] {
        let (status, _) = server.request(Method::GET, path, "", Value::Null).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{path} is served to the public");
    }
    drop(server);
    let status = run(folder.path(), &["admin", "status"]);
    assert!(error(&status).contains("is it running"), "{}", error(&status));
}

#[test]
fn check_says_everything_that_is_wrong() {
    let folder = tempdir().unwrap();
    assert!(run(folder.path(), &["check"]).status.success());
    fs::write(
        folder.path().join("wick.toml"),
        "[server]\ncolour = 1\n[expiry]\nmin_duration = 0\n",
    )
    .unwrap();
    let check = run(folder.path(), &["check", "--set", "logging.filter=a=b=c"]);
    assert!(!check.status.success());
    for part in ["server.colour (from wick.toml)", "expiry.min_duration"] {
        assert!(error(&check).contains(part), "{}", error(&check));
    }
}

#[test]
fn the_generated_configuration_is_one() {
    let folder = tempdir().unwrap();
    let example = run(folder.path(), &["generate", "config"]);
    fs::write(folder.path().join("wick.toml"), example.stdout).unwrap();
    let check = run(folder.path(), &["check"]);
    assert!(check.status.success(), "{}", error(&check));
}

#[tokio::test]
async fn a_missing_key_beside_a_database_stops_the_start_and_is_named() {
    let folder = tempdir().unwrap();
    let mut server = Process::start(folder.path(), &[]);
    register(&server, "alice").await;
    server.terminate();
    server.ended();
    fs::remove_file(folder.path().join("wick-data/timer.key")).unwrap();
    let again = run(folder.path(), &["--listen", "127.0.0.1:0", "--set", "metrics.enabled=false"]);
    assert!(!again.status.success());
    assert!(error(&again).contains("timer.key is missing"), "{}", error(&again));
    assert!(!folder.path().join("wick-data/timer.key").exists());
}

#[tokio::test]
async fn a_data_folder_that_others_may_read_is_closed_to_them() {
    let folder = tempdir().unwrap();
    let data = folder.path().join("wick-data");
    fs::create_dir(&data).unwrap();
    fs::set_permissions(&data, fs::Permissions::from_mode(0o755)).unwrap();
    let _server = Process::start(folder.path(), &[]);
    assert_eq!(fs::metadata(&data).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn what_cannot_be_looked_at_is_not_taken_for_missing() {
    let folder = tempdir().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    // Nothing below a file can be read, not even by root, for whom permissions do not hold.
    let check = run(folder.path(), &["check", "--rooms", "--data", "file/data"]);
    assert!(!check.status.success());
    assert!(error(&check).contains("file/data"), "{}", error(&check));
    let status = run(folder.path(), &["admin", "status", "--set", "admin.socket=file/socket"]);
    assert!(error(&status).contains("cannot be opened"), "{}", error(&status));
}
