//! An expired event has its status wherever it is read.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "what a test asks for is there")]

use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};
use wick_harness::{TestRoom, TestServer, User};

/// All events with this id in an answer, however deep.
pub(crate) fn find<'a>(value: &'a Value, id: &str, found: &mut Vec<&'a Value>) {
    match value {
        Value::Object(fields) => {
            let is_event = fields.get("event_id").is_some_and(|event| event == id);
            if is_event && fields.contains_key("content") {
                found.push(value);
            }
            fields.values().for_each(|value| find(value, id, found));
        }
        Value::Array(values) => values.iter().for_each(|value| find(value, id, found)),
        _ => {}
    }
}

async fn send(server: &TestServer, user: &User, path: &str, content: Value) -> String {
    let (status, body) = server.put(path, &user.token, content).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    body["event_id"].as_str().unwrap().to_owned()
}

/// Waits until these events expired.
async fn until_expired(server: &TestServer, user: &User, room: &TestRoom<'_>, events: &[&String]) {
    let services = server.services();
    let short = services.graph.short(&services.database.published(), &room.id).unwrap().unwrap();
    for event in events {
        let path = room.path(&format!("/event/{event}"));
        loop {
            let mut watch = services.database.watch().room(short);
            let (_, body) = server.get(&path, &user.token).await;
            if body["unsigned"]["m.will_expire"]["status"] == "expired" {
                break;
            }
            let changed = tokio::time::timeout(Duration::from_secs(60), watch.changed());
            assert!(changed.await.is_ok(), "{event} never expired");
        }
    }
}

#[tokio::test]
async fn the_status_of_an_expired_event_is_told_by_every_endpoint_that_shows_it() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let room = server.room(&alice, "shared").await;
    let root = room.say(&alice, "root").await;
    let relation = json!({ "rel_type": "m.thread", "event_id": root });
    let content = json!({
        "msgtype": "m.text", "body": "needle", "m.will_expire": 5, "m.relates_to": relation,
    });
    let message = send(&server, &alice, &room.path("/send/m.room.message/1"), content).await;
    let content = json!({ "m.will_expire": 5 });
    let state = send(&server, &alice, &room.path("/state/org.example.here/x"), content).await;
    let content = json!({ "msgtype": "m.text", "body": "thread root", "m.will_expire": 5 });
    let thread = send(&server, &alice, &room.path("/send/m.room.message/2"), content).await;
    room.relate(&alice, "m.thread", &thread.as_str().try_into().unwrap(), "answer").await;

    let v1 = format!("/_matrix/client/v1/rooms/{}", room.id);
    let gets = [
        (&message, room.path(&format!("/event/{message}"))),
        (&message, room.path("/messages?dir=b&limit=50")),
        (&message, room.path("/messages?dir=f&limit=50")),
        (&message, room.path(&format!("/context/{message}"))),
        (&message, room.path(&format!("/context/{root}?limit=20"))),
        (&message, format!("{v1}/relations/{root}")),
        (&message, format!("{v1}/relations/{root}/m.thread/m.room.message")),
        (&thread, format!("{v1}/threads")),
        (&message, "/_matrix/client/v3/sync".to_owned()),
        (&state, room.path(&format!("/event/{state}"))),
        (&state, "/_matrix/client/v3/sync".to_owned()),
    ];
    let running_only = [
        (&message, format!("{v1}/threads")),
        (&state, room.path("/state")),
        (&state, room.path("/state/org.example.here/x?format=event")),
        (&state, room.path(&format!("/context/{thread}"))),
    ];
    let search = json!({ "search_categories": { "room_events": {
        "search_term": "needle", "event_context": {},
    } } });
    for status in ["running", "expired"] {
        let mut answers = Vec::new();
        let also = running_only.iter().filter(|_| status == "running");
        for (event, path) in gets.iter().chain(also) {
            let (code, body) = server.get(path, &alice.token).await;
            assert_eq!(code, StatusCode::OK, "{path}: {body}");
            answers.push((*event, path.as_str(), body));
        }
        let path = "/_matrix/client/v3/search";
        let (_, body) = server.post(path, &alice.token, search.clone()).await;
        answers.push((&message, path, body));
        for (event, path, body) in &answers {
            let mut shown = Vec::new();
            find(body, event, &mut shown);
            assert!(!shown.is_empty(), "{path} does not show the {status} event: {body}");
            for shown in shown {
                assert_eq!(shown["unsigned"]["m.will_expire"]["status"], status, "{path}: {shown}");
            }
        }
        if status == "running" {
            server.clock.advance(Duration::from_secs(6)).await;
            until_expired(&server, &alice, &room, &[&message, &state, &thread]).await;
        }
    }
}
