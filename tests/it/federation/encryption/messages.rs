//! Messages from device to device, between two servers.

use std::sync::Arc;

use http::StatusCode;
use ruma::{ServerName, serde::Raw};
use ruma_federation_api::transactions::edu::Edu;
use serde_json::{Value, json};
use wick_database::FaultAction;
use wick_harness::{FATES, Strike};

use super::{A, Pair, V3, receive};

impl Pair {
    async fn send_to_bob(&self, transaction: &str, content: Value) {
        let path = format!("{V3}/sendToDevice/test.type/{transaction}");
        let messages =
            json!({ self.bob.user_id.as_str(): { self.bob.device_id.as_str(): content } });
        let body = json!({ "messages": messages });
        let (status, body) = self.a.put(&path, &self.alice.token, body).await;
        assert_eq!(status, StatusCode::OK, "{body}");
    }

    /// What is in the inbox of Bob's device.
    async fn inbox_of_bob(&self) -> Vec<Value> {
        let (_, body) = self.b.get(&format!("{V3}/sync"), &self.bob.token).await;
        body["to_device"]["events"].as_array().cloned().unwrap_or_default()
    }
}

#[tokio::test]
async fn a_message_to_a_device_of_another_server_arrives_once_however_often_it_is_sent() {
    let pair = Pair::start().await;
    for (transaction, number) in [("1", 1), ("1", 1), ("2", 2)] {
        pair.send_to_bob(transaction, json!({ "n": number })).await;
    }
    let sent = pair.taken(1, 2).await;
    assert_eq!(sent.len(), 2, "{sent:?}");
    for edu in [&sent[0], &sent[1], &sent[0], &sent[1]] {
        // Another server cannot send in the name of this one's users.
        receive(&pair.b, "evil.test", edu).await;
        receive(&pair.b, A, edu).await;
    }
    let message = |number| {
        let content = json!({ "n": number });
        json!({ "sender": pair.alice.user_id, "type": "test.type", "content": content })
    };
    assert_eq!(pair.inbox_of_bob().await, [message(1), message(2)]);
}

#[tokio::test]
async fn a_message_to_all_devices_reaches_those_of_another_server() {
    let pair = Pair::start().await;
    let second = pair.b.log_in(&pair.bob).await;
    let path = format!("{V3}/sendToDevice/test.type/1");
    let body = json!({ "messages": { pair.bob.user_id.as_str(): { "*": { "n": 1 } } } });
    pair.a.put(&path, &pair.alice.token, body).await;
    receive(&pair.b, A, &pair.taken(1, 1).await[0]).await;
    for device in [&pair.bob, &second] {
        let (_, body) = pair.b.get(&format!("{V3}/sync"), &device.token).await;
        assert_eq!(body["to_device"]["events"][0]["content"]["n"], 1, "{body}");
    }
}

#[tokio::test]
async fn a_message_that_comes_in_is_delivered_once_whatever_becomes_of_the_commit() {
    for fate in FATES {
        let strike = Strike::new();
        let mut pair = Pair::with(Some(Arc::clone(&strike))).await;
        // It has been seen: what it does next is the next commit.
        assert_eq!(pair.inbox_of_bob().await, Vec::<Value>::new());
        pair.send_to_bob("1", json!({ "n": 1 })).await;
        let edu = pair.taken(1, 1).await.remove(0);
        let origin = ServerName::parse(A).unwrap();
        let raw = Raw::<Edu>::from_json_string(edu.to_string()).unwrap();
        strike.at(1, fate);
        assert!(pair.b.services().receive_edu(&origin, &raw).await.is_err(), "{fate:?}");
        assert!(strike.has_struck());
        if fate != FaultAction::Fail {
            pair.gates[1].close();
            pair.b.crash().await;
        }
        receive(&pair.b, A, &edu).await;
        assert_eq!(pair.inbox_of_bob().await.len(), 1, "{fate:?}");
    }
}
