//! `POST /_matrix/client/*/delayed_events/{delay_id}/{action}`: restart, send or cancel.
//!
//! Invariant: the access token is optional here, under both prefixes. The proposal wants one; what is
//! deployed has the delay id for the right. Which of the two holds is the server's choice.

pub use ruma::api::client::delayed_events::update_delayed_event::UpdateAction;
use ruma::api::{auth_scheme::AccessTokenOptional, metadata, request, response};

metadata! {
    method: POST,
    rate_limited: true,
    authentication: AccessTokenOptional,
    history: {
        unstable("org.matrix.msc4140") => "/_matrix/client/unstable/org.matrix.msc4140/delayed_events/{delay_id}/{action}",
        stable("org.matrix.msc4140.stable") => "/_matrix/client/v1/delayed_events/{delay_id}/{action}",
    }
}

/// Request type of the endpoint.
#[request]
pub struct Request {
    /// The delayed event.
    #[ruma_api(path)]
    pub delay_id: String,

    /// What shall happen to it. An unknown action still parses.
    #[ruma_api(path)]
    pub action: UpdateAction,
}

/// Response type of the endpoint: empty.
#[response]
#[derive(Default)]
pub struct Response {}

impl Request {
    /// A request to do `action` with the delayed event `delay_id`.
    pub fn new(delay_id: String, action: UpdateAction) -> Self {
        Self { delay_id, action }
    }
}

impl Response {
    /// An empty response.
    pub fn new() -> Self {
        Self {}
    }
}

#[cfg(test)]
mod tests {
    use ruma::{
        api::{IncomingRequestExt as _, OutgoingResponseExt as _},
        exports::http,
    };

    use super::*;
    use crate::delayed_events::{STABLE_FEATURE, tests::to_http};

    #[test]
    fn every_action_passes_from_client_to_server() {
        for name in ["restart", "send", "cancel", "oops"] {
            let action = UpdateAction::from(name);
            let request = Request::new("delay1".to_owned(), action.clone());
            let http = to_http(request, &[STABLE_FEATURE]);
            assert_eq!(http.method(), http::Method::POST);
            assert_eq!(
                http.uri().path(),
                format!("/_matrix/client/v1/delayed_events/delay1/{name}")
            );
            for body in [&http.body()[..], b""] {
                let http = http::Request::builder().method("POST").body(body).unwrap();
                let request = Request::try_from_http_request(http, &["delay1", name]).unwrap();
                assert_eq!(request.delay_id, "delay1");
                assert_eq!(request.action, action);
            }
        }
    }

    #[test]
    fn response_is_an_empty_object() {
        let http = Response::new().try_into_http_response::<Vec<u8>>().unwrap();
        assert_eq!(http.body(), b"{}");
    }
}
