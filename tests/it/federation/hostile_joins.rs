//! Answers to joins that hold a server up, are to other joins, or break off: the join ends, and nothing is left of it.

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use futures_util::{StreamExt, stream};
use http::StatusCode;
use ruma::{
    CanonicalJsonObject, OwnedRoomId, ServerName, canonical_json::CanonicalJsonValue,
    signatures::hash_and_sign_event,
};
use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinSet};
use wick_harness::{Body, TestServer, room_builder::key_of};

use super::{
    hostile_events::{Answers, Host, ensure_sound, honest, room_of_mallory, rules_of_11, stored},
    waiting::until,
};
use crate::talk;

/// A join of a user of another server to the room.
fn join_of(server: &str, draft: &Value) -> Value {
    let mut event = draft.clone();
    let user = format!("@user:{server}");
    for (key, value) in [
        ("sender", json!(user)),
        ("state_key", json!(user)),
        ("origin_server_ts", json!(1_700_000_000_000_u64)),
    ] {
        event[key] = value;
    }
    let mut event: CanonicalJsonObject = serde_json::from_value(event).unwrap();
    let key = key_of(<&ServerName>::try_from(server).unwrap());
    hash_and_sign_event(server, &key, &mut event, &rules_of_11().redaction).unwrap();
    serde_json::to_value(event).unwrap()
}

async fn is_shown(host: &Host) -> bool {
    let seen = talk::sync(&host.server, &host.bob, "").await;
    seen["rooms"]["join"].get(host.room.as_str()).is_some()
}

#[tokio::test]
async fn a_join_of_a_room_whose_servers_publish_no_keys_ends_after_a_quarter_of_an_hour() {
    let room = room_of_mallory();
    let (draft, mut answer) = honest(&room);
    // Sixteen are asked at a time, each for ten seconds: altogether they would take longer.
    let members = (0..1_500).map(|n| join_of(&format!("s{n}.silent.test"), &draft));
    answer["state"].as_array_mut().unwrap().extend(members);
    let answer = Arc::new(move || Json(answer.clone()).into_response());
    let host = Arc::new(Host::start(room.room_id(), Answers { draft, answer }).await);
    let mut joins = JoinSet::new();
    let joining = Arc::clone(&host);
    joins.spawn(async move { joining.join().await });
    // The answer was read in time; what takes long are the keys.
    until(|| host.network.silent_look_ups() > 0).await;
    let (status, body) = loop {
        match joins.try_join_next() {
            Some(joined) => break joined.unwrap(),
            None => host.server.clock.advance(Duration::from_secs(10)).await,
        }
    };
    assert_eq!(status, 502, "{body}");
    assert!(!is_shown(&host).await);
    ensure_sound(&host.server);
}

#[tokio::test]
async fn another_join_of_the_same_user_is_no_answer_to_a_join() {
    let room = room_of_mallory();
    let (draft, honest) = honest(&room);
    let event = Arc::new(Mutex::new(Value::Null));
    let shown = Arc::clone(&event);
    let answer = Arc::new(move || {
        let event = shown.lock().unwrap().clone();
        if event.is_null() {
            let refusal = json!({ "errcode": "M_FORBIDDEN", "error": "no" });
            return (StatusCode::FORBIDDEN, Json(refusal)).into_response();
        }
        let mut answer = honest.clone();
        answer["event"] = event;
        Json(answer).into_response()
    });
    let host = Host::start(room.room_id(), Answers { draft, answer }).await;
    // Joins that were signed before: to the same room, and to another one.
    assert_eq!(host.join().await.0, 403);
    let other: OwnedRoomId = "!other:c.test".try_into().unwrap();
    assert_eq!(host.join_room(&other).await.0, 403);
    host.server.clock.advance(Duration::from_secs(1)).await;
    let before = host.joins.lock().unwrap().clone();
    assert_eq!(before.len(), 2);
    let known = stored(&host.server);
    for join in &before {
        event.lock().unwrap().clone_from(join);
        let (status, body) = host.join().await;
        assert!((400..500).contains(&status), "{status} {body}");
        assert_eq!(stored(&host.server), known);
        assert!(!is_shown(&host).await);
        ensure_sound(&host.server);
    }
}

/// How many files without a name a server has open in its folder.
fn unnamed_files(server: &TestServer) -> usize {
    let files = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let targets = files.filter_map(|file| std::fs::read_link(file.path()).ok());
    let is_unnamed = |name: &str| name.starts_with('#') || name.starts_with(".tmp");
    let in_folder = targets.filter(|target| target.starts_with(server.folder()));
    let names = in_folder.filter_map(|target| Some(target.file_name()?.to_str()?.to_owned()));
    names.filter(|name| is_unnamed(name) && name.ends_with("(deleted)")).count()
}

#[tokio::test]
async fn nothing_is_left_of_a_state_that_breaks_off_between_two_portions() {
    let room = room_of_mallory();
    let (draft, mut answer) = honest(&room);
    let large = |n: usize| {
        let mut event = draft.clone();
        for (key, value) in [
            ("type", json!("org.example.large")),
            ("sender", json!("@mallory:c.test")),
            ("state_key", json!(n.to_string())),
            ("content", json!({ "text": "a".repeat(50_000) })),
            ("origin_server_ts", json!(1_700_000_000_000_u64)),
        ] {
            event[key] = value;
        }
        let mut event: CanonicalJsonObject = serde_json::from_value(event).unwrap();
        let key = key_of(<&ServerName>::try_from("c.test").unwrap());
        hash_and_sign_event("c.test", &key, &mut event, &rules_of_11().redaction).unwrap();
        CanonicalJsonValue::Object(event)
    };
    let large = (0..20).map(|n| serde_json::to_value(large(n)).unwrap());
    answer["state"].as_array_mut().unwrap().extend(large);
    let text = json!({ "state": answer["state"] }).to_string();
    let half: String = text.chars().take(text.chars().count() - 20_000).collect();
    let (release, released) = watch::channel(false);
    let answer = Arc::new(move || -> Response {
        let (half, mut released) = (half.clone(), released.clone());
        let begin = stream::once(async move { Ok(half) });
        let end = stream::once(async move {
            released.wait_for(|is_released| *is_released).await.unwrap();
            Err::<String, _>(io::Error::other("the connection breaks"))
        });
        Body::from_stream(begin.chain(end)).into_response()
    });
    let host = Arc::new(Host::start(room.room_id(), Answers { draft, answer }).await);
    let known = stored(&host.server);
    let mut joins = JoinSet::new();
    let joining = Arc::clone(&host);
    joins.spawn(async move { joining.join().await });
    until(|| unnamed_files(&host.server) == 1).await;
    release.send(true).unwrap();
    let (status, body) = joins.join_next().await.unwrap().unwrap();
    assert_eq!(status, 502, "{body}");
    until(|| unnamed_files(&host.server) == 0).await;
    assert_eq!(stored(&host.server), known);
    assert!(!is_shown(&host).await);
    ensure_sound(&host.server);
}
