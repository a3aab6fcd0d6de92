//! LiveKit tokens and delegated leaves (MSC4195), asked of the homeserver with an access token.
//!
//! Invariant: the present text's `member_id` and the deployed `member` are both read; which one is present decides the
//! revision.

use serde::{Deserialize, Serialize};

/// A member as the deployed revision has it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Member {
    /// The member id.
    pub id: String,
    /// The user; the sender of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claimed_user_id: Option<String>,
    /// The device.
    pub claimed_device_id: String,
}

pub mod get_token {
    //! `POST /_matrix/client/*/rtc/livekit/get_token`

    use ruma::{
        OwnedRoomId, OwnedServerName,
        api::{auth_scheme::AccessToken, metadata, request, response},
    };

    use super::Member;
    use crate::ExpireRefreshToken;

    metadata! {
        method: POST,
        rate_limited: true,
        authentication: AccessToken,
        history: {
            unstable("io.element.msc4195") => "/_matrix/client/unstable/io.element.msc4195/rtc/livekit/get_token",
            stable("io.element.msc4195.stable") => "/_matrix/client/v1/rtc/livekit/get_token",
        }
    }

    /// Request type of the endpoint.
    #[request]
    pub struct Request {
        /// The server whose token is requested; the own one if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub server_name: Option<OwnedServerName>,

        /// The WebSocket URL of LiveKit.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub url: Option<String>,

        /// The room.
        pub room_id: OwnedRoomId,

        /// The slot.
        pub slot_id: String,

        /// The member id (present text).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub member_id: Option<String>,

        /// The member (deployed revision).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub member: Option<Member>,

        /// The delayed event to hand over.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub delay_id: Option<String>,

        /// The refresh token to hand over, of an event that expires.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub expire_refresh_token: Option<ExpireRefreshToken>,
    }

    /// Response type of the endpoint.
    #[response]
    pub struct Response {
        /// The token.
        pub jwt: String,

        /// The WebSocket URL of LiveKit (deployed revision).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub url: Option<String>,
    }

    impl Response {
        /// A response with a token.
        pub fn new(jwt: String, url: Option<String>) -> Self {
            Self { jwt, url }
        }
    }
}

pub mod delegate_delayed_leave {
    //! `POST /_matrix/client/*/rtc/livekit/delegate_delayed_leave`

    use ruma::{
        OwnedRoomId,
        api::{auth_scheme::AccessToken, metadata, request, response},
    };

    use super::Member;
    use crate::ExpireRefreshToken;

    metadata! {
        method: POST,
        rate_limited: true,
        authentication: AccessToken,
        history: {
            unstable("io.element.msc4195") => "/_matrix/client/unstable/io.element.msc4195/rtc/livekit/delegate_delayed_leave",
            stable("io.element.msc4195.stable") => "/_matrix/client/v1/rtc/livekit/delegate_delayed_leave",
        }
    }

    /// Request type of the endpoint.
    #[request]
    pub struct Request {
        /// The WebSocket URL of LiveKit.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub url: Option<String>,

        /// The room.
        pub room_id: OwnedRoomId,

        /// The slot.
        pub slot_id: String,

        /// The member id (present text).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub member_id: Option<String>,

        /// The member (deployed revision).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub member: Option<Member>,

        /// The delayed event.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub delay_id: Option<String>,

        /// The refresh token of an event that expires, beside or instead of the delayed event.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub expire_refresh_token: Option<ExpireRefreshToken>,
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
}
