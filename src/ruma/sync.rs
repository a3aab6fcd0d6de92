//! `GET /_matrix/client/v3/sync` with both names of MSC4222's parameter.
//!
//! ruma's request type knows the stable name alone; a client that is not sure sends both. The
//! response is not here: a server writes it from JSON it already has.

use std::time::Duration;

pub use ruma::api::client::sync::sync_events::v3::Filter;
use ruma::{
    api::{auth_scheme::AccessToken, metadata, request, response},
    presence::PresenceState,
};

metadata! {
    method: GET,
    rate_limited: false,
    authentication: AccessToken,
    history: {
        1.0 => "/_matrix/client/r0/sync",
        1.1 => "/_matrix/client/v3/sync",
    }
}

/// Request type of the endpoint.
#[request]
#[derive(Default)]
pub struct Request {
    /// A filter, or the id of one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[ruma_api(query)]
    pub filter: Option<Filter>,

    /// The `next_batch` of the sync before.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[ruma_api(query)]
    pub since: Option<String>,

    /// Whether to return the full state of every room.
    #[serde(default, skip_serializing_if = "ruma::serde::is_default")]
    #[ruma_api(query)]
    pub full_state: bool,

    /// The presence to set.
    #[serde(default, skip_serializing_if = "ruma::serde::is_default")]
    #[ruma_api(query)]
    pub set_presence: PresenceState,

    /// How long to wait for news.
    #[serde(
        with = "ruma::serde::duration::opt_ms",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    #[ruma_api(query)]
    pub timeout: Option<Duration>,

    /// Whether to return the state after the timeline, and not before it.
    #[serde(default, skip_serializing_if = "ruma::serde::is_default")]
    #[ruma_api(query)]
    pub use_state_after: bool,

    /// The same by its unstable name.
    #[serde(
        rename = "org.matrix.msc4222.use_state_after",
        default,
        skip_serializing_if = "ruma::serde::is_default"
    )]
    #[ruma_api(query)]
    pub use_state_after_unstable: bool,
}

/// Stands for the response, which the server writes by itself.
#[response]
#[derive(Default)]
pub struct Response {}

#[cfg(test)]
mod tests {
    use ruma::{api::IncomingRequestExt as _, exports::http};

    use super::*;

    #[test]
    fn both_names_of_the_parameter_can_be_there_at_once() {
        for (query, expected) in [
            ("", (false, false)),
            ("?use_state_after=true", (true, false)),
            ("?org.matrix.msc4222.use_state_after=true", (false, true)),
            ("?use_state_after=true&org.matrix.msc4222.use_state_after=true", (true, true)),
        ] {
            let http =
                http::Request::builder().uri(format!("/sync{query}")).body(&b""[..]).unwrap();
            let request = Request::try_from_http_request(http, &[] as &[&str]).unwrap();
            assert_eq!((request.use_state_after, request.use_state_after_unstable), expected);
        }
    }
}
