//! `PUT /_matrix/client/v3/rooms/{roomId}/typing/{userId}` with a `timeout` that may be left out.
//!
//! ruma's request type refuses what the specification allows: to type without a timeout.

use std::time::Duration;

use ruma::{
    OwnedRoomId, OwnedUserId,
    api::{auth_scheme::AccessToken, metadata, request, response},
};

metadata! {
    method: PUT,
    rate_limited: true,
    authentication: AccessToken,
    history: {
        1.0 => "/_matrix/client/r0/rooms/{room_id}/typing/{user_id}",
        1.1 => "/_matrix/client/v3/rooms/{room_id}/typing/{user_id}",
    }
}

/// Request type of the endpoint.
#[request]
pub struct Request {
    /// The room.
    #[ruma_api(path)]
    pub room_id: OwnedRoomId,

    /// The user: the sender of the request.
    #[ruma_api(path)]
    pub user_id: OwnedUserId,

    /// Whether they type.
    pub typing: bool,

    /// For how long, unless renewed.
    #[serde(
        with = "ruma::serde::duration::opt_ms",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub timeout: Option<Duration>,
}

/// Response type of the endpoint: empty.
#[response]
#[derive(Default)]
pub struct Response {}

impl Response {
    /// An empty response.
    pub fn new() -> Self {
        Self {}
    }
}
