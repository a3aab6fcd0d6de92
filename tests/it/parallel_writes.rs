//! Changes that one user makes at the same time: each that is answered is there.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use wick_harness::{TestServer, User};

use crate::talk::{room, say};

const ROUNDS: usize = 6;
const AT_ONCE: usize = 8;

async fn put_all(server: &TestServer, user: &User, paths: Vec<String>, body: Value) {
    let requests = paths.iter().map(|path| server.put(path, &user.token, body.clone()));
    for (status, body) in futures_util::future::join_all(requests).await {
        assert_eq!(status.as_u16(), 200, "{body}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn push_rules_that_are_made_at_the_same_time_are_all_there() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let rules = "/_matrix/client/v3/pushrules/global/content";
    let body = json!({ "pattern": "word", "actions": ["notify"] });
    let mut expected = BTreeSet::new();
    for round in 0..ROUNDS {
        let ids: Vec<String> = (0..AT_ONCE).map(|number| format!("k{round}_{number}")).collect();
        let paths = ids.iter().map(|id| format!("{rules}/{id}")).collect();
        put_all(&server, &alice, paths, body.clone()).await;
        expected.extend(ids);
    }
    let (_, found) = server.get("/_matrix/client/v3/pushrules/", &alice.token).await;
    let found: BTreeSet<String> = found["global"]["content"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|rule| rule["rule_id"].as_str())
        .filter(|id| id.starts_with('k'))
        .map(str::to_owned)
        .collect();
    assert_eq!(found, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn tags_that_are_set_at_the_same_time_are_all_there() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let room_id = room(&server, &alice).await;
    let tags = format!("/_matrix/client/v3/user/@alice:localhost/rooms/{room_id}/tags");
    let mut expected = BTreeSet::new();
    for round in 0..ROUNDS {
        let names: Vec<String> = (0..AT_ONCE).map(|number| format!("u.{round}.{number}")).collect();
        let paths = names.iter().map(|name| format!("{tags}/{name}")).collect();
        put_all(&server, &alice, paths, json!({})).await;
        expected.extend(names);
    }
    let (_, found) = server.get(&tags, &alice.token).await;
    let found: BTreeSet<String> = found["tags"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(found, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_read_markers_that_are_set_at_the_same_time_the_furthest_stays() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let room_id = room(&server, &alice).await;
    let path = format!("/_matrix/client/v3/rooms/{room_id}/read_markers");
    let marker = format!(
        "/_matrix/client/v3/user/@alice:localhost/rooms/{room_id}/account_data/m.fully_read",
    );
    for round in 0..ROUNDS {
        let mut events = Vec::new();
        for number in 0..AT_ONCE {
            events.push(say(&server, &room_id, &alice, &format!("{round} {number}")).await);
        }
        let requests = events.iter().map(|event_id| {
            let body = json!({ "m.fully_read": event_id, "m.read": event_id });
            server.post(&path, &alice.token, body)
        });
        for (status, body) in futures_util::future::join_all(requests).await {
            assert_eq!(status.as_u16(), 200, "{body}");
        }
        let (_, found) = server.get(&marker, &alice.token).await;
        assert_eq!(found["event_id"].as_str(), events.last().map(|last| last.as_str()));
    }
}
