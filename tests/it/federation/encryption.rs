//! End-to-end encryption of users of two servers: keys, device lists, messages from device to device.

mod messages;
mod updates;

use std::{
    future::{Ready, ready},
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Json, Router, routing::put};
use http::StatusCode;
use ruma::{ServerName, serde::Raw};
use ruma_federation_api::transactions::edu::Edu;
use serde_json::{Value, json};
use tokio::sync::Notify;
use wick_database::{
    Read,
    schema::remote_devices::{ANNOUNCED_LIST_BY_USER, REMOTE_LIST_BY_USER, RemoteList},
};
use wick_harness::{Gate, Options, Strike, TestNetwork, TestServer, User};

use super::waiting::until;
use crate::{
    encryption::signer::{
        ALGORITHM, CLAIM, QUERY, Signer, claim, keys, query, upload, upload_device_keys,
    },
    talk::{member, room},
};

const V3: &str = "/_matrix/client/v3";
const A: &str = "a.test";
const B: &str = "b.test";
const SEND: &str = "/_matrix/federation/v1/send/{transaction}";

/// EDUs in the order in which they were sent.
type Sent = Arc<Mutex<Vec<Value>>>;

/// Alice on one server, Bob on another.
struct Pair {
    network: TestNetwork,
    a: TestServer,
    b: TestServer,
    alice: User,
    bob: User,
    /// What is before Alice's server and before Bob's.
    gates: [Gate; 2],
    /// The EDUs that were sent to Alice's server and to Bob's, and have not been delivered.
    sent: [Sent; 2],
}

impl Pair {
    async fn start() -> Self {
        Self::with(None).await
    }

    /// `fault` strikes Bob's server.
    async fn with(fault: Option<Arc<Strike>>) -> Self {
        let network = TestNetwork::new();
        let gates = [Gate::default(), Gate::default()];
        let a = TestServer::start_from(network.options(A)).await;
        let fault = fault.map(|fault| fault as _);
        let b = TestServer::start_from(Options { fault, ..network.options(B) }).await;
        let sent = [Sent::default(), Sent::default()];
        for (at, name, server) in [(0, A, &a), (1, B, &b)] {
            gates[at].open(server);
            let routes = Router::new().route(SEND, put(held(&sent[at])));
            network.join(name, routes.fallback_service(gates[at].routes())).await;
        }
        let (alice, bob) = (a.register("alice").await, b.register("bob").await);
        // Their devices are no news any more.
        until(|| announced(&a, &alice) == 1 && announced(&b, &bob) == 1).await;
        Self { network, gates, a, b, alice, bob, sent }
    }

    /// Has both servers count both users into a room.
    async fn share_a_room(&self) {
        share(&self.a, &self.alice, &self.bob).await;
        share(&self.b, &self.bob, &self.alice).await;
    }

    /// Waits for so many EDUs to Alice's server, and gives them to it.
    async fn deliver_to_a(&self, count: usize) -> Vec<Value> {
        let edus = self.taken(0, count).await;
        for edu in &edus {
            receive(&self.a, B, edu).await;
        }
        edus
    }

    /// Waits for so many EDUs to a server, and takes them off the way.
    async fn taken(&self, at: usize, count: usize) -> Vec<Value> {
        until(|| self.sent[at].lock().unwrap().len() >= count).await;
        std::mem::take(&mut *self.sent[at].lock().unwrap())
    }

    /// Uploads keys of a new device of Bob's, and waits until that is announced: first the device, then its keys.
    async fn new_device_of_bob(&self) -> User {
        let before = announced(&self.b, &self.bob);
        let device = self.b.log_in(&self.bob).await;
        until(|| announced(&self.b, &self.bob) == before + 1).await;
        upload_device_keys(&self.b, &device).await;
        until(|| announced(&self.b, &self.bob) == before + 2).await;
        device
    }

    /// The devices of Bob that Alice sees.
    async fn devices_of_bob(&self) -> Vec<String> {
        let answer = query(&self.a, &self.alice, &[&self.bob]).await;
        let devices = answer["device_keys"][self.bob.user_id.as_str()].as_object();
        devices.into_iter().flatten().map(|(id, _)| id.clone()).collect()
    }

    fn list_of_bob(&self) -> Option<RemoteList> {
        let database = &self.a.services().database;
        let latest = database.latest();
        let bob = database.intern().lookup_user(&latest, &self.bob.user_id).unwrap()?;
        latest.get(&REMOTE_LIST_BY_USER, &bob).unwrap()
    }
}

/// Has `other` join a new room of `user`, as if the other server had sent the join.
async fn share(server: &TestServer, user: &User, other: &User) {
    let room = room(server, user).await;
    member(server, &room, other, other, "join").await;
}

/// Gives an EDU of `origin` to a server.
async fn receive(server: &TestServer, origin: &str, edu: &Value) {
    let origin = ServerName::parse(origin).unwrap();
    let edu = Raw::<Edu>::from_json_string(edu.to_string()).unwrap();
    server.services().receive_edu(&origin, &edu).await.unwrap();
}

/// Takes transactions, but does not deliver what is in them.
fn held(sent: &Sent) -> impl Fn(Json<Value>) -> Ready<Json<Value>> + Clone + Send + Sync + use<> {
    let sent = Arc::clone(sent);
    move |Json(transaction)| {
        sent.lock().unwrap().extend(transaction["edus"].as_array().into_iter().flatten().cloned());
        ready(Json(json!({ "pdus": {} })))
    }
}

/// The number of the last update that `server` has queued of a user's list.
fn announced(server: &TestServer, user: &User) -> u64 {
    let database = &server.services().database;
    let latest = database.latest();
    let user = database.intern().lookup_user(&latest, &user.user_id).unwrap().unwrap();
    latest.get(&ANNOUNCED_LIST_BY_USER, &user).unwrap().unwrap_or_default().stream_id
}

#[tokio::test]
async fn keys_of_a_user_of_another_server_are_shown_as_they_were_uploaded() {
    let pair = Pair::start().await;
    let signer = upload_device_keys(&pair.b, &pair.bob).await;
    let answer = query(&pair.a, &pair.alice, &[&pair.bob, &pair.alice]).await;
    let shown = &answer["device_keys"][pair.bob.user_id.as_str()][pair.bob.device_id.as_str()];
    assert_eq!(shown["keys"], signer.device_keys(&pair.bob)["keys"], "{answer}");
    assert!(shown["signatures"][pair.bob.user_id.as_str()].is_object(), "{answer}");
    assert_eq!(answer["failures"], json!({}));
    assert!(answer["device_keys"][pair.alice.user_id.as_str()].is_object(), "{answer}");
    // They share no room, so nothing is stored.
    assert_eq!(pair.list_of_bob(), None);
}

#[tokio::test]
async fn a_one_time_key_of_another_server_is_claimed_once() {
    let pair = Pair::start().await;
    upload_device_keys(&pair.b, &pair.bob).await;
    let body = json!({ "one_time_keys": keys([1, 2]), "fallback_keys": keys([9]) });
    upload(&pair.b, &pair.bob, body).await;
    let mut claimed = Vec::new();
    for _ in 0..3 {
        claimed.push(claim(&pair.a, &pair.alice, &pair.bob).await);
    }
    assert_eq!(claimed, [keys([1]), keys([2]), keys([9])]);
}

#[tokio::test]
async fn a_server_without_an_answer_is_a_failure_and_the_others_are_answered() {
    let pair = Pair::start().await;
    upload_device_keys(&pair.b, &pair.bob).await;
    let body = json!({ "one_time_keys": keys([1]) });
    upload(&pair.b, &pair.bob, body).await;
    let wanted = json!({ pair.bob.user_id.as_str(): [], "@eve:dead.test": [] });
    let body = json!({ "device_keys": wanted });
    let (status, body) = pair.a.post(QUERY, &pair.alice.token, body).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert!(body["failures"]["dead.test"]["error"].is_string(), "{body}");
    assert!(body["device_keys"][pair.bob.user_id.as_str()].is_object(), "{body}");
    let wanted = json!({
        pair.bob.user_id.as_str(): { pair.bob.device_id.as_str(): ALGORITHM },
        "@eve:dead.test": { "DEVICE": ALGORITHM },
    });
    let body = json!({ "one_time_keys": wanted });
    let (status, body) = pair.a.post(CLAIM, &pair.alice.token, body).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert!(body["failures"]["dead.test"]["error"].is_string(), "{body}");
    let claimed = &body["one_time_keys"][pair.bob.user_id.as_str()];
    assert_eq!(claimed[pair.bob.device_id.as_str()], keys([1]), "{body}");
}

#[tokio::test]
async fn a_server_that_does_not_answer_costs_the_time_that_the_client_gives_it() {
    let pair = Pair::start().await;
    let asked = Arc::new(Notify::new());
    let noted = Arc::clone(&asked);
    let router = Router::new().fallback(move || {
        noted.notify_one();
        std::future::pending::<StatusCode>()
    });
    pair.network.join("slow.test", router).await;
    upload_device_keys(&pair.a, &pair.alice).await;
    let wanted = json!({ pair.alice.user_id.as_str(): [], "@eve:slow.test": [] });
    let body = json!({ "device_keys": wanted, "timeout": 3_000 });
    let advance = async {
        asked.notified().await;
        pair.a.clock.advance(Duration::from_secs(3)).await;
    };
    let ((status, body), ()) = tokio::join!(pair.a.post(QUERY, &pair.alice.token, body), advance);
    assert_eq!(status, StatusCode::OK, "{body}");
    assert!(body["failures"]["slow.test"].is_object(), "{body}");
    assert!(body["device_keys"][pair.alice.user_id.as_str()].is_object(), "{body}");
}

#[tokio::test]
async fn what_a_server_says_of_users_of_others_or_of_other_devices_is_left_out() {
    let pair = Pair::start().await;
    let (eve, keys) = ("@eve:evil.test", Signer::of_device(&pair.bob).device_keys(&pair.bob));
    let answer = json!({
        "device_keys": {
            eve: { pair.bob.device_id.as_str(): keys },
            pair.bob.user_id.as_str(): { pair.bob.device_id.as_str(): keys },
        },
        "one_time_keys": {
            eve: { "OTHER": { "signed_curve25519:1": "a key" } },
            pair.bob.user_id.as_str(): { "D": { "signed_curve25519:1": "a key" } },
        },
    });
    let router = Router::new().fallback(move || ready(Json(answer.clone())));
    pair.network.join("evil.test", router).await;
    let body = json!({ "device_keys": { eve: [] } });
    let (_, body) = pair.a.post(QUERY, &pair.alice.token, body).await;
    assert_eq!(body["device_keys"], json!({ eve: {} }), "{body}");
    let body = json!({ "one_time_keys": { eve: { "D": ALGORITHM } } });
    let (_, body) = pair.a.post(CLAIM, &pair.alice.token, body).await;
    assert_eq!(body["one_time_keys"], json!({}), "{body}");
}
