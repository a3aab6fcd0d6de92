//! Rooms that use a policy server: what is sent and shown there, and what is not.

mod calls;
mod outages;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Json, Router,
    response::{IntoResponse, Response},
    routing::{post, put},
};
use futures_util::future;
use http::StatusCode;
use ruma::{
    CanonicalJsonObject, OwnedRoomId, RoomVersionId,
    canonical_json::redact_in_place,
    signatures::{Ed25519KeyPair, sign_json},
};
use serde_json::{Value, json};
use tokio::time::timeout;
use wick_core::rules;
use wick_database::{Range, Read, schema::timer::TIMER_BY_ID};
use wick_harness::Options;
use wick_room::invariants;

use super::{
    peer::{pair, public},
    rooms::{BOB, Rooms},
    waiting::until,
};
use crate::expiry::call::PATIENCE;

const V3: &str = "/_matrix/client/v3";

/// What the policy server does with an event.
#[derive(Clone, Copy)]
enum Does {
    Sign,
    SignWithAnotherKey,
    Refuse,
    Break,
}

use Does::{Break, Refuse, Sign, SignWithAnotherKey};

/// A policy server, which is the server of bob as well.
pub(super) struct PolicyServer {
    key: Ed25519KeyPair,
    other_key: Ed25519KeyPair,
    does: Mutex<fn(&Value) -> Does>,
    asked: Mutex<Vec<Value>>,
    /// Held while it is to give no answer.
    pub(super) door: tokio::sync::Mutex<()>,
}

impl PolicyServer {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            key: pair("policy_server"),
            other_key: pair("policy_server"),
            does: Mutex::new(refuse_spam),
            asked: Mutex::default(),
            door: tokio::sync::Mutex::default(),
        })
    }

    fn routes(self: &Arc<Self>) -> Router {
        let (this, asked) = (Arc::clone(self), Arc::clone(self));
        let sign = move |Json(event): Json<Value>| {
            let this = Arc::clone(&this);
            async move { this.answer(event).await }
        };
        // It does not take the invite, but has seen it.
        let invite = move |Json(invite): Json<Value>| {
            asked.asked.lock().unwrap().push(invite["event"].clone());
            future::ready(StatusCode::FORBIDDEN)
        };
        let invites = "/_matrix/federation/v2/invite/{room}/{event}";
        Router::new().route("/_matrix/policy/v1/sign", post(sign)).route(invites, put(invite))
    }

    async fn answer(&self, event: Value) -> Response {
        self.asked.lock().unwrap().push(event.clone());
        drop(self.door.lock().await);
        let does = *self.does.lock().unwrap();
        match does(&event) {
            Sign => Json(signatures(&self.key, event)).into_response(),
            SignWithAnotherKey => Json(signatures(&self.other_key, event)).into_response(),
            Refuse => {
                let body = json!({ "errcode": "M_FORBIDDEN", "error": "it looks like spam" });
                (StatusCode::BAD_REQUEST, Json(body)).into_response()
            }
            Break => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        }
    }

    fn set(&self, does: fn(&Value) -> Does) {
        *self.does.lock().unwrap() = does;
    }

    /// The types of events that it was asked for since the last call.
    pub(super) fn asked(&self) -> Vec<String> {
        let asked = std::mem::take(&mut *self.asked.lock().unwrap());
        asked.iter().map(|event| event["type"].as_str().unwrap().to_owned()).collect()
    }

    pub(super) fn asked_times(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

fn refuse_spam(event: &Value) -> Does {
    if is(event, "spam") { Refuse } else { Sign }
}

/// Whether a message has this text.
fn is(event: &Value, body: &str) -> bool {
    event["content"]["body"] == body
}

fn signatures(key: &Ed25519KeyPair, event: Value) -> Value {
    let rules = rules::version_rules(&RoomVersionId::V11).unwrap();
    let mut object: CanonicalJsonObject = serde_json::from_value(event).unwrap();
    redact_in_place(&mut object, &rules.redaction, None).unwrap();
    object.remove("signatures");
    sign_json("b.test", key, &mut object).unwrap();
    serde_json::to_value(&object["signatures"]).unwrap()
}

/// A room that bob's server is the policy server of.
pub(super) struct Policed {
    pub(super) rooms: Rooms,
    pub(super) room: OwnedRoomId,
    pub(super) policy: Arc<PolicyServer>,
}

impl Policed {
    pub(super) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// The same with these options of this server.
    async fn start_with(change: impl FnOnce(&mut Options)) -> Self {
        let policy = PolicyServer::new();
        let rooms = Rooms::start_with(policy.routes(), change).await;
        let room = rooms.public().await;
        let this = Self { rooms, room, policy };
        this.enable("first").await;
        // That server has no member in the room yet.
        assert_eq!(this.say("before").await.0, 200);
        assert_eq!(this.policy.asked(), [""; 0]);
        this.rooms.join(&this.room).await;
        this
    }

    async fn enable(&self, note: &str) {
        let keys = json!({ "ed25519": public(&self.policy.key) });
        let content = json!({ "via": "b.test", "public_keys": keys, "note": note });
        self.rooms.set(&self.room, "m.room.policy", content).await;
    }

    async fn say(&self, body: &str) -> (u16, Value) {
        let content = json!({ "msgtype": "m.text", "body": body });
        self.send(body, content).await
    }

    async fn send(&self, transaction: &str, content: Value) -> (u16, Value) {
        let Rooms { server, alice, .. } = &self.rooms;
        let path = format!("{V3}/rooms/{}/send/m.room.message/{transaction}", self.room);
        let (status, body) = server.put(&path, &alice.token, content).await;
        (status.as_u16(), body)
    }

    /// The texts in the room.
    async fn texts(&self) -> Vec<String> {
        let Rooms { server, alice, .. } = &self.rooms;
        let path = format!("{V3}/rooms/{}/messages?dir=f&limit=100", self.room);
        let (status, page) = server.get(&path, &alice.token).await;
        assert_eq!(status, 200, "{page}");
        let chunk = page["chunk"].as_array().unwrap();
        chunk
            .iter()
            .filter_map(|event| Some(event["content"]["body"].as_str()?.to_owned()))
            .collect()
    }

    /// The event as other servers get it, with the name of a key of b.test.
    async fn has_signature(&self, event_id: &Value, key: &str) -> bool {
        let path = format!("/event/{}", event_id.as_str().unwrap());
        let (status, body) = self.rooms.get(&path).await;
        assert_eq!(status, 200, "{body}");
        body["pdus"][0]["signatures"]["b.test"][key].is_string()
    }

    /// Receives events of the other server.
    async fn receive(&self, transaction: &str, events: &[Value]) {
        assert_eq!(self.rooms.transaction(transaction, events, &[]).await.0, 200);
        self.rooms.server.services().federated().unwrap().inbound.idle().await;
    }

    fn assert_sound(&self) {
        let read = self.rooms.server.services().database.published();
        assert_eq!(invariants::check(&read).unwrap(), []);
    }

    fn timers(&self) -> usize {
        let read = self.rooms.server.services().database.latest();
        read.scan(&TIMER_BY_ID, Range::all()).count()
    }
}

#[tokio::test]
async fn every_event_of_the_room_has_the_signature_of_its_policy_server_but_the_policy_itself() {
    let policed = Policed::start().await;
    let (status, said) = policed.say("hello").await;
    assert_eq!(status, 200, "{said}");
    assert_eq!(policed.policy.asked(), ["m.room.message"]);
    assert!(policed.has_signature(&said["event_id"], "ed25519:policy_server").await);

    policed.enable("second").await;
    assert_eq!(policed.policy.asked(), [""; 0]);
    policed.rooms.set(&policed.room, "m.room.topic", json!({ "topic": "tea" })).await;
    assert_eq!(policed.policy.asked(), ["m.room.topic"]);
    let Rooms { server, alice, .. } = &policed.rooms;
    let path = format!("{V3}/rooms/{}/state/m.room.policy/other", policed.room);
    assert_eq!(server.put(&path, &alice.token, json!({})).await.0, 200);
    assert_eq!(policed.policy.asked(), ["m.room.policy"]);
    // The invited server sees it signed before it is part of the room.
    let path = format!("{V3}/rooms/{}/invite", policed.room);
    let body = json!({ "user_id": "@other:b.test" });
    assert_eq!(server.post(&path, &alice.token, body).await.0, 502);
    let invite = policed.policy.asked.lock().unwrap().pop().unwrap();
    assert!(invite["signatures"]["b.test"]["ed25519:policy_server"].is_string(), "{invite}");
    policed.assert_sound();
}

#[tokio::test]
async fn an_event_that_the_policy_server_does_not_sign_is_not_sent() {
    let policed = Policed::start().await;
    let (status, body) = policed.say("spam").await;
    assert_eq!((status, &body["errcode"]), (400, &json!("M_FORBIDDEN")));
    assert!(body["error"].as_str().unwrap().contains("it looks like spam"), "{body}");
    policed.policy.set(|_| SignWithAnotherKey);
    let (status, body) = policed.say("forged").await;
    assert_eq!((status, &body["errcode"]), (403, &json!("M_FORBIDDEN")));
    policed.policy.set(|_| Break);
    assert_eq!(policed.say("lost").await.0, 502);
    assert_eq!(policed.texts().await, ["before"]);
    // Without an answer of it, the room can still do without it.
    policed.rooms.set(&policed.room, "m.room.policy", json!({})).await;
    assert_eq!(policed.say("spam").await.0, 200);
    assert_eq!(policed.texts().await, ["before", "spam"]);
    policed.assert_sound();
}

#[tokio::test]
async fn what_other_servers_send_without_a_signature_is_shown_once_the_policy_server_has_signed_it()
{
    let policed = Policed::start().await;
    policed.policy.asked();
    let message = |body: &str| policed.rooms.message(&policed.room, body);
    let [(id, ham), (_, spam), (_, unknown)] = ["ham", "spam", "unknown"].map(message);
    policed.receive("1", &[ham, spam.clone()]).await;
    assert_eq!(policed.policy.asked(), ["m.room.message", "m.room.message"]);
    assert_eq!(policed.texts().await, ["before", "ham"]);
    for key in ["ed25519:policy_server", "ed25519:1"] {
        assert!(policed.has_signature(&json!(id), key).await, "{key}");
    }
    // One that comes again stays what it is.
    policed.policy.set(|_| Sign);
    policed.receive("2", &[spam]).await;
    assert_eq!(policed.policy.asked(), [""; 0]);
    // One that it cannot be asked for waits until it can.
    policed.policy.set(|_| Break);
    policed.receive("3", &[unknown]).await;
    assert_eq!(policed.texts().await, ["before", "ham"]);
    policed.policy.set(|_| Sign);
    policed.until(async || policed.texts().await == ["before", "ham", "unknown"]).await;
    policed.assert_sound();
}

#[tokio::test]
async fn an_event_that_comes_with_a_good_signature_is_shown_without_asking() {
    let policed = Policed::start().await;
    let (_, mut event) = policed.rooms.message(&policed.room, "signed");
    let signed = signatures(&policed.policy.key, event.clone());
    let signature = signed["b.test"]["ed25519:policy_server"].clone();
    event["signatures"]["b.test"]["ed25519:policy_server"] = signature;
    policed.policy.asked();
    policed.policy.set(|_| Break);
    policed.receive("1", &[event]).await;
    assert_eq!(policed.texts().await, ["before", "signed"]);
    assert_eq!(policed.policy.asked(), [""; 0]);
}

#[tokio::test]
async fn a_change_that_was_overtaken_while_the_policy_server_thought_is_made_anew() {
    let policed = Policed::start().await;
    policed.policy.asked();
    let door = policed.policy.door.lock().await;
    let overtake = async {
        until(|| policed.policy.asked_times() == 1).await;
        // Needs no signature, and no lock is held that it would have to wait for.
        policed.enable("second").await;
        drop(door);
    };
    let ((status, said), ()) = future::join(policed.say("hello"), overtake).await;
    assert_eq!(status, 200, "{said}");
    assert_eq!(policed.policy.asked().len(), 2);
    let services = policed.rooms.server.services();
    let read = services.database.latest();
    let room = services.graph.short(&read, &policed.room).unwrap().unwrap();
    assert_eq!(services.graph.head(&read, room).unwrap().unwrap().extremities.len(), 1);
    assert_eq!(policed.texts().await, ["before", "hello"]);
    policed.assert_sound();
}

#[tokio::test]
async fn many_who_send_at_the_same_time_take_turns() {
    let policed = Policed::start().await;
    policed.policy.asked();
    let texts: Vec<_> = (0..20).map(|number| number.to_string()).collect();
    let sent = future::join_all(texts.iter().map(|text| policed.say(text))).await;
    assert!(sent.iter().all(|(status, _)| *status == 200), "{sent:?}");
    assert_eq!(policed.policy.asked().len(), 20, "no signature was made for nothing");
    let mut shown = policed.texts().await.split_off(1);
    shown.sort_by_key(|text| text.parse::<u32>().unwrap());
    assert_eq!(shown, texts);
}

/// An event that expires after ten seconds.
async fn expiring(policed: &Policed) -> String {
    let content = json!({ "msgtype": "m.text", "body": "here", "m.will_expire": 10 });
    let (status, sent) = policed.send("expiring", content).await;
    assert_eq!(status, 200, "{sent}");
    sent["event_id"].as_str().unwrap().to_owned()
}

impl Policed {
    /// The status of an event, and how many terminal events there are.
    async fn status(&self, event: &str) -> (Value, usize) {
        let Rooms { server, alice, .. } = &self.rooms;
        let path = format!("{V3}/rooms/{}/event/{event}", self.room);
        let (_, shown) = server.get(&path, &alice.token).await;
        let status = &shown["unsigned"]["m.will_expire"]["status"];
        let texts = self.texts().await;
        (status.clone(), texts.iter().filter(|text| *text == "here").count() - 1)
    }

    /// Waits until something is so, while time passes.
    async fn until(&self, so: impl AsyncFn() -> bool) {
        let passing = async {
            while !so().await {
                self.rooms.server.clock.advance(Duration::from_secs(5)).await;
            }
        };
        assert!(timeout(PATIENCE, passing).await.is_ok(), "what is waited for does not come");
    }

    /// Waits until something is so, while an answer is on its way that must not come too late by the server's clock.
    async fn until_answered(&self, so: impl AsyncFn() -> bool) {
        let answered = async {
            while !so().await {
                tokio::task::yield_now().await;
            }
        };
        assert!(timeout(PATIENCE, answered).await.is_ok(), "what is waited for does not come");
    }
}

#[tokio::test]
async fn an_event_whose_end_the_policy_server_refuses_has_ended_without_a_terminal_event() {
    let policed = Policed::start().await;
    let event = expiring(&policed).await;
    policed.policy.set(|_| Refuse);
    policed.until(async || policed.status(&event).await == (json!("expired"), 0)).await;
    assert_eq!(policed.timers(), 0);
    policed.assert_sound();
}

#[tokio::test]
async fn an_event_ends_once_the_policy_server_answers_again() {
    let policed = Policed::start().await;
    let event = expiring(&policed).await;
    policed.policy.asked();
    policed.policy.set(|_| Break);
    policed.rooms.server.clock.advance(Duration::from_secs(10)).await;
    until(|| policed.policy.asked_times() == 1).await;
    assert_eq!(policed.timers(), 1);
    assert_eq!(policed.status(&event).await, (json!("running"), 0));
    policed.policy.set(|_| Sign);
    policed.until(async || policed.status(&event).await == (json!("expired"), 1)).await;
    assert_eq!(policed.timers(), 0);
    policed.assert_sound();
}

#[tokio::test]
async fn the_end_of_a_sticky_event_is_the_one_that_was_asked_for_however_long_the_answer_takes() {
    let policed = Policed::start().await;
    let sticky = "sticky?org.matrix.msc4354.sticky_duration_ms=300000";
    let content = json!({ "msgtype": "m.text", "body": "here", "m.will_expire": 10 });
    let (status, sent) = policed.send(sticky, content).await;
    assert_eq!(status, 200, "{sent}");
    let event = sent["event_id"].as_str().unwrap();
    policed.policy.asked();
    let door = policed.policy.door.lock().await;
    policed.rooms.server.clock.advance(Duration::from_secs(10)).await;
    until(|| policed.policy.asked_times() == 1).await;
    policed.rooms.server.clock.advance(Duration::from_secs(3)).await;
    drop(door);
    policed.until_answered(async || policed.status(event).await == (json!("expired"), 1)).await;
    assert_eq!(policed.policy.asked_times(), 1);
    policed.assert_sound();
}

#[tokio::test]
async fn a_delayed_event_that_the_policy_server_refuses_has_failed() {
    let policed = Policed::start().await;
    let Rooms { server, alice, .. } = &policed.rooms;
    let delay = "org.matrix.msc4140.delay=5000";
    let path = format!("{V3}/rooms/{}/send/m.room.message/1?{delay}", policed.room);
    let content = json!({ "msgtype": "m.text", "body": "spam" });
    let (status, scheduled) = server.put(&path, &alice.token, content).await;
    assert_eq!(status, 200, "{scheduled}");
    let id = scheduled["delay_id"].as_str().unwrap();
    let path = format!("/_matrix/client/v1/delayed_events/{id}");
    let has_failed = async || {
        let (_, seen) = server.get(&path, &alice.token).await;
        seen.to_string().contains("it looks like spam")
    };
    policed.until(has_failed).await;
    assert_eq!(policed.texts().await, ["before"]);
    policed.assert_sound();
}

#[tokio::test]
async fn a_leave_that_another_server_sends_over_this_one_needs_the_signature_too() {
    let policed = Policed::start().await;
    policed.policy.set(|_| Refuse);
    let (id, leave) = policed.rooms.make(&policed.room, "leave").await.unwrap();
    let path = format!("/_matrix/federation/v2/send_leave/{}/{id}", policed.room);
    let (status, body) = policed.rooms.ask((http::Method::PUT, &path), &leave).await;
    assert_eq!((status, &body["errcode"]), (403, &json!("M_FORBIDDEN")));
    let Rooms { server, alice, .. } = &policed.rooms;
    let path = format!("{V3}/rooms/{}/joined_members", policed.room);
    let (_, members) = server.get(&path, &alice.token).await;
    assert!(members["joined"][BOB].is_object(), "{members}");
}
