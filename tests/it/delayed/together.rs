//! Several that are due at once and have to do with each other: each sees what came before it.

use serde_json::{Value, json};
use wick_room::invariants;

use super::later::{By, Later, delay_id};
use crate::expiry::call::{Call, seconds};

/// The root of a thread, or of what else relates to it.
async fn root(call: &Call) -> String {
    let content = json!({ "msgtype": "m.text", "body": "root" });
    let (_, answer) = call.send_type(&call.alice, "m.room.message", "root", content).await;
    answer["event_id"].as_str().unwrap().to_owned()
}

fn in_thread(root: &str, body: &str) -> Value {
    let relation = json!({ "rel_type": "m.thread", "event_id": root });
    json!({ "msgtype": "m.text", "body": body, "m.relates_to": relation })
}

/// Schedules, lets all fire at once, and waits until they have.
async fn together(call: &Call, events: &[(&str, Value)]) -> Vec<Value> {
    let mut ids = Vec::new();
    for (number, (event_type, content)) in events.iter().enumerate() {
        let transaction = format!("together{number}");
        let later = Later::message(&transaction).of_type(event_type, content.clone());
        ids.push(delay_id(&call.later(&call.alice, By::Query, &later).await));
    }
    call.server.clock.advance(seconds(10)).await;
    let mut over = Vec::new();
    for id in &ids {
        over.push(call.until_over(id).await);
    }
    let read = call.server.services().database.published();
    assert_eq!(invariants::check(&read).unwrap(), []);
    over
}

/// The threads of the room: the root's body, how many replies, and the body of the newest.
async fn threads(call: &Call) -> Vec<(String, u64, String)> {
    let path = format!("/_matrix/client/v1/rooms/{}/threads", call.room);
    let (_, body) = call.server.get(&path, &call.alice.token).await;
    let chunk = body["chunk"].as_array().unwrap().clone();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    chunk
        .iter()
        .map(|root| {
            let thread = &root["unsigned"]["m.relations"]["m.thread"];
            let newest = &thread["latest_event"]["content"]["body"];
            (text(&root["content"]["body"]), thread["count"].as_u64().unwrap(), text(newest))
        })
        .collect()
}

#[tokio::test]
async fn replies_in_one_thread_are_counted_and_listed_as_one() {
    let call = Call::new().await;
    let root = root(&call).await;
    let replies: Vec<_> =
        ["one", "two", "three"].map(|body| ("m.room.message", in_thread(&root, body))).into();
    together(&call, &replies).await;
    assert_eq!(threads(&call).await, [("root".to_owned(), 3, "three".to_owned())]);
}

#[tokio::test]
async fn redactions_of_the_newest_replies_leave_the_one_before_them() {
    let call = Call::new().await;
    let root = root(&call).await;
    let mut said = Vec::new();
    for body in ["one", "two", "three"] {
        let content = in_thread(&root, body);
        let (_, answer) = call.send_type(&call.alice, "m.room.message", body, content).await;
        said.push(answer["event_id"].clone());
    }
    let redaction = |number: usize| ("m.room.redaction", json!({ "redacts": said[number] }));
    let four = ("m.room.message", in_thread(&root, "four"));
    together(&call, &[redaction(2), redaction(1), four, redaction(0)]).await;
    assert_eq!(threads(&call).await, [("root".to_owned(), 1, "four".to_owned())]);
}

#[tokio::test]
async fn a_reaction_counts_once_however_it_is_written() {
    let call = Call::new().await;
    let root = root(&call).await;
    let relation = json!({ "rel_type": "m.annotation", "event_id": root, "key": "+" });
    let reaction = ("m.reaction", json!({ "m.relates_to": relation }));
    let over = together(&call, &[reaction.clone(), reaction]).await;
    assert!(over[0]["event_id"].is_string());
    assert_eq!(over[1]["error"]["errcode"], "M_DUPLICATE_ANNOTATION");
}

#[tokio::test]
async fn a_search_finds_nothing_that_was_redacted_together_with_the_end_of_an_expiring_event() {
    let call = Call::new().await;
    let mut ids = Vec::new();
    for (transaction, content) in [
        ("message", json!({ "msgtype": "m.text", "body": "needle" })),
        ("expiring", json!({ "msgtype": "m.text", "body": "needle too", "m.will_expire": 10 })),
        ("kept", json!({ "msgtype": "m.text", "body": "straw", "m.will_expire": 10 })),
    ] {
        let answer = call.send_type(&call.alice, "m.room.message", transaction, content).await.1;
        ids.push(answer["event_id"].clone());
    }
    let redaction = |number: usize| ("m.room.redaction", json!({ "redacts": ids[number] }));
    together(&call, &[redaction(0), redaction(1)]).await;
    call.until(ids[2].as_str().unwrap(), "expired").await;
    let found = async |term| {
        let search = json!({ "search_categories": { "room_events": { "search_term": term } } });
        let path = "/_matrix/client/v3/search";
        let (_, body) = call.server.post(path, &call.alice.token, search).await;
        let found = body["search_categories"]["room_events"]["results"].as_array().unwrap().clone();
        found.iter().map(|row| row["result"]["event_id"].clone()).collect::<Vec<_>>()
    };
    // Armed first, the expiring event ends before its redaction; its copy repeats what was redacted.
    assert_eq!(call.terminals(ids[1].as_str().unwrap()).len(), 1);
    assert!(found("needle").await.is_empty());
    assert_eq!(found("straw").await.len(), 2, "the event and its copy");
}
