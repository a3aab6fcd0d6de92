//! A server that takes transactions, and a room on another one that it is in.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Json, Router,
    extract::Path,
    response::{IntoResponse, Response},
    routing::put,
};
use http::{Method, StatusCode, header::RETRY_AFTER};
use ruma::{OwnedRoomId, UserId};
use serde_json::{Value, json};
use tokio::{sync::mpsc, time::timeout};
use wick_database::{Read, schema::remote_devices::ANNOUNCED_LIST_BY_USER};
use wick_harness::{TestNetwork, TestServer, User};

use super::{
    peer::{Peer, answer},
    waiting::until,
};
use crate::talk::{self, member};

/// Longer than anything takes.
const LONG: Duration = Duration::from_secs(60);

/// A server that takes transactions.
pub(super) struct Receiver {
    pub(super) peer: Peer,
    pub(super) user: User,
    transactions: mpsc::UnboundedReceiver<Transaction>,
    status: Arc<AtomicU16>,
    /// The `Retry-After` of its answers with another status than 200; empty for none.
    retry_after: Arc<Mutex<String>>,
    /// How many transactions it did not take.
    pub(super) refused: Arc<AtomicUsize>,
    /// EDUs that came with one that was asked for.
    edus: VecDeque<Value>,
}

/// A transaction as it came.
#[derive(Clone, Debug)]
pub(super) struct Transaction {
    pub(super) id: String,
    pub(super) pdus: Vec<Value>,
    pub(super) edus: Vec<Value>,
}

impl Receiver {
    /// A server with one user.
    pub(super) async fn join(network: &TestNetwork, name: &str) -> Self {
        let (sent, transactions) = mpsc::unbounded_channel();
        let retry_after = Arc::<Mutex<String>>::default();
        let header = Arc::clone(&retry_after);
        let (status, refused) = (Arc::new(AtomicU16::new(200)), Arc::new(AtomicUsize::new(0)));
        let (answered, counted) = (Arc::clone(&status), Arc::clone(&refused));
        let take = move |Path(id): Path<String>, Json(body): Json<Value>| {
            let (sent, status) = (sent.clone(), answered.load(Ordering::SeqCst));
            if status != 200 {
                counted.fetch_add(1, Ordering::SeqCst);
            }
            let retry_after = header.lock().unwrap().clone();
            async move { ([(RETRY_AFTER, retry_after)], take(&sent, status, id, &body)) }
        };
        let router = Router::new().route("/_matrix/federation/v1/send/{id}", put(take));
        let peer = Peer::join_with(network, name, router).await;
        let user = User {
            user_id: UserId::parse(format!("@user:{name}")).unwrap(),
            device_id: "DEVICE".into(),
            token: String::new(),
        };
        Self { peer, user, transactions, status, retry_after, refused, edus: VecDeque::new() }
    }

    /// Sets whether it answers.
    pub(super) fn set_down(&self, is_down: bool) {
        self.set_status(if is_down { 503 } else { 200 });
    }

    /// Sets the status of its answers; it takes transactions only with 200.
    pub(super) fn set_status(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    /// Sets that it limits requests, and how long to wait.
    pub(super) fn set_limit(&self, retry_after: &str) {
        retry_after.clone_into(&mut self.retry_after.lock().unwrap());
        self.set_status(429);
    }

    /// The next transaction that it took.
    pub(super) async fn next(&mut self) -> Transaction {
        timeout(LONG, self.transactions.recv()).await.expect("a transaction comes").unwrap()
    }

    /// The transactions up to the one with the message `last`.
    pub(super) async fn upto(&mut self, last: &str) -> Vec<Transaction> {
        let mut all = Vec::new();
        loop {
            let transaction = self.next().await;
            let is_last = bodies(&transaction.pdus).contains(&last.to_owned());
            all.push(transaction);
            if is_last {
                return all;
            }
        }
    }

    /// The events up to the message `last`.
    pub(super) async fn events_upto(&mut self, last: &str) -> Vec<Value> {
        self.upto(last).await.into_iter().flat_map(|transaction| transaction.pdus).collect()
    }

    /// The next EDU of a type; transactions with others are passed over.
    pub(super) async fn edu(&mut self, edu_type: &str) -> Value {
        loop {
            while let Some(edu) = self.edus.pop_front() {
                if edu["edu_type"] == edu_type {
                    return edu["content"].clone();
                }
            }
            let edus = self.next().await.edus;
            self.edus.extend(edus);
        }
    }

    /// Makes a request to `a.test`.
    pub(super) async fn give_sign_of_life(&self, server: &TestServer) {
        const PROFILE: &str = "/_matrix/federation/v1/query/profile?user_id=@nobody:a.test";
        let request = self.peer.signed((Method::GET, PROFILE), "a.test", &Value::Null);
        assert_eq!(answer(server, request).await.0, 404);
    }
}

fn take(
    sent: &mpsc::UnboundedSender<Transaction>,
    status: u16,
    id: String,
    body: &Value,
) -> Response {
    if status != 200 {
        return StatusCode::from_u16(status).unwrap().into_response();
    }
    let list = |name: &str| body[name].as_array().cloned().unwrap_or_default();
    let transaction = Transaction { id, pdus: list("pdus"), edus: list("edus") };
    assert!(transaction.pdus.len() <= 50 && transaction.edus.len() <= 100);
    sent.send(transaction).unwrap();
    Json(json!({ "pdus": {} })).into_response()
}

/// The texts of messages.
pub(super) fn bodies(events: &[Value]) -> Vec<String> {
    let body = |event: &Value| event["content"]["body"].as_str().map(str::to_owned);
    events.iter().filter_map(body).collect()
}

/// A server with a user, and two others that take transactions.
pub(super) async fn with_two_others() -> (TestNetwork, TestServer, [Receiver; 2], User) {
    let network = TestNetwork::new();
    let server = TestServer::start_from(network.options("a.test")).await;
    let b = Receiver::join(&network, "b.test").await;
    let c = Receiver::join(&network, "c.test").await;
    let alice = server.register("alice").await;
    (network, server, [b, c], alice)
}

/// A room of Alice's on `server` in which the users of these servers are.
pub(super) async fn shared_room(
    server: &TestServer,
    alice: &User,
    receivers: &[&Receiver],
) -> OwnedRoomId {
    let room = talk::room(server, alice).await;
    // Her first device is no news to a server that joins afterwards.
    until(|| is_announced(server, alice)).await;
    for receiver in receivers {
        member(server, &room, &receiver.user, &receiver.user, "join").await;
    }
    room
}

/// Whether the devices of a user have been looked at for other servers.
fn is_announced(server: &TestServer, user: &User) -> bool {
    let database = &server.services().database;
    let latest = database.latest();
    let user = database.intern().lookup_user(&latest, &user.user_id).unwrap().unwrap();
    latest.contains(&ANNOUNCED_LIST_BY_USER, &user).unwrap()
}
