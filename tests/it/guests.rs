//! Guests: how their accounts are made, become full ones and end, and what they may do.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "the helpers of tests, which clippy does not take for tests"
)]

mod accounts;
mod endpoints;
mod rooms;

use http::{Method, StatusCode};
use serde_json::{Value, json};
use wick_harness::{TestRoom, TestServer, User};

const V3: &str = "/_matrix/client/v3";
const REGISTER: &str = "/_matrix/client/v3/register";
const FORBIDDEN: (u16, &str) = (403, "M_GUEST_ACCESS_FORBIDDEN");

/// A server that has guests.
async fn server() -> TestServer {
    TestServer::start_with(|config| config.registration.guests = true).await
}

/// A request below `/_matrix/client/v3/`.
async fn call(server: &TestServer, user: &User, request: (Method, &str), body: Value) -> Answer {
    let (method, path) = request;
    let (status, body) = server.request(method, &format!("{V3}/{path}"), &user.token, body).await;
    Answer { status, body }
}

/// Status and body of an answer.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    body: Value,
}

impl Answer {
    /// Status and errcode.
    fn errcode(&self) -> (u16, &str) {
        (self.status.as_u16(), self.body["errcode"].as_str().unwrap_or_default())
    }

    /// The body of a success.
    #[track_caller]
    fn ok(self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{}", self.body);
        self.body
    }
}

/// A room that guests can join.
async fn open_room<'a>(server: &'a TestServer, by: &User) -> TestRoom<'a> {
    let room = server.room(by, "shared").await;
    set_access(&room, by, "can_join").await;
    room
}

async fn set_access(room: &TestRoom<'_>, by: &User, access: &str) -> ruma::OwnedEventId {
    room.set(by, ("m.room.guest_access", ""), json!({ "guest_access": access })).await
}

async fn join(server: &TestServer, user: &User, room: &TestRoom<'_>) -> Answer {
    call(server, user, (Method::POST, &format!("rooms/{}/join", room.id)), json!({})).await
}

/// The membership of `of` as `by` sees it.
async fn membership(server: &TestServer, by: &User, room: &TestRoom<'_>, of: &User) -> Value {
    let path = format!("rooms/{}/state/m.room.member/{}", room.id, of.user_id);
    call(server, by, (Method::GET, &path), Value::Null).await.ok()["membership"].clone()
}

/// Waits, sync after sync, until `by` sees that `of` has left the room.
async fn until_left(server: &TestServer, by: &User, room: &TestRoom<'_>, of: &User) {
    let mut since = String::new();
    while membership(server, by, room, of).await != "leave" {
        let path = format!("sync?timeout=30000{since}");
        let synced = call(server, by, (Method::GET, &path), Value::Null).await.ok();
        since = format!("&since={}", synced["next_batch"].as_str().unwrap());
    }
}
