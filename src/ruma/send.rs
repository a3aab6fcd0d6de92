//! `PUT /rooms/{roomId}/send/…` and `PUT /rooms/{roomId}/state/…`, with the answer extended.
//!
//! Invariants: the requests are ruma's own, down to the path; the answer is a superset of ruma's,
//! so a client without support for expiry can read it.

use ruma::{
    OwnedEventId,
    api::{
        IncomingRequest, Metadata, OutgoingRequest,
        client::{message::send_message_event, state::send_state_event},
        error::{DeserializationError, Error, IntoHttpError},
        path_builder::PathBuilder,
        response,
    },
    exports::http,
};

use crate::ExpireRefreshToken;

/// A request that sends an event, and is answered with a [`Response`].
#[derive(Clone, Debug)]
pub struct Request<R>(
    /// Ruma's request.
    pub R,
);

/// `PUT /rooms/{roomId}/send/{eventType}/{txnId}`.
pub type MessageRequest = Request<send_message_event::v3::Request>;

/// `PUT /rooms/{roomId}/state/{eventType}/{stateKey}`.
pub type StateRequest = Request<send_state_event::v3::Request>;

/// The answer to both: `{ event_id, eventId, expire_refresh_token? }`.
#[response]
pub struct Response {
    /// The event that was sent. Written under both names, read from either.
    #[serde(flatten, with = "both_spellings")]
    pub event_id: OwnedEventId,

    /// The right to refresh or end it, if it will expire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expire_refresh_token: Option<ExpireRefreshToken>,
}

impl Response {
    /// The answer for an event that doesn't expire.
    pub fn new(event_id: OwnedEventId) -> Self {
        Self { event_id, expire_refresh_token: None }
    }

    /// The answer for an event that will expire.
    pub fn with_token(event_id: OwnedEventId, token: ExpireRefreshToken) -> Self {
        Self { event_id, expire_refresh_token: Some(token) }
    }
}

impl<R: Metadata> Metadata for Request<R> {
    const METHOD: http::Method = R::METHOD;
    const RATE_LIMITED: bool = R::RATE_LIMITED;
    type Authentication = R::Authentication;
    type PathBuilder = R::PathBuilder;
    const PATH_BUILDER: Self::PathBuilder = R::PATH_BUILDER;
}

impl<R: OutgoingRequest<EndpointError = Error>> OutgoingRequest for Request<R> {
    type Body = R::Body;
    type EndpointError = Error;
    type IncomingResponse = Response;

    fn try_into_http_request_inner(
        self,
        base_url: &str,
        path_builder_input: <Self::PathBuilder as PathBuilder>::Input<'_>,
    ) -> Result<http::Request<Self::Body>, IntoHttpError> {
        self.0.try_into_http_request_inner(base_url, path_builder_input)
    }
}

impl<R: IncomingRequest<EndpointError = Error>> IncomingRequest for Request<R> {
    type EndpointError = Error;
    type OutgoingResponse = Response;

    fn try_from_http_request_inner(
        request: http::Request<&[u8]>,
        path_args: &[&str],
    ) -> Result<Self, DeserializationError> {
        R::try_from_http_request_inner(request, path_args).map(Self)
    }
}

mod both_spellings {
    //! The event id under `event_id`, which is Matrix's spelling, and `eventId`, the proposal's.

    use ruma::{EventId, OwnedEventId};
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

    #[derive(Serialize)]
    struct Written<'a> {
        event_id: &'a EventId,
        #[serde(rename = "eventId")]
        proposed: &'a EventId,
    }

    // Two fields and no alias: an answer that has both keys would be refused as a duplicate.
    #[derive(Deserialize)]
    struct Read {
        event_id: Option<OwnedEventId>,
        #[serde(rename = "eventId")]
        proposed: Option<OwnedEventId>,
    }

    pub(super) fn serialize<S: Serializer>(id: &EventId, serializer: S) -> Result<S::Ok, S::Error> {
        Written { event_id: id, proposed: id }.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<OwnedEventId, D::Error> {
        let Read { event_id, proposed } = Read::deserialize(deserializer)?;
        event_id.or(proposed).ok_or_else(|| D::Error::missing_field("event_id"))
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use ruma::{
        api::{
            IncomingRequestExt as _, IncomingResponseExt as _, MatrixVersion,
            OutgoingRequestExt as _, OutgoingResponseExt as _, SupportedVersions,
            auth_scheme::{AccessToken, SendAccessToken},
            path_builder::VersionHistory,
        },
        events::{MessageLikeEventType, StateEventType},
        owned_event_id, owned_room_id,
        serde::Raw,
    };
    use serde_json::{Value as JsonValue, json};

    use super::*;

    fn to_http<R>(request: Request<R>) -> http::Request<Vec<u8>>
    where
        R: OutgoingRequest<EndpointError = Error>,
        R: Metadata<Authentication = AccessToken, PathBuilder = VersionHistory>,
    {
        let supported = SupportedVersions {
            versions: [MatrixVersion::V1_15].into(),
            features: Default::default(),
        };
        request
            .try_into_http_request(
                "https://example.org",
                SendAccessToken::IfRequired("access"),
                Cow::Owned(supported),
            )
            .unwrap()
    }

    fn answer(body: &JsonValue) -> Option<Response> {
        let body = body.to_string();
        Response::try_from_http_response(http::Response::new(body.as_bytes())).ok()
    }

    fn written(response: Response) -> JsonValue {
        let response = response.try_into_http_response::<Vec<u8>>().unwrap();
        assert_eq!(response.status(), http::StatusCode::OK);
        serde_json::from_slice(response.body()).unwrap()
    }

    #[test]
    fn message_request_passes_from_client_to_server() {
        let content = json!({ "m.will_expire": 10, "body": "hello" });
        let http = to_http(Request(send_message_event::v3::Request::new_raw(
            owned_room_id!("!call:example.org"),
            "txn1".into(),
            MessageLikeEventType::RoomMessage,
            Raw::new(&content).unwrap().cast_unchecked(),
        )));
        assert_eq!(
            http.uri().path(),
            "/_matrix/client/v3/rooms/!call:example.org/send/m.room.message/txn1"
        );
        assert_eq!(http.headers()[http::header::AUTHORIZATION], "Bearer access");

        let (parts, body) = http.into_parts();
        let request = MessageRequest::try_from_http_request(
            http::Request::from_parts(parts, &*body),
            &["!call:example.org", "m.room.message", "txn1"],
        )
        .unwrap();
        assert_eq!(request.0.txn_id, "txn1");
        assert_eq!(request.0.body.deserialize_as_unchecked::<JsonValue>().unwrap(), content);
    }

    #[test]
    fn state_request_passes_from_client_to_server_and_may_leave_out_an_empty_key() {
        let http = to_http(Request(send_state_event::v3::Request::new_raw(
            owned_room_id!("!call:example.org"),
            StateEventType::from("m.call.member"),
            String::new(),
            Raw::new(&json!({ "m.will_expire": 10 })).unwrap().cast_unchecked(),
        )));
        let (parts, body) = http.into_parts();
        for path_args in [
            &["!call:example.org", "m.call.member"][..],
            &["!call:example.org", "m.call.member", ""],
        ] {
            let request = http::Request::from_parts(parts.clone(), &*body);
            let request = StateRequest::try_from_http_request(request, path_args).unwrap();
            assert_eq!(request.0.state_key, "");
        }
    }

    #[test]
    fn answer_carries_the_event_id_twice_and_the_token_once() {
        let token = ExpireRefreshToken::new("secret");
        let response = Response::with_token(owned_event_id!("$event"), token);
        assert!(!format!("{response:?}").contains("secret"));
        let json = written(response);
        assert_eq!(
            json,
            json!({ "event_id": "$event", "eventId": "$event", "expire_refresh_token": "secret" })
        );

        let read = answer(&json).unwrap();
        assert_eq!(read.event_id, "$event");
        assert_eq!(read.expire_refresh_token.unwrap().as_str(), "secret");
    }

    #[test]
    fn answer_for_a_lasting_event_has_no_token() {
        let json = written(Response::new(owned_event_id!("$event")));
        assert_eq!(json, json!({ "event_id": "$event", "eventId": "$event" }));
        assert!(answer(&json).unwrap().expire_refresh_token.is_none());
    }

    #[test]
    fn either_spelling_of_the_event_id_is_read_and_none_is_an_error() {
        for key in ["event_id", "eventId"] {
            assert_eq!(answer(&json!({ key: "$event" })).unwrap().event_id, "$event");
            assert!(answer(&json!({ key: 1 })).is_none());
        }
        assert!(answer(&json!({ "expire_refresh_token": "secret" })).is_none());
    }

    #[test]
    fn client_without_the_extension_reads_the_answer() {
        let token = ExpireRefreshToken::new("secret");
        let json = written(Response::with_token(owned_event_id!("$event"), token)).to_string();
        let plain = send_message_event::v3::Response::try_from_http_response(http::Response::new(
            json.as_bytes(),
        ));
        assert_eq!(plain.unwrap().event_id, "$event");
    }
}
