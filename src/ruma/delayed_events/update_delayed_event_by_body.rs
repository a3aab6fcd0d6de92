//! `POST /_matrix/client/unstable/org.matrix.msc4140/delayed_events/{delay_id}` with `{ "action" }`: the
//! earlier form of [`update_delayed_event`](super::update_delayed_event).
//!
//! Invariant: the access token is optional, unlike with ruma's own type for this.

use ruma::api::{auth_scheme::AccessTokenOptional, metadata, request};

pub use super::update_delayed_event::Response;
use super::update_delayed_event::UpdateAction;

metadata! {
    method: POST,
    rate_limited: true,
    authentication: AccessTokenOptional,
    history: {
        unstable("org.matrix.msc4140") => "/_matrix/client/unstable/org.matrix.msc4140/delayed_events/{delay_id}",
    }
}

/// Request type of the endpoint.
#[request]
pub struct Request {
    /// The delayed event.
    #[ruma_api(path)]
    pub delay_id: String,

    /// What shall happen to it. An unknown action still parses.
    pub action: UpdateAction,
}

impl Request {
    /// A request to do `action` with the delayed event `delay_id`.
    pub fn new(delay_id: String, action: UpdateAction) -> Self {
        Self { delay_id, action }
    }
}

#[cfg(test)]
mod tests {
    use ruma::{api::IncomingRequestExt as _, exports::http};
    use serde_json::json;

    use super::*;
    use crate::delayed_events::tests::to_http;

    #[test]
    fn request_passes_from_client_to_server() {
        let request = Request::new("delay1".to_owned(), UpdateAction::from("cancel"));
        let (parts, body) = to_http(request, &[]).into_parts();
        assert_eq!(
            parts.uri.path(),
            "/_matrix/client/unstable/org.matrix.msc4140/delayed_events/delay1"
        );
        assert_eq!(
            serde_json::from_slice::<serde_json::Value>(&body).unwrap(),
            json!({ "action": "cancel" })
        );
        let http = http::Request::from_parts(parts, &*body);
        let request = Request::try_from_http_request(http, &["delay1"]).unwrap();
        assert_eq!(request.action, UpdateAction::Cancel);
    }

    #[test]
    fn request_without_action_is_refused() {
        for body in ["{}", r#"{"action":1}"#, ""] {
            let http = http::Request::builder().method("POST").body(body.as_bytes()).unwrap();
            assert!(Request::try_from_http_request(http, &["delay1"]).is_err(), "{body}");
        }
    }
}
