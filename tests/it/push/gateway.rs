//! A push gateway that records what it gets and answers as a test wants, and two users of whom one has a pusher there.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "the helpers of tests, which clippy does not take for tests"
)]

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    Json, Router, body::Body, extract::State, response::Response, routing::post, serve::ListenerExt,
};
use http::Version;
use ruma::OwnedEventId;
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::{self, mpsc},
    task::JoinSet,
};
use wick_core::Config;
use wick_harness::{TestNetwork, TestRoom, TestServer, User};

pub(crate) const SET: &str = "/_matrix/client/v3/pushers/set";
pub(crate) const PUSHERS: &str = "/_matrix/client/v3/pushers";
const PATH: &str = "/_matrix/push/v1/notify";

/// How a request is answered.
#[derive(Clone)]
pub(crate) enum Reply {
    /// With these push keys rejected.
    Rejected(Vec<&'static str>),
    /// With a status and perhaps `Retry-After`.
    Status(u16, Option<u64>),
    /// With a body that is no JSON.
    Garbage,
    /// Not at all.
    Never,
}

#[derive(Clone)]
struct Shared {
    received: mpsc::UnboundedSender<Value>,
    replies: Arc<Mutex<VecDeque<Reply>>>,
    versions: Arc<Mutex<Vec<Version>>>,
}

/// A push gateway on this machine. It accepts what comes unless it has other replies to give.
pub(crate) struct Gateway {
    pub(crate) address: SocketAddr,
    scheme: &'static str,
    received: sync::Mutex<mpsc::UnboundedReceiver<Value>>,
    replies: Arc<Mutex<VecDeque<Reply>>>,
    versions: Arc<Mutex<Vec<Version>>>,
    connections: Arc<AtomicUsize>,
    tasks: JoinSet<()>,
}

impl Gateway {
    pub(crate) async fn start() -> Self {
        Self::start_on([127, 0, 0, 1]).await
    }

    /// One that is reached at this address of this machine.
    pub(crate) async fn start_on(host: [u8; 4]) -> Self {
        let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
        let address = SocketAddr::from((host, listener.local_addr().unwrap().port()));
        let (mut gateway, router) = Self::at("http", address);
        let connections = Arc::clone(&gateway.connections);
        let listener = listener.tap_io(move |_| {
            connections.fetch_add(1, Ordering::SeqCst);
        });
        gateway.tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
        gateway
    }

    /// One that is reached by TLS, with a certificate of the network's authority.
    pub(crate) async fn start_in(network: &TestNetwork) -> Self {
        let (mut gateway, router) = Self::at("https", SocketAddr::from(([127, 0, 0, 1], 0)));
        gateway.address = network.serve(&["127.0.0.1"], router).await;
        gateway
    }

    fn at(scheme: &'static str, address: SocketAddr) -> (Self, Router) {
        let (send, received) = mpsc::unbounded_channel();
        let (replies, versions) = (Arc::default(), Arc::default());
        let shared = Shared {
            received: send,
            replies: Arc::clone(&replies),
            versions: Arc::clone(&versions),
        };
        let router = Router::new().route(PATH, post(notify)).with_state(shared);
        let gateway = Self {
            address,
            scheme,
            received: sync::Mutex::new(received),
            replies,
            versions,
            connections: Arc::default(),
            tasks: JoinSet::new(),
        };
        (gateway, router)
    }

    pub(crate) fn url(&self) -> String {
        format!("{}://{}{PATH}", self.scheme, self.address)
    }

    /// How many connections were opened to it, if it is reached without TLS.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// The versions of HTTP of the requests so far.
    pub(crate) fn versions(&self) -> Vec<Version> {
        self.versions.lock().unwrap().clone()
    }

    /// Answers the next requests so.
    pub(crate) fn reply(&self, replies: impl IntoIterator<Item = Reply>) {
        self.replies.lock().unwrap().extend(replies);
    }

    /// The next notification. Waits for it.
    pub(crate) async fn next(&self) -> Value {
        self.received.lock().await.recv().await.unwrap()
    }

    /// The event that the next notification is about.
    pub(crate) async fn next_event(&self) -> OwnedEventId {
        let notification = self.next().await;
        let event_id = notification["event_id"].as_str();
        event_id.unwrap_or_else(|| panic!("{notification}")).try_into().unwrap()
    }

    /// A notification that has come already.
    pub(crate) fn came(&self) -> Option<Value> {
        self.received.try_lock().unwrap().try_recv().ok()
    }

    /// A pusher to it.
    pub(crate) fn pusher(&self, push_key: &str) -> Value {
        json!({
            "kind": "http", "app_id": "app", "pushkey": push_key, "lang": "en", "append": false,
            "app_display_name": "App", "device_display_name": "Phone",
            "data": { "url": self.url() },
        })
    }

    /// Gives a user a pusher to it, and waits until the server follows.
    pub(crate) async fn set(&self, server: &TestServer, user: &User, push_key: &str) {
        set(server, user, self.pusher(push_key)).await;
    }
}

async fn notify(
    State(shared): State<Shared>,
    version: Version,
    Json(body): Json<Value>,
) -> Response {
    shared.versions.lock().unwrap().push(version);
    let reply = shared.replies.lock().unwrap().pop_front();
    // A test that is over does not listen any more.
    drop(shared.received.send(body["notification"].clone()));
    let response = Response::builder();
    match reply {
        None => response.body(Body::from("{}")).unwrap(),
        Some(Reply::Rejected(push_keys)) => {
            response.body(json!({ "rejected": push_keys }).to_string().into()).unwrap()
        }
        Some(Reply::Status(status, None)) => {
            response.status(status).body(Body::from("{}")).unwrap()
        }
        Some(Reply::Status(status, Some(seconds))) => {
            let response = response.status(status).header("retry-after", seconds);
            response.body(Body::from("{}")).unwrap()
        }
        Some(Reply::Garbage) => response.body(Body::from("<html>")).unwrap(),
        Some(Reply::Never) => std::future::pending().await,
    }
}

pub(crate) async fn set(server: &TestServer, user: &User, pusher: Value) {
    let (status, body) = server.post(SET, &user.token, pusher).await;
    assert_eq!(status.as_u16(), 200, "{body}");
}

/// How many pushers a user has.
pub(crate) async fn pushers(server: &TestServer, user: &User) -> usize {
    let (status, body) = server.get(PUSHERS, &user.token).await;
    assert_eq!(status.as_u16(), 200, "{body}");
    body["pushers"].as_array().unwrap().len()
}

/// Marks what a user has read.
pub(crate) async fn read(server: &TestServer, room: &TestRoom<'_>, user: &User, at: &OwnedEventId) {
    let path = format!("/_matrix/client/v3/rooms/{}/receipt/m.read/{at}", room.id);
    let (status, body) = server.post(&path, &user.token, json!({})).await;
    assert_eq!(status.as_u16(), 200, "{body}");
}

/// Alice, and Bob who has a pusher.
pub(crate) struct Two {
    pub(crate) server: TestServer,
    pub(crate) gateway: Gateway,
    pub(crate) alice: User,
    pub(crate) bob: User,
}

impl Two {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let server = TestServer::start_with(|config| {
            config.push.allow_http = true;
            change(config);
        })
        .await;
        Self::on(server).await
    }

    pub(crate) async fn on(server: TestServer) -> Self {
        let gateway = Gateway::start().await;
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        gateway.set(&server, &bob, "key").await;
        Self { server, gateway, alice, bob }
    }

    /// A room with both in it.
    pub(crate) async fn room(&self) -> TestRoom<'_> {
        let room = self.server.room(&self.alice, "shared").await;
        room.member(&self.bob, &self.bob, "join").await;
        room
    }
}
