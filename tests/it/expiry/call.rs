//! A room with a call member event that expires, for the tests of this folder.

use std::time::Duration;

use http::StatusCode;
use ruma::{OwnedRoomId, events::StateEventType};
use serde_json::{Value, json};
use wick_core::Config;
use wick_harness::{TestServer, User};
use wick_room::{Direction, render::Show, visibility::Viewer};

pub(crate) const REFRESH: &str = "/_matrix/client/v3/expiration/refresh";
pub(crate) const END: &str = "/_matrix/client/v3/expiration/end";

/// How long a test waits for what must come, on however busy a machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Call {
    pub(crate) server: TestServer,
    pub(crate) alice: User,
    pub(crate) room: OwnedRoomId,
}

/// An event with a timer.
#[derive(Clone, Debug)]
pub(crate) struct Armed {
    pub(crate) event_id: String,
    pub(crate) token: String,
}

pub(crate) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) fn errcode((status, body): &(StatusCode, Value)) -> (u16, &str) {
    (status.as_u16(), body["errcode"].as_str().unwrap_or_default())
}

impl Call {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        Self::on(TestServer::start_with(change).await).await
    }

    pub(crate) async fn on(server: TestServer) -> Self {
        let alice = server.register("alice").await;
        let body = json!({
            "preset": "public_chat",
            "power_level_content_override": { "events": { "org.example.presence": 0 } },
        });
        let (status, body) = server.post("/_matrix/client/v3/createRoom", &alice.token, body).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        let room = body["room_id"].as_str().unwrap().try_into().unwrap();
        Self { server, alice, room }
    }

    pub(crate) async fn join(&self, name: &str) -> User {
        let user = self.server.register(name).await;
        let path = format!("/_matrix/client/v3/join/{}", self.room);
        let (status, body) = self.server.post(&path, &user.token, json!({})).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        user
    }

    /// Has an account deactivate itself.
    pub(crate) async fn deactivate(&self, user: &User) {
        let path = "/_matrix/client/v3/account/deactivate";
        let (_, challenge) = self.server.post(path, &user.token, json!({})).await;
        let body = json!({ "auth": {
            "type": "m.login.password", "password": "correct horse battery staple",
            "identifier": { "type": "m.id.user", "user": user.user_id },
            "session": challenge["session"],
        }});
        let (status, answer) = self.server.post(path, &user.token, body).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
    }

    /// `PUT /send`
    pub(crate) async fn send(
        &self,
        user: &User,
        transaction: &str,
        content: Value,
    ) -> (StatusCode, Value) {
        self.send_type(user, "org.example.here", transaction, content).await
    }

    pub(crate) async fn send_type(
        &self,
        user: &User,
        event_type: &str,
        transaction: &str,
        content: Value,
    ) -> (StatusCode, Value) {
        let room = &self.room;
        let path = format!("/_matrix/client/v3/rooms/{room}/send/{event_type}/{transaction}");
        self.server.put(&path, &user.token, content).await
    }

    /// `PUT /state/org.example.presence/{state_key}`
    pub(crate) async fn set(
        &self,
        user: &User,
        state_key: &str,
        content: Value,
    ) -> (StatusCode, Value) {
        let room = &self.room;
        let path =
            format!("/_matrix/client/v3/rooms/{room}/state/org.example.presence/{state_key}");
        self.server.put(&path, &user.token, content).await
    }

    /// A message of Alice's that expires.
    pub(crate) async fn arm(&self, transaction: &str, seconds: u64) -> Armed {
        let content = json!({ "body": "here", "m.will_expire": seconds });
        Armed::from_answer(&self.send(&self.alice, transaction, content).await)
    }

    /// A state event of Alice's that expires.
    pub(crate) async fn arm_state(&self, state_key: &str, seconds: u64) -> Armed {
        let content = json!({ "body": "here", "m.will_expire": seconds });
        Armed::from_answer(&self.set(&self.alice, state_key, content).await)
    }

    pub(crate) async fn refresh(&self, token: &str) -> (StatusCode, Value) {
        self.server.put(REFRESH, "", json!({ "expire_refresh_token": token })).await
    }

    pub(crate) async fn end(&self, token: &str) -> (StatusCode, Value) {
        self.server.put(END, "", json!({ "expire_refresh_token": token })).await
    }

    /// The room's timeline as a client gets it, oldest first.
    pub(crate) fn timeline(&self) -> Vec<Value> {
        let services = self.server.services();
        let (graph, read) = (&services.graph, services.database.published());
        let room = graph.short(&read, &self.room).unwrap().unwrap();
        let mut viewer = Viewer::new(graph, &read, room, &self.alice.user_id, None).unwrap();
        graph
            .timeline(&read, room, i64::MIN, Direction::Forward)
            .map(|item| {
                let event = viewer.show(item.unwrap().event, Show::CLIENT).unwrap();
                serde_json::from_str(event.get()).unwrap()
            })
            .collect()
    }

    pub(crate) fn event(&self, event_id: &str) -> Value {
        self.timeline()
            .into_iter()
            .find(|event| event["event_id"] == event_id)
            .unwrap_or_else(|| panic!("{event_id} is not in the room"))
    }

    /// `unsigned["m.will_expire"]` of an event.
    pub(crate) fn status(&self, event_id: &str) -> Value {
        self.event(event_id)["unsigned"]["m.will_expire"].clone()
    }

    /// The terminal events of `event_id`.
    pub(crate) fn terminals(&self, event_id: &str) -> Vec<Value> {
        self.timeline()
            .into_iter()
            .filter(|event| {
                let relation = &event["content"]["m.relates_to"];
                relation["rel_type"] == "m.expire.relationship" && relation["event_id"] == event_id
            })
            .collect()
    }

    /// Waits until the status of an event is `status`.
    pub(crate) async fn until(&self, event_id: &str, status: &str) {
        let otherwise = || format!("{event_id} never became {status}: {}", self.status(event_id));
        self.until_so(otherwise, || self.status(event_id)["status"] == status).await;
    }

    /// Waits for a commit in the room that makes it so.
    pub(crate) async fn until_so(&self, otherwise: impl Fn() -> String, so: impl Fn() -> bool) {
        let database = &self.server.services().database;
        let read = database.published();
        let room = self.server.services().graph.short(&read, &self.room).unwrap().unwrap();
        let waiting = async {
            loop {
                let mut watch = database.watch().room(room);
                if so() {
                    return;
                }
                watch.changed().await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("{}", otherwise()));
    }

    /// How many timers run.
    pub(crate) fn running(&self) -> usize {
        self.server.services().timers.running_total()
    }

    /// The current state event, if there is one.
    pub(crate) fn state(&self, event_type: &str, state_key: &str) -> Option<String> {
        let services = self.server.services();
        let read = services.database.published();
        let room = services.graph.short(&read, &self.room).unwrap().unwrap();
        let event = services
            .graph
            .state_event(&read, room, &StateEventType::from(event_type), state_key)
            .unwrap();
        event.map(|event| event.event_id.to_string())
    }

    pub(crate) async fn post(&self, user: &User, what: &str, body: Value) -> (StatusCode, Value) {
        let path = format!("/_matrix/client/v3/rooms/{}/{what}", self.room);
        self.server.post(&path, &user.token, body).await
    }
}

impl Armed {
    pub(crate) fn from_answer((status, body): &(StatusCode, Value)) -> Self {
        assert_eq!(*status, StatusCode::OK, "{body}");
        let text = |key: &str| {
            body[key].as_str().unwrap_or_else(|| panic!("no {key} in {body}")).to_owned()
        };
        assert_eq!(body["event_id"], body["eventId"]);
        Self { event_id: text("event_id"), token: text("expire_refresh_token") }
    }
}
