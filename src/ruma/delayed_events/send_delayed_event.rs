//! `PUT /_matrix/client/*/rooms/{roomId}/delayed_event/{eventType}/{txnId}`: schedule an event.
//!
//! Invariants: `delay_ms` is written, and `delay` read too, as clients of the unstable path send
//! that; a request with both is refused, rather than one of the two taken.

use std::time::Duration;

use ruma::{
    MilliSecondsSinceUnixEpoch, OwnedRoomId, OwnedTransactionId,
    api::{auth_scheme::AccessToken, metadata, request, response},
    events::{AnyTimelineEventContent, TimelineEventType},
    serde::{Raw, deserialize_raw_object, duration::ms},
};

metadata! {
    method: PUT,
    rate_limited: true,
    authentication: AccessToken,
    history: {
        unstable("org.matrix.msc4140") => "/_matrix/client/unstable/org.matrix.msc4140/rooms/{room_id}/delayed_event/{event_type}/{txn_id}",
        stable("org.matrix.msc4140.stable") => "/_matrix/client/v3/rooms/{room_id}/delayed_event/{event_type}/{txn_id}",
    }
}

/// Request type of the endpoint.
#[request]
pub struct Request {
    /// The room to send the event to.
    #[ruma_api(path)]
    pub room_id: OwnedRoomId,

    /// The type of the event.
    #[ruma_api(path)]
    pub event_type: TimelineEventType,

    /// The transaction id, which makes the request idempotent.
    #[ruma_api(path)]
    pub txn_id: OwnedTransactionId,

    /// The `origin_server_ts` of the event, for application services.
    #[ruma_api(query)]
    #[serde(rename = "ts", skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<MilliSecondsSinceUnixEpoch>,

    /// How long to wait, on the wire in milliseconds.
    #[serde(rename = "delay_ms", alias = "delay", with = "ms")]
    pub delay: Duration,

    /// The state key, if it is to be a state event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_key: Option<String>,

    /// The content of the event.
    #[serde(deserialize_with = "deserialize_raw_object")]
    pub content: Raw<AnyTimelineEventContent>,
}

/// Response type of the endpoint, and of the others that schedule an event.
#[response]
pub struct Response {
    /// The id by which the delayed event is restarted, sent and cancelled.
    pub delay_id: String,
}

impl Request {
    /// A request to send a message-like event after `delay`. Set `state_key` to send a state event.
    pub fn new(
        room_id: OwnedRoomId,
        event_type: TimelineEventType,
        txn_id: OwnedTransactionId,
        delay: Duration,
        content: Raw<AnyTimelineEventContent>,
    ) -> Self {
        Self { room_id, event_type, txn_id, timestamp: None, delay, state_key: None, content }
    }
}

impl Response {
    /// The answer that the event is scheduled as `delay_id`.
    pub fn new(delay_id: String) -> Self {
        Self { delay_id }
    }
}

#[cfg(test)]
mod tests {
    use ruma::{
        api::{
            IncomingRequestExt as _, IncomingResponseExt as _, OutgoingResponseExt as _,
            client::delayed_events::send_delayed_event as earlier,
        },
        exports::http,
        owned_room_id, uint,
    };
    use serde_json::{Value as JsonValue, json};

    use super::*;
    use crate::delayed_events::{STABLE_FEATURE, UNSTABLE_FEATURE, tests::to_http};

    const PATH_ARGS: [&str; 3] = ["!call:example.org", "m.room.topic", "txn1"];

    fn request() -> Request {
        let content = Raw::new(&json!({ "topic": "later" })).unwrap().cast_unchecked();
        Request::new(
            owned_room_id!("!call:example.org"),
            "m.room.topic".into(),
            "txn1".into(),
            Duration::from_millis(1500),
            content,
        )
    }

    fn from_body(body: &JsonValue) -> Option<Request> {
        let body = body.to_string();
        let http = http::Request::builder().method("PUT").body(body.as_bytes()).unwrap();
        Request::try_from_http_request(http, &PATH_ARGS).ok()
    }

    #[test]
    fn request_passes_from_client_to_server() {
        let mut request = request();
        request.state_key = Some(String::new());
        request.timestamp = Some(MilliSecondsSinceUnixEpoch(uint!(7)));
        let (parts, body) = to_http(request, &[STABLE_FEATURE, UNSTABLE_FEATURE]).into_parts();
        assert_eq!(
            parts.uri.path_and_query().unwrap(),
            "/_matrix/client/v3/rooms/!call:example.org/delayed_event/m.room.topic/txn1?ts=7"
        );
        assert_eq!(
            serde_json::from_slice::<JsonValue>(&body).unwrap(),
            json!({ "delay_ms": 1500, "state_key": "", "content": { "topic": "later" } })
        );

        let http = http::Request::from_parts(parts, &*body);
        let request = Request::try_from_http_request(http, &PATH_ARGS).unwrap();
        assert_eq!(request.delay, Duration::from_millis(1500));
        assert_eq!(request.state_key.as_deref(), Some(""));
        assert_eq!(request.timestamp, Some(MilliSecondsSinceUnixEpoch(uint!(7))));
    }

    #[test]
    fn request_of_rumas_client_is_read() {
        let Request { room_id, event_type, txn_id, delay, content, .. } = request();
        let request =
            earlier::unstable::Request::new_raw(event_type, room_id, txn_id, delay, None, content);
        let (parts, body) = to_http(request.unwrap(), &[]).into_parts();
        let ours = to_http(self::request(), &[]);
        assert_eq!(parts.uri, *ours.uri());

        let http = http::Request::from_parts(parts, &*body);
        let request = Request::try_from_http_request(http, &PATH_ARGS).unwrap();
        assert_eq!(request.delay, delay);
        assert_eq!(request.state_key, None);
    }

    #[test]
    fn body_that_schedules_nothing_is_refused() {
        let content = json!({});
        assert!(from_body(&json!({ "delay_ms": 1, "content": content })).is_some());
        for delay in [json!(-1), json!(1.5), json!("1"), json!(null)] {
            assert!(from_body(&json!({ "delay_ms": delay, "content": content })).is_none());
        }
        for body in [
            json!({}),
            json!({ "content": content }),
            json!({ "delay_ms": 1 }),
            json!({ "delay_ms": 1, "content": "text" }),
            json!({ "delay_ms": 1, "delay": 1, "content": content }),
            json!({ "delay_ms": 1, "state_key": 1, "content": content }),
        ] {
            assert!(from_body(&body).is_none(), "{body}");
        }
    }

    #[test]
    fn response_round_trips() {
        let response = Response::new("delay1".to_owned());
        let http = response.try_into_http_response::<Vec<u8>>().unwrap();
        assert_eq!(http.body(), br#"{"delay_id":"delay1"}"#);
        let (parts, body) = http.into_parts();
        let http = http::Response::from_parts(parts, &*body);
        assert_eq!(Response::try_from_http_response(http).unwrap().delay_id, "delay1");
    }
}
