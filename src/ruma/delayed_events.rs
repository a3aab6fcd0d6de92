//! Delayed events, the later form of [MSC4140]: what ruma's `delayed_events` lacks.
//!
//! An event is handed in now and sent later, unless it is restarted or cancelled. The proposal
//! changed its spelling several times, and clients of each are about:
//!
//! | form | ruma | here |
//! |---|---|---|
//! | `?org.matrix.msc4140.delay=` on `/send`, `/state` | client side | [`Delayed`] |
//! | `PUT …/delayed_event/{eventType}/{txnId}` | unstable, `delay` | [`send_delayed_event`] |
//! | `POST …/delayed_events/{delay_id}`, `{ action }` | with an access token | [`update_delayed_event_by_body`] |
//! | `POST …/delayed_events/{delay_id}/{action}` | unstable, without a token | [`update_delayed_event`] |
//! | `GET …/delayed_events/{delay_id}` | unstable, old names | [`get_delayed_event`] |
//! | `GET …/delayed_events` | unstable, old names | [`get_all_delayed_events`] |
//! | `m.delayed_events` in `/capabilities` | | [`DelayedEventsCapability`] |
//!
//! Invariants: names that changed are written in both spellings where an old client reads them,
//! and read in either; no `0` or absurdly long delay is refused here, as the limits are the
//! server's.
//!
//! [MSC4140]: https://github.com/matrix-org/matrix-spec-proposals/pull/4140

mod capability;
mod event;
pub mod get_all_delayed_events;
pub mod get_delayed_event;
mod query;
pub mod send_delayed_event;
pub mod update_delayed_event;
pub mod update_delayed_event_by_body;

pub use capability::DelayedEventsCapability;
pub use event::DelayedEvent;
pub use query::{
    Delayed, DelayedMessageRequest, DelayedStateRequest, InvalidDuration, requested_sticky_duration,
};
pub use send_delayed_event::Response as ScheduledResponse;

/// The key in `unstable_features` of `GET /_matrix/client/versions` for the unstable paths.
pub const UNSTABLE_FEATURE: &str = "org.matrix.msc4140";

/// The key in `unstable_features` of `GET /_matrix/client/versions` for the stable paths.
pub const STABLE_FEATURE: &str = "org.matrix.msc4140.stable";

#[cfg(test)]
mod tests {
    //! What the tests of all endpoints share.

    use std::borrow::Cow;

    use ruma::{
        api::{
            MatrixVersion, Metadata, OutgoingRequest, OutgoingRequestExt as _, SupportedVersions,
            auth_scheme::{AuthScheme, SendAccessToken},
            path_builder::VersionHistory,
        },
        exports::http,
    };

    /// Sends a request as a logged-in client of a server that announces `features`.
    pub(super) fn to_http<R>(request: R, features: &[&str]) -> http::Request<Vec<u8>>
    where
        R: OutgoingRequest + Metadata<PathBuilder = VersionHistory>,
        for<'a> R::Authentication: AuthScheme<Input<'a> = SendAccessToken<'a>>,
    {
        let supported = SupportedVersions {
            versions: [MatrixVersion::V1_15].into(),
            features: features.iter().map(|&feature| feature.into()).collect(),
        };
        let http: http::Request<Vec<u8>> = request
            .try_into_http_request(
                "https://example.org",
                SendAccessToken::Always("access"),
                Cow::Owned(supported),
            )
            .unwrap();
        assert_eq!(http.headers()[http::header::AUTHORIZATION], "Bearer access");
        http
    }
}
