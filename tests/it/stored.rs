//! What one user stores: how much, how deep, and that every answered write is there.

use std::sync::Arc;

use http::{Method, Request, StatusCode, header};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use wick_account::Proof;
use wick_database::{
    Range, Read,
    schema::account_data::{
        ACCOUNT_DATA_BY_TYPE, ACCOUNT_DATA_CHANGE_BY_POSITION, FILTER_BY_CREATION, FILTER_BY_ID,
        TOTAL_BY_ACCOUNT_DATA_OWNER,
    },
};
use wick_harness::{Body, TestServer, User};

const USER: &str = "/_matrix/client/v3/user/@alice:localhost";
const RULES: &str = "/_matrix/client/v3/pushrules/global";

fn errcode(body: &Value) -> &str {
    body["errcode"].as_str().unwrap_or_default()
}

fn data(event_type: &str) -> String {
    format!("{USER}/account_data/{event_type}")
}

async fn initial_sync(server: &TestServer, user: &User) -> Value {
    let (status, body) = server.get("/_matrix/client/v3/sync", &user.token).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    body
}

#[tokio::test]
async fn a_users_account_data_has_a_total_and_what_is_deleted_makes_room() {
    let server =
        TestServer::start_with(|config| config.accounts.max_account_data_kilobytes = 64).await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let large = json!({ "text": "x".repeat(10_000) });
    let mut written = Vec::new();
    let refused = loop {
        let name = format!("org.test.{}", written.len());
        let (status, body) = server.put(&data(&name), &alice.token, large.clone()).await;
        if status != StatusCode::OK {
            break (status.as_u16(), errcode(&body).to_owned());
        }
        written.push(name);
        assert!(written.len() < 10, "account data has no total");
    };
    assert_eq!(refused, (413, "M_TOO_LARGE".to_owned()));
    assert!(written.len() >= 4, "{}", written.len());
    // The same size in place of what is there, and the tag of a room, which is small.
    let (status, _) = server.put(&data(&written[0]), &alice.token, large.clone()).await;
    assert_eq!(status, StatusCode::OK);
    let tag = format!("{USER}/rooms/!a:localhost/tags/u.tag");
    assert_eq!(server.put(&tag, &alice.token, json!({})).await.0, StatusCode::OK);
    // Another user's total is another one.
    let other = "/_matrix/client/v3/user/@bob:localhost/account_data/org.test";
    assert_eq!(server.put(other, &bob.token, large.clone()).await.0, StatusCode::OK);
    assert_eq!(server.put(&data(&written[1]), &alice.token, json!({})).await.0, StatusCode::OK);
    assert_eq!(server.put(&data("org.test.new"), &alice.token, large).await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_user_has_a_bounded_number_of_pieces_of_account_data_however_they_come_and_go() {
    let server = TestServer::start_with(|config| config.accounts.max_account_data = 5).await;
    let alice = server.register("alice").await;
    // One of the five is the push rules.
    for number in 0..20 {
        let name = data(&format!("org.test.{number}"));
        assert_eq!(server.put(&name, &alice.token, json!({ "a": 1 })).await.0, StatusCode::OK);
        assert_eq!(server.put(&name, &alice.token, json!({})).await.0, StatusCode::OK);
    }
    for number in 0..4 {
        let name = data(&format!("org.kept.{number}"));
        assert_eq!(server.put(&name, &alice.token, json!({ "a": 1 })).await.0, StatusCode::OK);
    }
    let (status, body) = server.put(&data("org.more"), &alice.token, json!({ "a": 1 })).await;
    assert_eq!((status.as_u16(), errcode(&body)), (413, "M_TOO_LARGE"));
    let sync = initial_sync(&server, &alice).await;
    assert_eq!(sync["account_data"]["events"].as_array().unwrap().len(), 5);
}

#[tokio::test]
async fn the_oldest_of_too_many_filters_goes() {
    let server = TestServer::start_with(|config| config.accounts.max_filters = 3).await;
    let alice = server.register("alice").await;
    let filters = format!("{USER}/filter");
    let mut ids = Vec::new();
    for limit in [1, 2, 3, 1, 4] {
        server.clock.advance(std::time::Duration::from_secs(1)).await;
        let filter = json!({ "room": { "timeline": { "limit": limit } } });
        let (status, body) = server.post(&filters, &alice.token, filter).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        ids.push(body["filter_id"].as_str().unwrap().to_owned());
    }
    let mut found = Vec::new();
    for id in &ids {
        found.push(server.get(&format!("{filters}/{id}"), &alice.token).await.0.as_u16());
    }
    // The first was made again before the fourth came.
    assert_eq!(found, [200, 404, 200, 200, 200]);
}

#[tokio::test]
async fn pushers_and_push_rules_are_bounded_in_number_and_size() {
    let server = TestServer::start_with(|config| {
        config.accounts.max_pushers = 2;
        config.accounts.max_push_rules = 2;
    })
    .await;
    let alice = server.register("alice").await;
    let pusher = |key: &str, name: &str| {
        json!({
            "kind": "http", "app_id": "app", "pushkey": key, "lang": "en", "append": true,
            "app_display_name": name, "device_display_name": "device",
            "data": { "url": "https://dummy.url/_matrix/push/v1/notify" },
        })
    };
    let long = "x".repeat(20_000);
    for (key, name, expected) in [
        ("a", "app", 200),
        ("b", "app", 200),
        ("c", "app", 413),
        ("b", "again", 200),
        ("a", &long, 413),
    ] {
        let set = "/_matrix/client/v3/pushers/set";
        let (status, body) = server.post(set, &alice.token, pusher(key, name)).await;
        assert_eq!(status.as_u16(), expected, "{key}: {body}");
    }
    let pattern = |length: usize| json!({ "pattern": "?".repeat(length), "actions": ["notify"] });
    let conditions = |count: usize| {
        let condition = json!({ "kind": "event_match", "key": "type", "pattern": "m.*" });
        json!({ "conditions": vec![condition; count], "actions": [] })
    };
    let long_condition = json!({
        "conditions": [{ "kind": "event_match", "key": "type", "pattern": "?".repeat(513) }],
        "actions": [],
    });
    for (rule, body, expected) in [
        ("content/a", pattern(512), 200),
        ("content/a", pattern(513), 400),
        ("underride/b", conditions(33), 400),
        ("underride/b", long_condition, 400),
        ("underride/b", conditions(32), 200),
        ("content/c", pattern(1), 413),
        ("content/a", pattern(1), 200),
        ("content/a/actions", json!({ "actions": vec!["notify"; 33] }), 400),
    ] {
        let (status, answer) = server.put(&format!("{RULES}/{rule}"), &alice.token, body).await;
        assert_eq!(status.as_u16(), expected, "{rule}: {answer}");
    }
    let long_id = format!("{RULES}/content/{}", "a".repeat(256));
    assert_eq!(server.put(&long_id, &alice.token, pattern(1)).await.0.as_u16(), 400);
}

/// Every endpoint whose body is stored, with a body that holds `deep` somewhere.
fn storing(deep: &str) -> Vec<(Method, String, String)> {
    let put = |path: String, body: String| (Method::PUT, path, body);
    vec![
        put(data("org.test"), format!(r#"{{"deep":{deep}}}"#)),
        put(format!("{USER}/rooms/!a:localhost/tags/u.tag"), format!(r#"{{"deep":{deep}}}"#)),
        put(
            format!("{RULES}/content/rule"),
            format!(r#"{{"pattern":"a","actions":["notify",{{"set_tweak":"t","value":{deep}}}]}}"#),
        ),
        put(
            format!("{RULES}/content/.m.rule.contains_user_name/actions"),
            format!(r#"{{"actions":[{{"set_tweak":"t","value":{deep}}}]}}"#),
        ),
        put(
            "/_matrix/client/v3/profile/@alice:localhost/org.test".to_owned(),
            format!(r#"{{"org.test":{deep}}}"#),
        ),
        (
            Method::POST,
            format!("{USER}/filter"),
            format!(r#"{{"room":{{"timeline":{{"limit":1}},"deep":{deep}}}}}"#),
        ),
        (
            Method::POST,
            "/_matrix/client/v3/pushers/set".to_owned(),
            format!(
                r#"{{"kind":"http","app_id":"a","pushkey":"k","lang":"en","app_display_name":"a",
                "device_display_name":"d","data":{{"url":"https://a/_matrix/push/v1/notify","deep":{deep}}}}}"#
            ),
        ),
    ]
}

#[tokio::test]
async fn what_is_stored_can_be_read_again_however_deep_it_is() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    for levels in [90, 97, 101, 110, 122, 126, 128, 200, 50_000] {
        let deep = format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        for (method, path, body) in storing(&deep) {
            let request = Request::builder()
                .method(method)
                .uri(&path)
                .header(header::AUTHORIZATION, format!("Bearer {}", alice.token))
                .body(Body::from(body))
                .unwrap();
            let answer = server.send(request).await;
            if levels <= 90 {
                assert_eq!(answer.status, StatusCode::OK, "{path}: {:?}", answer.body);
            } else if levels > 100 {
                let told = (answer.status.as_u16(), errcode(&answer.body));
                assert_eq!(told, (400, "M_BAD_JSON"), "{levels} levels: {path}");
            }
            for read in
                [format!("{RULES}/"), "/_matrix/client/v3/profile/@alice:localhost".to_owned()]
            {
                let (status, body) = server.get(&read, &alice.token).await;
                assert_eq!(status, StatusCode::OK, "{levels} levels: {path}, {read}: {body}");
            }
            initial_sync(&server, &alice).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_writes_at_once_every_answered_one_is_there() {
    let server = Arc::new(TestServer::start().await);
    let alice = server.register("alice").await;
    let tags = format!("{USER}/rooms/!a:localhost/tags");
    for round in 0..20 {
        let names: Vec<_> = (0..8).map(|number| format!("r{round}k{number}")).collect();
        let mut writes = Vec::new();
        for name in &names {
            let rule = json!({ "pattern": name, "actions": [] });
            writes.push((format!("{RULES}/content/{name}"), rule));
            writes.push((format!("{tags}/u.{name}"), json!({})));
        }
        let mut tasks = JoinSet::new();
        for (path, body) in writes {
            let (server, token) = (Arc::clone(&server), alice.token.clone());
            tasks.spawn(async move { server.put(&path, &token, body).await.0 });
        }
        for status in tasks.join_all().await {
            assert_eq!(status, StatusCode::OK);
        }
        let (_, rules) = server.get(&format!("{RULES}/"), &alice.token).await;
        let (_, tags) = server.get(&tags, &alice.token).await;
        for name in names {
            let content = rules["content"].as_array().unwrap();
            assert!(content.iter().any(|rule| rule["rule_id"] == *name), "{name} is lost");
            assert!(tags["tags"].get(format!("u.{name}")).is_some(), "the tag {name} is lost");
        }
    }
}

#[tokio::test]
async fn what_a_deactivated_user_has_stored_is_removed() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let writes = [
        (Method::PUT, data("org.test"), json!({ "a": 1 })),
        (Method::PUT, format!("{USER}/rooms/!a:localhost/tags/u.tag"), json!({})),
        (Method::POST, format!("{USER}/filter"), json!({})),
    ];
    for (method, path, body) in writes {
        assert_eq!(server.request(method, &path, &alice.token, body).await.0, StatusCode::OK);
    }
    let (user, _) = server.services().users.get(&alice.user_id).unwrap().unwrap();
    let rows = || {
        let read = server.services().database.latest();
        read.scan(&ACCOUNT_DATA_BY_TYPE, Range::prefix((user,))).count()
            + read.scan(&ACCOUNT_DATA_CHANGE_BY_POSITION, Range::prefix((user,))).count()
            + read.scan(&FILTER_BY_ID, Range::prefix((user,))).count()
            + read.scan(&FILTER_BY_CREATION, Range::prefix((user,))).count()
            + usize::from(read.contains(&TOTAL_BY_ACCOUNT_DATA_OWNER, &user).unwrap())
    };
    assert_eq!(rows(), 3 + 3 + 1 + 1 + 1);
    server.services().deactivate(user, Proof::not_needed(), false).await.unwrap();
    assert_eq!(rows(), 0);
}
