//! Three servers in one room: what each of them sends comes to the others.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    extract::Request,
    middleware::{Next, from_fn},
    response::IntoResponse,
};
use http::StatusCode;
use ruma::OwnedRoomId;
use serde_json::{Value, json};
use tokio::time::timeout;
use wick_harness::{TestNetwork, TestServer, User};

use crate::talk::{bodies, ephemeral, sync, sync_since};

const V3: &str = "/_matrix/client/v3";

/// Longer than anything takes.
const LONG: Duration = Duration::from_secs(120);

/// A server with one user in the room.
pub(super) struct Home {
    pub(super) server: TestServer,
    pub(super) user: User,
    is_down: Arc<AtomicBool>,
}

/// Three servers whose users are in a room.
struct World {
    homes: [Home; 3],
    room: OwnedRoomId,
    /// Has the certificates and names.
    _network: TestNetwork,
}

impl Home {
    pub(super) async fn open(network: &TestNetwork, name: &str, user: &str) -> Self {
        let server = TestServer::start_from(network.options(name)).await;
        let is_down = Arc::new(AtomicBool::new(false));
        let down = Arc::clone(&is_down);
        let answer = move |request: Request, next: Next| {
            let is_down = down.load(Ordering::SeqCst);
            async move {
                if is_down {
                    return StatusCode::SERVICE_UNAVAILABLE.into_response();
                }
                next.run(request).await
            }
        };
        network.join(name, server.router().layer(from_fn(answer))).await;
        let user = server.register(user).await;
        Self { server, user, is_down }
    }

    pub(super) async fn ok(&self, method: http::Method, path: &str, body: Value) -> Value {
        let path = format!("{V3}/{path}");
        let (status, body) = self.server.request(method, &path, &self.user.token, body).await;
        assert_eq!(status, 200, "{body}");
        body
    }

    pub(super) async fn say(&self, room: &OwnedRoomId, body: &str) -> String {
        let content = json!({ "msgtype": "m.text", "body": body });
        let path = format!("rooms/{room}/send/m.room.message/{body}").replace(' ', "_");
        let sent = self.ok(http::Method::PUT, &path, content).await;
        sent["event_id"].as_str().unwrap().to_owned()
    }

    /// Syncs until the messages are there, and returns all messages that came.
    pub(super) async fn messages_until(
        &self,
        room: &OwnedRoomId,
        wanted: &[String],
    ) -> Vec<String> {
        let mut seen = Vec::new();
        let mut last = sync(&self.server, &self.user, "").await;
        loop {
            let timeline = &last["rooms"]["join"][room.as_str()]["timeline"];
            seen.extend(bodies(timeline).into_iter().map(str::to_owned));
            if wanted.iter().all(|wanted| seen.contains(wanted)) {
                return seen;
            }
            let next = sync_since(&self.server, &self.user, &last, "&timeout=30000");
            last = timeout(LONG, next)
                .await
                .unwrap_or_else(|_| panic!("{} saw only {seen:?}", self.user.user_id));
        }
    }

    /// Syncs until an EDU of the room is there.
    async fn ephemeral(&self, room: &OwnedRoomId, event_type: &str) -> Value {
        let mut last = sync(&self.server, &self.user, "").await;
        loop {
            let found = ephemeral(&last, room, event_type);
            if !found.is_null() {
                return found;
            }
            let next = sync_since(&self.server, &self.user, &last, "&timeout=30000");
            last = timeout(LONG, next).await.unwrap();
        }
    }
}

impl World {
    async fn make() -> Self {
        let network = TestNetwork::new();
        let homes = [
            Home::open(&network, "a.test", "alice").await,
            Home::open(&network, "b.test", "bob").await,
            Home::open(&network, "c.test", "carol").await,
        ];
        let body = json!({ "preset": "public_chat" });
        let made = homes[0].ok(http::Method::POST, "createRoom", body).await;
        let room: OwnedRoomId = made["room_id"].as_str().unwrap().try_into().unwrap();
        for home in &homes[1..] {
            let path = format!("join/{room}?server_name=a.test&via=a.test");
            home.ok(http::Method::POST, &path, json!({})).await;
        }
        Self { homes, room, _network: network }
    }
}

#[tokio::test]
async fn what_each_says_comes_to_all_once() {
    let World { homes: [a, b, c], room, _network } = World::make().await;
    let all = ["of alice", "of bob", "of carol"].map(str::to_owned);
    for (home, body) in [(&a, &all[0]), (&b, &all[1]), (&c, &all[2])] {
        home.say(&room, body).await;
    }
    for home in [&a, &b, &c] {
        let mut seen = home.messages_until(&room, &all).await;
        seen.sort_unstable();
        assert_eq!(seen, all, "{}", home.user.user_id);
    }
    // The join of carol went over a.test, which sent it on.
    let path = format!("rooms/{room}/joined_members");
    let members = b.ok(http::Method::GET, &path, Value::Null).await;
    assert_eq!(members["joined"].as_object().unwrap().len(), 3, "{members}");
}

#[tokio::test]
async fn typing_and_receipts_come_to_all() {
    let World { homes: [a, b, c], room, _network } = World::make().await;
    let said = a.say(&room, "read this").await;
    b.messages_until(&room, &["read this".to_owned()]).await;
    let path = format!("rooms/{room}/typing/@bob:b.test");
    b.ok(http::Method::PUT, &path, json!({ "typing": true, "timeout": 30000 })).await;
    assert_eq!(a.ephemeral(&room, "m.typing").await["user_ids"], json!(["@bob:b.test"]));
    let path = format!("rooms/{room}/receipt/m.read/{said}");
    b.ok(http::Method::POST, &path, json!({})).await;
    let receipt = a.ephemeral(&room, "m.receipt").await;
    assert!(receipt[&said]["m.read"]["@bob:b.test"].is_object(), "{receipt}");
    c.messages_until(&room, &["read this".to_owned()]).await;
}

#[tokio::test]
async fn a_server_that_was_down_for_120_events_has_them_all_in_the_end() {
    let World { homes: [a, _, c], room, _network } = World::make().await;
    a.say(&room, "before").await;
    c.messages_until(&room, &["before".to_owned()]).await;
    c.is_down.store(true, Ordering::SeqCst);
    let missed: Vec<_> = (0..120).map(|number| format!("message {number}")).collect();
    for body in &missed {
        a.say(&room, body).await;
    }
    c.is_down.store(false, Ordering::SeqCst);
    // What carol says is a sign of life.
    c.say(&room, "back").await;
    let all: Vec<_> = std::iter::once("back".to_owned()).chain(missed[119..].to_vec()).collect();
    c.messages_until(&room, &all).await;
    let inbound = &c.server.services().federated().unwrap().inbound;
    inbound.idle().await;
    let path = format!("rooms/{room}/messages?dir=b&limit=500");
    let page = c.ok(http::Method::GET, &path, Value::Null).await;
    let of_messages: Vec<_> = page["chunk"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|event| event["content"]["body"].as_str())
        .filter(|body| body.starts_with("message"))
        .rev()
        .collect();
    assert_eq!(of_messages, missed);
}

#[tokio::test]
async fn an_event_that_expires_elsewhere_has_its_status_here() {
    let World { homes: [a, b, _], room, _network } = World::make().await;
    let content = json!({ "msgtype": "m.text", "body": "here", "m.will_expire": 10 });
    let path = format!("rooms/{room}/send/m.room.message/1");
    let sent = a.ok(http::Method::PUT, &path, content).await;
    b.messages_until(&room, &["here".to_owned()]).await;
    let path = format!("rooms/{room}/event/{}", sent["event_id"].as_str().unwrap());
    let running = b.ok(http::Method::GET, &path, Value::Null).await;
    assert_eq!(running["content"]["m.will_expire"], "running");
    // It is armed at its own server alone.
    b.server.clock.advance(Duration::from_secs(20)).await;
    a.server.clock.advance(Duration::from_secs(10)).await;
    b.messages_until(&room, &["here".to_owned()]).await;
    a.say(&room, "after").await;
    b.messages_until(&room, &["after".to_owned()]).await;
    let ended = b.ok(http::Method::GET, &path, Value::Null).await;
    assert_eq!(ended["unsigned"]["m.will_expire"]["status"], "expired", "{ended}");
}
