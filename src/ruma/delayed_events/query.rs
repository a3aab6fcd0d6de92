//! `?org.matrix.msc4140.delay=` on `/send` and `/state`.
//!
//! Invariant: the path is that of the ordinary request, so a server looks at the query first to know
//! which of the two it got. Ruma's own types for this can be sent, but not received: reading them, the
//! number in the query is taken for a string and refused.

use std::{borrow::Cow, error::Error as StdError, fmt, time::Duration};

use ruma::{
    UInt,
    api::{
        IncomingRequest, Metadata, OutgoingRequest,
        client::{message::send_message_event, state::send_state_event},
        error::{DeserializationError, Error, IntoHttpError},
        path_builder::PathBuilder,
    },
    exports::{http, serde_html_form},
    serde::duration::ms,
};
use serde::{Deserialize, Deserializer, Serialize, de::Error as DeError};

use super::ScheduledResponse;

/// A request that sends an event, but later. It is answered with a `delay_id`.
#[derive(Clone, Debug)]
pub struct Delayed<R> {
    /// How long to wait, on the wire in milliseconds.
    pub delay: Duration,
    /// The request as it would be without delay.
    pub request: R,
}

/// `PUT /rooms/{roomId}/send/{eventType}/{txnId}?org.matrix.msc4140.delay=`.
pub type DelayedMessageRequest = Delayed<send_message_event::v3::Request>;

/// `PUT /rooms/{roomId}/state/{eventType}/{stateKey}?org.matrix.msc4140.delay=`.
pub type DelayedStateRequest = Delayed<send_state_event::v3::Request>;

/// For how long the event is to be sticky once it is sent ([MSC4354]); `None` if absent.
///
/// # Errors
///
/// [`InvalidDuration`] if it is there, but not a whole number of milliseconds up to 2⁵³ − 1, or is
/// there twice.
///
/// [MSC4354]: https://github.com/matrix-org/matrix-spec-proposals/pull/4354
pub fn requested_sticky_duration(query: &str) -> Result<Option<Duration>, InvalidDuration> {
    let MaybeSticky { duration } = serde_html_form::from_str(query).map_err(|_| InvalidDuration)?;
    Ok(duration)
}

#[derive(Deserialize)]
struct MaybeSticky {
    #[serde(
        rename = "org.matrix.msc4354.sticky_duration_ms",
        default,
        deserialize_with = "some_ms"
    )]
    duration: Option<Duration>,
}

#[derive(Deserialize, Serialize)]
struct Delay {
    #[serde(
        rename = "org.matrix.msc4140.delay",
        serialize_with = "ms::serialize",
        deserialize_with = "digits_ms"
    )]
    delay: Duration,
}

/// Digits alone: numbers in a query are read by `FromStr`, which also takes a sign.
fn digits_ms<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = Cow::<str>::deserialize(deserializer)?;
    let number = Some(&*text).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    number
        .and_then(|number| number.parse().ok())
        .and_then(|number: u64| UInt::new(number))
        .map(|number| Duration::from_millis(number.into()))
        .ok_or_else(|| DeError::custom(InvalidDuration))
}

/// Not `opt_ms`: to that an empty value is none.
fn some_ms<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    digits_ms(deserializer).map(Some)
}

/// A time span in the query is not a whole number of milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidDuration;

impl fmt::Display for InvalidDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a time span must be a whole number of milliseconds")
    }
}

impl StdError for InvalidDuration {}

impl<R: Metadata> Metadata for Delayed<R> {
    const METHOD: http::Method = R::METHOD;
    const RATE_LIMITED: bool = R::RATE_LIMITED;
    type Authentication = R::Authentication;
    type PathBuilder = R::PathBuilder;
    const PATH_BUILDER: Self::PathBuilder = R::PATH_BUILDER;
}

impl<R: OutgoingRequest<EndpointError = Error>> OutgoingRequest for Delayed<R> {
    type Body = R::Body;
    type EndpointError = Error;
    type IncomingResponse = ScheduledResponse;

    fn try_into_http_request_inner(
        self,
        base_url: &str,
        path_builder_input: <Self::PathBuilder as PathBuilder>::Input<'_>,
    ) -> Result<http::Request<Self::Body>, IntoHttpError> {
        let query = serde_html_form::to_string(Delay { delay: self.delay })?;
        let mut request = self.request.try_into_http_request_inner(base_url, path_builder_input)?;
        let separator = if request.uri().query().is_some() { '&' } else { '?' };
        let uri = format!("{}{separator}{query}", request.uri());
        *request.uri_mut() = http::Uri::try_from(uri).map_err(http::Error::from)?;
        Ok(request)
    }
}

impl<R: IncomingRequest<EndpointError = Error>> IncomingRequest for Delayed<R> {
    type EndpointError = Error;
    type OutgoingResponse = ScheduledResponse;

    fn try_from_http_request_inner(
        request: http::Request<&[u8]>,
        path_args: &[&str],
    ) -> Result<Self, DeserializationError> {
        let Delay { delay } = serde_html_form::from_str(request.uri().query().unwrap_or(""))?;
        Ok(Self { delay, request: R::try_from_http_request_inner(request, path_args)? })
    }
}

#[cfg(test)]
mod tests {
    use ruma::{
        MilliSecondsSinceUnixEpoch,
        api::{IncomingRequestExt as _, client::delayed_events::delayed_message_event},
        events::{MessageLikeEventType, StateEventType},
        owned_room_id,
        serde::Raw,
        uint,
    };
    use serde_json::json;

    use super::*;
    use crate::delayed_events::tests::to_http;

    const MESSAGE_ARGS: [&str; 3] = ["!call:example.org", "m.room.message", "txn1"];

    fn message(delay: Duration) -> DelayedMessageRequest {
        let request = send_message_event::v3::Request::new_raw(
            owned_room_id!("!call:example.org"),
            "txn1".into(),
            MessageLikeEventType::RoomMessage,
            Raw::new(&json!({ "body": "later" })).unwrap().cast_unchecked(),
        );
        Delayed { delay, request }
    }

    #[test]
    fn delayed_message_passes_from_client_to_server() {
        let mut request = message(Duration::from_millis(1500));
        request.request.timestamp = Some(MilliSecondsSinceUnixEpoch(uint!(7)));
        let http = to_http(request, &[]);
        assert_eq!(
            http.uri().path_and_query().unwrap(),
            "/_matrix/client/v3/rooms/!call:example.org/send/m.room.message/txn1\
             ?ts=7&org.matrix.msc4140.delay=1500"
        );

        let (parts, body) = http.into_parts();
        let http = http::Request::from_parts(parts, &*body);
        let request = DelayedMessageRequest::try_from_http_request(http, &MESSAGE_ARGS).unwrap();
        assert_eq!(request.delay, Duration::from_millis(1500));
        assert_eq!(request.request.timestamp, Some(MilliSecondsSinceUnixEpoch(uint!(7))));
        assert_eq!(request.request.body.json().get(), r#"{"body":"later"}"#);
    }

    #[test]
    fn delayed_state_passes_from_client_to_server_and_may_leave_out_an_empty_key() {
        let request = send_state_event::v3::Request::new_raw(
            owned_room_id!("!call:example.org"),
            StateEventType::RoomTopic,
            String::new(),
            Raw::new(&json!({ "topic": "later" })).unwrap().cast_unchecked(),
        );
        let delay = Duration::from_secs(1);
        let (parts, body) = to_http(Delayed { delay, request }, &[]).into_parts();
        assert_eq!(parts.uri.query(), Some("org.matrix.msc4140.delay=1000"));
        for path_args in
            [&["!call:example.org", "m.room.topic"][..], &["!call:example.org", "m.room.topic", ""]]
        {
            let http = http::Request::from_parts(parts.clone(), &*body);
            let request = DelayedStateRequest::try_from_http_request(http, path_args).unwrap();
            assert_eq!(request.request.state_key, "");
            assert_eq!(request.delay, delay);
        }
    }

    #[test]
    fn request_of_rumas_client_is_read() {
        let request = delayed_message_event::unstable::Request::new_raw(
            owned_room_id!("!call:example.org"),
            "txn1".into(),
            MessageLikeEventType::RoomMessage,
            ruma::api::client::delayed_events::DelayParameters::Timeout {
                timeout: Duration::from_millis(103),
            },
            Raw::new(&json!({ "body": "later" })).unwrap().cast_unchecked(),
        );
        let (parts, body) = to_http(request, &[]).into_parts();
        let http = http::Request::from_parts(parts, &*body);
        let request = DelayedMessageRequest::try_from_http_request(http, &MESSAGE_ARGS).unwrap();
        assert_eq!(request.delay, Duration::from_millis(103));
    }

    #[test]
    fn request_without_delay_is_no_delayed_request() {
        let (parts, body) = to_http(message(Duration::ZERO).request, &[]).into_parts();
        let http = http::Request::from_parts(parts, &*body);
        assert!(DelayedMessageRequest::try_from_http_request(http, &MESSAGE_ARGS).is_err());
    }

    #[test]
    fn invalid_delay_is_never_taken_for_none() {
        for value in [
            "",
            "-1",
            "%2B10",
            "+10",
            "1.5",
            "1e3",
            "soon",
            "9007199254740992",
            "99999999999999999999",
        ] {
            let query = format!("org.matrix.msc4140.delay={value}");
            assert!(serde_html_form::from_str::<Delay>(&query).is_err(), "{value}");
        }
        let twice = "org.matrix.msc4140.delay=1&org.matrix.msc4140.delay=2";
        assert!(serde_html_form::from_str::<Delay>(twice).is_err());
    }

    #[test]
    fn sticky_duration_is_read_beside_the_delay() {
        let query = "org.matrix.msc4140.delay=5&org.matrix.msc4354.sticky_duration_ms=7000";
        assert_eq!(requested_sticky_duration(query), Ok(Some(Duration::from_secs(7))));
        assert_eq!(requested_sticky_duration("org.matrix.msc4140.delay=5"), Ok(None));
        let query = "org.matrix.msc4354.sticky_duration_ms=soon";
        assert_eq!(requested_sticky_duration(query), Err(InvalidDuration));
    }

    #[test]
    fn delay_that_can_not_be_written_is_an_error() {
        assert!(serde_html_form::to_string(Delay { delay: Duration::MAX }).is_err());
    }
}
