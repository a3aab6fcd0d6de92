//! Delayed events of a member of a [`Call`], in every form that clients use.

use std::time::Duration;

use axum::body::Body;
use http::{Method, Request, StatusCode, header};
use serde_json::{Value, json};
use wick_core::{Clock, TimerId};
use wick_database::{Range, Read, schema::timer::TIMER_BY_ID};
use wick_harness::{Answer, TestServer, User};

use crate::expiry::call::{Call, PATIENCE};

pub(crate) type Told = (StatusCode, Value);

pub(crate) const UNSTABLE: &str = "/_matrix/client/unstable/org.matrix.msc4140";

/// How to schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// The delay in the query of `/send` and `/state`.
    Query,
    /// `/delayed_event` where it will be once the proposal is accepted.
    Path,
    /// `/delayed_event` where it is until then.
    UnstablePath,
}

pub(crate) const FORMS: [By; 3] = [By::Query, By::Path, By::UnstablePath];

/// How to restart, send and cancel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// The action in the body.
    Body,
    /// The action in the path.
    UnstablePath,
    /// The same where it will be.
    Path,
}

pub(crate) const WAYS: [Way; 3] = [Way::Body, Way::UnstablePath, Way::Path];

impl Way {
    /// The answer to an action that contradicts the outcome of the event.
    pub(crate) const fn conflict(self) -> (u16, &'static str) {
        match self {
            Self::Path => (409, "M_UNKNOWN"),
            Self::Body | Self::UnstablePath => (409, "M_NOT_FOUND"),
        }
    }
}

/// The same of what was tried with [`Call::act`].
pub(crate) const CONFLICT: (u16, &str) = Way::UnstablePath.conflict();

pub(crate) const ACTIONS: [&str; 3] = ["restart", "send", "cancel"];

/// An event for later.
#[derive(Clone, Debug)]
pub(crate) struct Later<'a> {
    pub(crate) event_type: &'a str,
    pub(crate) state_key: Option<&'a str>,
    pub(crate) transaction: &'a str,
    /// As it is written in the query or in the body.
    pub(crate) delay: Value,
    pub(crate) content: Value,
}

impl<'a> Later<'a> {
    /// A message with the name of its transaction as its text, in 10 s.
    pub(crate) fn message(transaction: &'a str) -> Self {
        let content = json!({ "msgtype": "m.text", "body": transaction });
        let event_type = "m.room.message";
        Self { event_type, state_key: None, transaction, delay: json!(10_000), content }
    }

    /// A state event with the name of its transaction as its text, in 10 s.
    pub(crate) fn state(state_key: &'a str, transaction: &'a str) -> Self {
        let event_type = "org.example.presence";
        Self { event_type, state_key: Some(state_key), ..Self::message(transaction) }
    }

    pub(crate) fn of_type(self, event_type: &'a str, content: Value) -> Self {
        Self { event_type, content, ..self }
    }

    pub(crate) fn after(self, delay: &Duration) -> Self {
        Self { delay: json!(u64::try_from(delay.as_millis()).unwrap()), ..self }
    }

    /// The path and the body of the request.
    pub(crate) fn request(&self, call: &Call, by: By) -> (String, Value) {
        let Self { event_type, state_key, transaction, delay, content } = self;
        let rooms = format!("/_matrix/client/v3/rooms/{}", call.room);
        let text = delay.as_str().map_or_else(|| delay.to_string(), ToOwned::to_owned);
        match (by, state_key) {
            (By::Query, None) => (
                format!("{rooms}/send/{event_type}/{transaction}?org.matrix.msc4140.delay={text}"),
                content.clone(),
            ),
            (By::Query, Some(key)) => (
                format!("{rooms}/state/{event_type}/{key}?org.matrix.msc4140.delay={text}"),
                content.clone(),
            ),
            (by, key) => {
                let rooms = match by {
                    By::UnstablePath => format!("{UNSTABLE}/rooms/{}", call.room),
                    _ => rooms,
                };
                let mut body = json!({ "delay_ms": delay, "content": content });
                if let Some(key) = key {
                    body["state_key"] = json!(key);
                }
                (format!("{rooms}/delayed_event/{event_type}/{transaction}"), body)
            }
        }
    }
}

/// The delay id of an answer that has one, and nothing else.
pub(crate) fn delay_id((status, body): &Told) -> String {
    assert_eq!(*status, StatusCode::OK, "{body}");
    let delay_id = body["delay_id"].as_str().unwrap_or_else(|| panic!("no delay_id in {body}"));
    assert_eq!(*body, json!({ "delay_id": delay_id }));
    delay_id.to_owned()
}

pub(crate) fn ok((status, body): &Told) {
    assert_eq!((*status, body), (StatusCode::OK, &json!({})));
}

pub(crate) fn status((status, body): &Told) -> u16 {
    assert!(status.is_success() || body["errcode"].is_string(), "{body}");
    status.as_u16()
}

impl Call {
    /// Schedules an event, whatever comes of it.
    pub(crate) async fn later(&self, user: &User, by: By, later: &Later<'_>) -> Told {
        let (path, body) = later.request(self, by);
        self.server.put(&path, &user.token, body).await
    }

    /// Schedules an event of Alice's; the delay id.
    pub(crate) async fn put_off(&self, later: &Later<'_>) -> String {
        delay_id(&self.later(&self.alice, By::Query, later).await)
    }

    /// Schedules a message of Alice's that is due in 10 s.
    pub(crate) async fn delay(&self, transaction: &str) -> String {
        self.put_off(&Later::message(transaction)).await
    }

    /// Restarts, sends or cancels, with an access token if it is not empty.
    pub(crate) async fn manage(&self, way: Way, token: &str, id: &str, action: &str) -> Told {
        let (path, body) = match way {
            Way::Body => (format!("{UNSTABLE}/delayed_events/{id}"), json!({ "action": action })),
            Way::UnstablePath => (format!("{UNSTABLE}/delayed_events/{id}/{action}"), json!({})),
            Way::Path => (format!("/_matrix/client/v1/delayed_events/{id}/{action}"), Value::Null),
        };
        self.server.post(&path, token, body).await
    }

    /// The same without an access token, by the delay id.
    pub(crate) async fn act(&self, id: &str, action: &str) -> Told {
        self.manage(Way::UnstablePath, "", id, action).await
    }

    /// One delayed event as its owner sees it.
    pub(crate) async fn seen(&self, user: &User, id: &str) -> Told {
        self.server.get(&format!("/_matrix/client/v1/delayed_events/{id}"), &user.token).await
    }

    /// The delay ids that a user's list names.
    pub(crate) async fn listed(&self, user: &User) -> Vec<String> {
        let (status, body) =
            self.server.get("/_matrix/client/v1/delayed_events", &user.token).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        let events = body["delayed_events"].as_array().unwrap();
        events.iter().map(|event| event["delay_id"].as_str().unwrap().to_owned()).collect()
    }

    /// The events of the room with the text `body`.
    pub(crate) fn saying(&self, body: &str) -> Vec<Value> {
        self.timeline().into_iter().filter(|event| event["content"]["body"] == body).collect()
    }

    /// The texts of the room's events that have one.
    pub(crate) fn said(&self) -> Vec<String> {
        let events = self.timeline();
        let bodies = events.iter().filter_map(|event| event["content"]["body"].as_str());
        bodies.map(ToOwned::to_owned).collect()
    }

    /// Waits until the room has an event with the text `body`, and only one.
    pub(crate) async fn until_said(&self, body: &str) -> Value {
        let otherwise = || format!("there was never an event {body}");
        self.until_so(otherwise, || !self.saying(body).is_empty()).await;
        let [event] = <[Value; 1]>::try_from(self.saying(body)).unwrap();
        event
    }

    /// Waits until one of Alice's is no longer scheduled; what is seen of it then.
    pub(crate) async fn until_over(&self, id: &str) -> Value {
        self.until_over_of(&self.alice, id).await
    }

    /// The same for one of another user's.
    pub(crate) async fn until_over_of(&self, user: &User, id: &str) -> Value {
        let finalised = async {
            loop {
                let (status, body) = self.seen(user, id).await;
                assert_eq!(status, StatusCode::OK, "{body}");
                if body.get("finalised_ts").is_some() {
                    return body;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, finalised).await.unwrap_or_else(|_| {
            panic!("{} timers are never over", self.running());
        })
    }

    /// The time in milliseconds since 1970.
    pub(crate) fn now(&self) -> u64 {
        self.server.clock.now().0
    }

    /// The timer that was armed last.
    pub(crate) fn last_timer(&self) -> TimerId {
        let latest = self.server.services().database.latest();
        latest.last(&TIMER_BY_ID, Range::all()).unwrap().unwrap().0
    }
}

/// A request without a body.
pub(crate) async fn without_body(server: &TestServer, path: &str, user: &User) -> Answer {
    let request = Request::builder()
        .method(Method::PUT)
        .uri(path)
        .header(header::AUTHORIZATION, format!("Bearer {}", user.token));
    server.send(request.body(Body::empty()).unwrap()).await
}
