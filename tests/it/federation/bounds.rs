//! What is kept for a server that is out of reach, and what is taken from one that sends too much.

use std::collections::BTreeMap;

use ruma::{ServerName, serde::Raw, server_name};
use serde_json::{Value, json};
use wick_database::{
    Durability, Range, Read,
    schema::{
        outgoing::{EDU_BY_STREAM, HELD_BY_DESTINATION, OUTGOING_BY_DESTINATION, Outgoing},
        to_device::{OUTSTANDING_BY_SERVER, Outstanding},
    },
};
use wick_harness::{TestNetwork, TestServer, User};

use super::{
    receiver::{Receiver, shared_room},
    waiting::until,
};
use crate::talk::say;

const V3: &str = "/_matrix/client/v3";

/// The EDUs in the queue of a destination, by type.
fn queued(server: &TestServer, destination: &ServerName) -> BTreeMap<String, Vec<Value>> {
    let read = server.services().database.latest();
    let mut queued = BTreeMap::<String, Vec<Value>>::new();
    for row in read.scan(&OUTGOING_BY_DESTINATION, Range::prefix((destination.to_owned(),))) {
        if let Outgoing::Edu(edu) = row.unwrap().1 {
            let edu: Value = serde_json::from_str(&edu).unwrap();
            let of_type = queued.entry(edu["edu_type"].as_str().unwrap().to_owned()).or_default();
            of_type.push(edu["content"].clone());
        }
    }
    queued
}

/// Has a server find another one out of reach.
async fn lose(server: &TestServer, alice: &User, b: &Receiver) {
    let room = shared_room(server, alice, &[b]).await;
    b.set_down(true);
    say(server, &room, alice, "lost").await;
    let federation = server.services().federation().unwrap();
    until(|| federation.retry_at(server_name!("b.test")).unwrap().is_some()).await;
}

async fn send_to_device(server: &TestServer, alice: &User, number: usize, content: &str) {
    let path = format!("{V3}/sendToDevice/test.type/{number}");
    let message = json!({ "n": number, "text": content });
    let body = json!({ "messages": { "@user:b.test": { "DEVICE": message } } });
    assert_eq!(server.put(&path, &alice.token, body).await.0, 200);
}

#[tokio::test]
async fn of_the_updates_of_a_device_list_the_newest_alone_waits_for_a_server_out_of_reach() {
    let network = TestNetwork::new();
    let server = TestServer::start_from(network.options("a.test")).await;
    let mut b = Receiver::join(&network, "b.test").await;
    let (alice, carol) = (server.register("alice").await, server.register("carol").await);
    let other = shared_room(&server, &carol, &[&b]).await;
    lose(&server, &alice, &b).await;
    let updates = || queued(&server, server_name!("b.test")).remove("m.device_list_update");
    let mut last = alice.clone();
    for _ in 0..5 {
        last = server.log_in(&alice).await;
        let of_last = json!(last.device_id);
        until(|| {
            let updates = updates().unwrap_or_default();
            updates.last().is_some_and(|update| update["device_id"] == of_last)
        })
        .await;
    }
    server.log_in(&carol).await;
    until(|| {
        updates()
            .is_some_and(|updates| updates.iter().any(|one| one["user_id"] == json!(carol.user_id)))
    })
    .await;
    let updates = updates().unwrap();
    assert_eq!(updates.len(), 2, "one for each user: {updates:?}");
    // The server learns from the number before it that it misses some.
    assert_eq!(updates[0]["prev_id"].as_array().map(Vec::len), Some(1), "{updates:?}");
    b.set_down(false);
    b.give_sign_of_life(&server).await;
    let update = b.edu("m.device_list_update").await;
    assert_eq!(update["device_id"], json!(last.device_id));
    drop(other);
}

#[tokio::test]
async fn messages_for_a_server_out_of_reach_are_limited_in_number_and_bytes() {
    for by_bytes in [false, true] {
        let network = TestNetwork::new();
        let mut options = network.options("a.test");
        let limits = &mut options.config.federation;
        (limits.max_messages, limits.max_messages_megabytes) =
            if by_bytes { (100, 1) } else { (3, 64) };
        let server = TestServer::start_from(options).await;
        let mut b = Receiver::join(&network, "b.test").await;
        let alice = server.register("alice").await;
        lose(&server, &alice, &b).await;
        let (content, most) = if by_bytes { ("x".repeat(60_000), 17) } else { (String::new(), 3) };
        for number in 0..=most {
            send_to_device(&server, &alice, number, &content).await;
        }
        let b_name = server_name!("b.test");
        let messages = || queued(&server, b_name).remove("m.direct_to_device").unwrap_or_default();
        // All of them are in the queue of the server by then, or dropped.
        let database = &server.services().database;
        until(|| database.latest().first(&EDU_BY_STREAM, Range::all()).unwrap().is_none()).await;
        assert_eq!(messages().len(), most);
        b.set_down(false);
        b.give_sign_of_life(&server).await;
        for number in 0..most {
            let message = b.edu("m.direct_to_device").await["messages"]["@user:b.test"].clone();
            assert_eq!(message["DEVICE"]["n"], number, "the oldest are kept");
        }
        let held = || server.services().database.latest().get(&HELD_BY_DESTINATION, b_name);
        until(|| held().unwrap().is_none()).await;
        // There is room again.
        send_to_device(&server, &alice, 100, "").await;
        let message = b.edu("m.direct_to_device").await["messages"]["@user:b.test"].clone();
        assert_eq!(message["DEVICE"]["n"], 100, "the last one before was dropped");
    }
}

#[tokio::test]
async fn messages_of_all_users_of_a_server_together_are_limited() {
    let network = TestNetwork::new();
    let server = TestServer::start_from(network.options("a.test")).await;
    let alice = server.register("alice").await;
    let database = &server.services().database;
    let origin = server_name!("b.test");
    let receive = async |id: usize| {
        let edu = json!({ "edu_type": "m.direct_to_device", "content": {
            "sender": format!("@user{id}:b.test"), "type": "test.type", "message_id": id.to_string(),
            "messages": { alice.user_id.as_str(): { alice.device_id.as_str(): { "n": id } } },
        } });
        let edu = Raw::from_json_string(edu.to_string()).unwrap();
        server.services().receive_edu(origin, &edu).await.unwrap();
    };
    let outstanding = || database.latest().get(&OUTSTANDING_BY_SERVER, origin).unwrap();
    receive(1).await;
    assert_eq!(outstanding().unwrap().messages, 1);
    let mut batch = database.batch();
    let full = Outstanding { messages: 1_000_000, bytes: 1_000_000 };
    batch.put(&OUTSTANDING_BY_SERVER, origin, &full);
    database.commit(batch, Durability::Synced).await.unwrap();
    receive(2).await;
    assert_eq!(outstanding(), Some(full), "it was dropped");
    // What is delivered is taken off.
    let (_, body) = server.get(&format!("{V3}/sync"), &alice.token).await;
    assert_eq!(body["to_device"]["events"].as_array().map(Vec::len), Some(1), "{body}");
    let since = body["next_batch"].as_str().unwrap();
    server.get(&format!("{V3}/sync?since={since}"), &alice.token).await;
    assert_eq!(outstanding().map(|full| full.messages), Some(999_999));
    receive(3).await;
    assert_eq!(outstanding().map(|full| full.messages), Some(1_000_000));
}
