//! `GET /_matrix/client/*/delayed_events/{delay_id}`: one delayed event of the user.
//!
//! Invariant: the event is the whole body, and can be one that is no longer scheduled.

use ruma::api::{auth_scheme::AccessToken, metadata, request, response};

use super::DelayedEvent;

metadata! {
    method: GET,
    rate_limited: true,
    authentication: AccessToken,
    history: {
        unstable("org.matrix.msc4140") => "/_matrix/client/unstable/org.matrix.msc4140/delayed_events/{delay_id}",
        stable("org.matrix.msc4140.stable") => "/_matrix/client/v1/delayed_events/{delay_id}",
    }
}

/// Request type of the endpoint.
#[request]
pub struct Request {
    /// The delayed event.
    #[ruma_api(path)]
    pub delay_id: String,
}

/// Response type of the endpoint.
#[response]
pub struct Response {
    /// The delayed event.
    #[ruma_api(body)]
    pub delayed_event: DelayedEvent,
}

impl Request {
    /// A request for the delayed event `delay_id`.
    pub fn new(delay_id: String) -> Self {
        Self { delay_id }
    }
}

impl Response {
    /// The answer with `delayed_event`.
    pub fn new(delayed_event: DelayedEvent) -> Self {
        Self { delayed_event }
    }
}

#[cfg(test)]
mod tests {
    use ruma::{
        api::{IncomingRequestExt as _, IncomingResponseExt as _, OutgoingResponseExt as _},
        exports::http,
    };

    use super::*;
    use crate::delayed_events::{STABLE_FEATURE, event::tests::scheduled, tests::to_http};

    #[test]
    fn request_passes_from_client_to_server() {
        for (features, path) in [
            (&[STABLE_FEATURE][..], "/_matrix/client/v1/delayed_events/delay1"),
            (&[], "/_matrix/client/unstable/org.matrix.msc4140/delayed_events/delay1"),
        ] {
            let http = to_http(Request::new("delay1".to_owned()), features);
            assert_eq!(http.uri().path(), path);
            let http = http.map(|_| &b""[..]);
            let request = Request::try_from_http_request(http, &["delay1"]).unwrap();
            assert_eq!(request.delay_id, "delay1");
        }
    }

    #[test]
    fn response_round_trips() {
        let event = serde_json::from_value(scheduled()).unwrap();
        let http = Response::new(event).try_into_http_response::<Vec<u8>>().unwrap();
        let (parts, body) = http.into_parts();
        let http = http::Response::from_parts(parts, &*body);
        let read = Response::try_from_http_response(http).unwrap().delayed_event;
        assert_eq!(read.delay_id, "delay1");
        assert_eq!(read.content.json().get(), r#"{"topic":"gone"}"#);
    }
}
