//! Server-side backups of room keys.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "the helpers of tests, which clippy does not take for tests"
)]

use http::{Method, StatusCode};
use serde_json::{Value, json};
use wick_database::{
    Range, Read,
    schema::backups::{BACKED_UP_SESSION_BY_ID, BACKUP_BY_VERSION, DELETED_BACKUP_BY_STORE},
};
use wick_harness::{FATES, Options, Strike, TestServer, User};

const VERSION: &str = "/_matrix/client/v3/room_keys/version";
const KEYS: &str = "/_matrix/client/v3/room_keys/keys";
const ALGORITHM: &str = "m.megolm_backup.v1.curve25519-aes-sha2";

fn version(public_key: &str) -> Value {
    json!({ "algorithm": ALGORITHM, "auth_data": { "public_key": public_key, "signatures": {} } })
}

fn session(first: u64, forwarded: u64, verified: bool) -> Value {
    json!({
        "first_message_index": first,
        "forwarded_count": forwarded,
        "is_verified": verified,
        "session_data": { "ephemeral": "a", "ciphertext": "b", "mac": "c", "other": first },
    })
}

/// A user with a backup.
struct Owner {
    server: TestServer,
    user: User,
}

impl Owner {
    async fn with_backup() -> Self {
        Self::on(TestServer::start().await).await
    }

    async fn on(server: TestServer) -> Self {
        let user = server.register("alice").await;
        let owner = Self { server, user };
        assert_eq!(owner.create().await, "1");
        owner
    }

    async fn ask(&self, method: Method, path: &str, body: Value) -> (u16, Value) {
        let (status, body) = self.server.request(method, path, &self.user.token, body).await;
        (status.as_u16(), body)
    }

    async fn create(&self) -> String {
        let (status, body) = self.ask(Method::POST, VERSION, version("key")).await;
        assert_eq!(status, 200, "{body}");
        body["version"].as_str().unwrap().to_owned()
    }

    async fn put(&self, version: &str, path: &str, body: Value) -> (u16, Value) {
        self.ask(Method::PUT, &format!("{KEYS}{path}?version={version}"), body).await
    }

    async fn get(&self, version: &str, path: &str) -> (u16, Value) {
        self.ask(Method::GET, &format!("{KEYS}{path}?version={version}"), Value::Null).await
    }

    async fn delete(&self, version: &str, path: &str) -> (u16, Value) {
        self.ask(Method::DELETE, &format!("{KEYS}{path}?version={version}"), Value::Null).await
    }

    async fn contents(&self) -> (u64, String) {
        let (status, body) = self.ask(Method::GET, VERSION, Value::Null).await;
        assert_eq!(status, 200, "{body}");
        (body["count"].as_u64().unwrap(), body["etag"].as_str().unwrap().to_owned())
    }
}

#[tokio::test]
async fn versions_ascend_and_are_never_used_twice() {
    let server = TestServer::start().await;
    let user = server.register("alice").await;
    let owner = Owner { server, user };
    let (status, body) = owner.ask(Method::GET, VERSION, Value::Null).await;
    assert_eq!((status, &body["errcode"]), (404, &json!("M_NOT_FOUND")));
    assert_eq!(owner.create().await, "1");
    assert_eq!(owner.create().await, "2");
    let two = format!("{VERSION}/2");
    for _ in 0..2 {
        assert_eq!(owner.ask(Method::DELETE, &two, Value::Null).await, (200, json!({})));
    }
    let (status, body) = owner.ask(Method::GET, &two, Value::Null).await;
    assert_eq!((status, &body["errcode"]), (404, &json!("M_NOT_FOUND")));
    let (_, body) = owner.ask(Method::GET, VERSION, Value::Null).await;
    assert_eq!(body["version"], "1", "the newest that is left");
    assert_eq!(body["algorithm"], ALGORITHM);
    assert_eq!(body["auth_data"], version("key")["auth_data"]);
    assert_eq!(owner.create().await, "3");
    for unknown in ["4", "0", "-1", "+1", "01", "x", "99999999999999999999"] {
        let path = format!("{VERSION}/{unknown}");
        for method in [Method::GET, Method::DELETE] {
            let (status, body) = owner.ask(method, &path, Value::Null).await;
            assert_eq!((status, &body["errcode"]), (404, &json!("M_NOT_FOUND")), "{unknown}");
        }
    }
}

#[tokio::test]
async fn what_the_algorithm_needs_can_change_and_the_algorithm_cannot() {
    let owner = Owner::with_backup().await;
    let one = format!("{VERSION}/1");
    let (status, body) = owner.ask(Method::PUT, &one, version("other")).await;
    assert_eq!((status, body), (200, json!({})));
    let (_, body) = owner.ask(Method::GET, &one, Value::Null).await;
    assert_eq!(body["auth_data"]["public_key"], "other");
    let mut named = version("third");
    named["version"] = json!("1");
    assert_eq!(owner.ask(Method::PUT, &one, named.clone()).await.0, 200);
    named["version"] = json!("2");
    let algorithm = json!({ "algorithm": "m.other", "auth_data": {} });
    for wrong in [named, algorithm] {
        let (status, body) = owner.ask(Method::PUT, &one, wrong).await;
        assert_eq!((status, &body["errcode"]), (400, &json!("M_INVALID_PARAM")));
    }
    let (status, _) = owner.ask(Method::PUT, &format!("{VERSION}/2"), version("x")).await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn sessions_are_kept_by_room_at_every_depth() {
    let owner = Owner::with_backup().await;
    let all = json!({ "rooms": {
        "!a:x": { "sessions": { "one": session(1, 0, true), "two": session(2, 0, true) } },
        "!b:x": { "sessions": { "one": session(3, 0, true) } },
    } });
    let (status, body) = owner.put("1", "", all.clone()).await;
    assert_eq!((status, &body["count"]), (200, &json!(3)));
    let room = json!({ "sessions": { "three": session(4, 0, true) } });
    assert_eq!(owner.put("1", "/!b:x", room).await.1["count"], 4);
    assert_eq!(owner.put("1", "/!c:x/s%2F1", session(5, 0, true)).await.1["count"], 5);

    assert_eq!(owner.get("1", "/!a:x").await.1["sessions"], all["rooms"]["!a:x"]["sessions"]);
    assert_eq!(owner.get("1", "/!c:x/s%2F1").await, (200, session(5, 0, true)));
    let (_, body) = owner.get("1", "").await;
    assert_eq!(body["rooms"]["!a:x"], all["rooms"]["!a:x"]);
    assert_eq!(body["rooms"]["!b:x"]["sessions"]["three"], session(4, 0, true));

    assert_eq!(owner.get("1", "/!none:x").await, (200, json!({ "sessions": {} })));
    let (status, body) = owner.get("1", "/!a:x/none").await;
    assert_eq!((status, &body["errcode"]), (404, &json!("M_NOT_FOUND")));

    assert_eq!(owner.delete("1", "/!b:x/one").await.1["count"], 4);
    assert_eq!(owner.get("1", "/!b:x/one").await.0, 404);
    assert_eq!(owner.delete("1", "/!a:x").await.1["count"], 2);
    assert_eq!(owner.delete("1", "").await.1["count"], 0);
    assert_eq!(owner.get("1", "").await, (200, json!({ "rooms": {} })));
}

#[tokio::test]
async fn etag_and_count_change_exactly_when_the_sessions_do() {
    let owner = Owner::with_backup().await;
    let empty = owner.contents().await;
    assert_eq!(owner.delete("1", "").await.1["etag"], empty.1, "there is nothing to delete");
    owner.put("1", "/!a:x/one", session(5, 5, false)).await;
    let first = owner.contents().await;
    assert_eq!(first.0, 1);
    assert_ne!(first.1, empty.1);
    for kept in [session(5, 5, false), session(6, 0, false), session(5, 6, false)] {
        let (_, body) = owner.put("1", "/!a:x/one", kept).await;
        assert_eq!((body["count"].as_u64(), body["etag"].as_str()), (Some(1), Some(&*first.1)));
    }
    let mut etag = first.1;
    for better in [session(5, 4, false), session(4, 9, false), session(9, 9, true)] {
        let (_, body) = owner.put("1", "/!a:x/one", better.clone()).await;
        assert_eq!(body["count"], 1);
        assert_ne!(body["etag"], etag);
        body["etag"].as_str().unwrap().clone_into(&mut etag);
        assert_eq!(owner.get("1", "/!a:x/one").await.1, better);
    }
    assert_eq!(owner.delete("1", "/!a:x/other").await.1["etag"], etag);
    assert_ne!(owner.delete("1", "/!a:x/one").await.1["etag"], etag);
}

#[tokio::test]
async fn only_the_newest_version_is_written_to_and_the_refusal_names_it() {
    let owner = Owner::with_backup().await;
    owner.put("1", "/!a:x/one", session(1, 0, true)).await;
    assert_eq!(owner.create().await, "2");
    for (status, body) in [
        owner.put("1", "/!a:x/one", session(0, 0, true)).await,
        owner.put("7", "/!a:x/one", session(0, 0, true)).await,
        owner.delete("1", "/!a:x/one").await,
    ] {
        assert_eq!((status, &body["errcode"]), (403, &json!("M_WRONG_ROOM_KEYS_VERSION")));
        assert_eq!(body["current_version"], "2");
    }
    assert_eq!(owner.get("1", "/!a:x/one").await.1, session(1, 0, true), "it can be read");
    assert_eq!(owner.get("2", "/!a:x/one").await.0, 404);
}

#[tokio::test]
async fn a_malformed_backup_changes_nothing() {
    let owner = Owner::with_backup().await;
    let mut negative = session(1, 1, true);
    negative["first_message_index"] = json!(-1);
    let mut missing = session(1, 1, true);
    missing.as_object_mut().unwrap().remove("session_data");
    for bad in [negative, missing, json!({}), json!({ "is_verified": 1 })] {
        let (status, body) = owner.put("1", "/!a:x/one", bad.clone()).await;
        assert_eq!((status, &body["errcode"]), (400, &json!("M_BAD_JSON")), "{bad}");
        let rooms = json!({ "rooms": { "!a:x": { "sessions": { "good": session(1, 1, true), "one": bad } } } });
        assert_eq!(owner.put("1", "", rooms).await.0, 400);
    }
    let mut large = session(1, 1, true);
    large["session_data"]["ciphertext"] = json!("x".repeat(70_000));
    let (status, body) = owner.put("1", "/!a:x/one", large).await;
    assert_eq!((status, &body["errcode"]), (413, &json!("M_TOO_LARGE")));
    assert_eq!(owner.contents().await.0, 0);
    for bad in
        [json!({}), json!({ "algorithm": ALGORITHM }), json!({ "algorithm": 1, "auth_data": {} })]
    {
        let (status, body) = owner.ask(Method::POST, VERSION, bad.clone()).await;
        assert_eq!((status, &body["errcode"]), (400, &json!("M_BAD_JSON")), "{bad}");
    }
}

#[tokio::test]
async fn parallel_uploads_are_all_kept_and_counted() {
    let owner = Owner::with_backup().await;
    let names: Vec<_> = (0..20).map(|number| format!("/!a:x/{number}")).collect();
    let uploads = names.iter().map(|name| owner.put("1", name, session(1, 0, true)));
    for (status, body) in futures_util::future::join_all(uploads).await {
        assert_eq!(status, 200, "{body}");
    }
    assert_eq!(owner.contents().await.0, 20);
    let (_, body) = owner.get("1", "/!a:x").await;
    assert_eq!(body["sessions"].as_object().unwrap().len(), 20);
}

#[tokio::test]
async fn the_sessions_of_a_deleted_version_go_in_the_background_also_after_a_crash() {
    let mut owner = Owner::with_backup().await;
    let sessions: serde_json::Map<_, _> =
        (0..1_500).map(|number| (number.to_string(), session(1, 0, true))).collect();
    let (status, body) = owner.put("1", "/!a:x", json!({ "sessions": sessions })).await;
    assert_eq!((status, &body["count"]), (200, &json!(1_500)));
    assert_eq!(owner.ask(Method::DELETE, &format!("{VERSION}/1"), Value::Null).await.0, 200);
    assert_eq!(owner.get("1", "").await.0, 404);
    owner.server.crash().await;
    let database = owner.server.services().database.clone();
    let mut watch = database.watch().topic(wick_database::Topic::Named("deleted backups"));
    while database.latest().first(&DELETED_BACKUP_BY_STORE, Range::all()).unwrap().is_some() {
        watch.changed().await;
    }
    let left = database.latest().first(&BACKED_UP_SESSION_BY_ID, Range::all()).unwrap();
    assert!(left.is_none());
}

#[tokio::test]
async fn backups_end_with_the_account() {
    let owner = Owner::with_backup().await;
    owner.put("1", "/!a:x/one", session(1, 0, true)).await;
    let auth = json!({
        "type": "m.login.password",
        "identifier": { "type": "m.id.user", "user": "alice" },
        "password": "correct horse battery staple",
    });
    let path = "/_matrix/client/v3/account/deactivate";
    assert_eq!(owner.ask(Method::POST, path, json!({ "auth": auth })).await.0, 200);
    let database = owner.server.services().database.clone();
    let mut watch = database.watch().topic(wick_database::Topic::Named("deleted backups"));
    while database.latest().first(&BACKED_UP_SESSION_BY_ID, Range::all()).unwrap().is_some() {
        watch.changed().await;
    }
    assert!(database.latest().first(&BACKUP_BY_VERSION, Range::all()).unwrap().is_none());
}

#[tokio::test]
async fn an_upload_is_there_wholly_or_not_at_all() {
    for fate in FATES {
        let strike = Strike::new();
        let options =
            Options { fault: Some(std::sync::Arc::clone(&strike) as _), ..Options::lenient() };
        let mut owner = Owner::on(TestServer::start_from(options).await).await;
        strike.at(1, fate);
        let room =
            json!({ "sessions": { "one": session(1, 0, true), "two": session(1, 0, true) } });
        let (status, _) = owner.put("1", "/!a:x", room.clone()).await;
        assert_ne!(status, StatusCode::OK.as_u16());
        if fate != wick_database::FaultAction::Fail {
            owner.server.crash().await;
        }
        let stored = owner.get("1", "/!a:x").await.1["sessions"].as_object().unwrap().len();
        let done = fate == wick_database::FaultAction::StopAfter;
        assert_eq!(stored, if done { 2 } else { 0 }, "{fate:?}");
        assert_eq!(owner.contents().await.0, if done { 2 } else { 0 }, "{fate:?}");
        let (status, body) = owner.put("1", "/!a:x", room).await;
        assert_eq!((status, &body["count"]), (200, &json!(2)), "{fate:?}");
    }
}

#[tokio::test]
async fn sessions_and_versions_are_deleted_wholly_or_not_at_all() {
    for fate in FATES {
        for path in [format!("{KEYS}?version=1"), format!("{VERSION}/1")] {
            let strike = Strike::new();
            let options =
                Options { fault: Some(std::sync::Arc::clone(&strike) as _), ..Options::lenient() };
            let mut owner = Owner::on(TestServer::start_from(options).await).await;
            let sessions = json!({ "one": session(1, 0, true), "two": session(1, 0, true) });
            owner.put("1", "/!a:x", json!({ "sessions": sessions })).await;
            strike.at(1, fate);
            assert_ne!(owner.ask(Method::DELETE, &path, Value::Null).await.0, 200, "{fate:?}");
            if fate != wick_database::FaultAction::Fail {
                owner.server.crash().await;
            }
            let is_done = fate == wick_database::FaultAction::StopAfter;
            let (_, body) = owner.ask(Method::GET, VERSION, Value::Null).await;
            let count = body["count"].as_u64().unwrap_or_default();
            assert_eq!(count, if is_done { 0 } else { 2 }, "{fate:?} {path}");
            assert_eq!(owner.ask(Method::DELETE, &path, Value::Null).await.0, 200, "{path}");
            let left =
                owner.get("1", "/!a:x").await.1["sessions"].as_object().map_or(0, |s| s.len());
            assert_eq!(left, 0, "{fate:?} {path}");
        }
    }
}
