//! `GET /_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device/{device_id}/events`: the messages to a
//! dehydrated device, as deployed clients ask for them. Ruma has the form of the MSC's first text, a `POST`.
//!
//! <https://github.com/matrix-org/matrix-spec-proposals/pull/3814>

use ruma::{
    OwnedDeviceId,
    api::{auth_scheme::AccessToken, metadata, request, response},
    events::AnyToDeviceEvent,
    serde::Raw,
};

metadata! {
    method: GET,
    rate_limited: false,
    authentication: AccessToken,
    history: {
        unstable => "/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device/{device_id}/events",
    }
}

/// Request type of the endpoint.
#[request]
pub struct Request {
    /// The dehydrated device.
    #[ruma_api(path)]
    pub device_id: OwnedDeviceId,
    /// The `next_batch` of an earlier response.
    #[ruma_api(query)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
}

/// Response type of the endpoint.
#[response]
#[derive(Default)]
pub struct Response {
    /// The messages, the oldest first.
    pub events: Vec<Raw<AnyToDeviceEvent>>,
    /// What to ask with for more; absent if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_batch: Option<String>,
}

impl Request {
    /// A request for the messages to `device_id` from the beginning.
    pub fn new(device_id: OwnedDeviceId) -> Self {
        Self { device_id, from: None }
    }
}

impl Response {
    /// The answer with `events` and a token for more.
    pub fn new(events: Vec<Raw<AnyToDeviceEvent>>, next_batch: Option<String>) -> Self {
        Self { events, next_batch }
    }
}

#[cfg(test)]
mod tests {
    use ruma::{api::IncomingRequestExt as _, exports::http};

    use super::*;

    #[test]
    fn the_token_is_in_the_query() {
        let path = "/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device/D/events";
        for (query, from) in [("", None), ("?from=17", Some("17"))] {
            let http = http::Request::get(format!("{path}{query}")).body(&b""[..]).unwrap();
            let request = Request::try_from_http_request(http, &["D"]).unwrap();
            assert_eq!((request.device_id.as_str(), request.from.as_deref()), ("D", from));
        }
    }
}
