//! `GET /_matrix/client/*/delayed_events`: the delayed events of the user that are scheduled.
//!
//! Invariant: their order is the server's: by the time at which they are due.

use ruma::api::{auth_scheme::AccessToken, metadata, request, response};

use super::DelayedEvent;

metadata! {
    method: GET,
    rate_limited: true,
    authentication: AccessToken,
    history: {
        unstable("org.matrix.msc4140") => "/_matrix/client/unstable/org.matrix.msc4140/delayed_events",
        stable("org.matrix.msc4140.stable") => "/_matrix/client/v1/delayed_events",
    }
}

/// Request type of the endpoint.
#[request]
#[derive(Default)]
pub struct Request {}

/// Response type of the endpoint.
#[response]
pub struct Response {
    /// The delayed events, the one that is due next first.
    pub delayed_events: Vec<DelayedEvent>,
}

impl Request {
    /// A request for all of them.
    pub fn new() -> Self {
        Self {}
    }
}

impl Response {
    /// The answer with `delayed_events`.
    pub fn new(delayed_events: Vec<DelayedEvent>) -> Self {
        Self { delayed_events }
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
            (&[STABLE_FEATURE][..], "/_matrix/client/v1/delayed_events"),
            (&[], "/_matrix/client/unstable/org.matrix.msc4140/delayed_events"),
        ] {
            let http = to_http(Request::new(), features);
            assert_eq!(http.uri().path(), path);
            assert!(Request::try_from_http_request(http.map(|_| &b""[..]), &[]).is_ok());
        }
    }

    #[test]
    fn response_round_trips() {
        for count in 0..2 {
            let events = vec![serde_json::from_value(scheduled()).unwrap(); count];
            let http = Response::new(events).try_into_http_response::<Vec<u8>>().unwrap();
            let (parts, body) = http.into_parts();
            let http = http::Response::from_parts(parts, &*body);
            let read = Response::try_from_http_response(http).unwrap();
            assert_eq!(read.delayed_events.len(), count);
        }
    }
}
