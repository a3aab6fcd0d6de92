//! Which endpoints guests may call. All others that need an access token answer a guest's with 403
//! `M_GUEST_ACCESS_FORBIDDEN`.
//!
//! <https://spec.matrix.org/v1.18/client-server-api/#client-behaviour-16>

use http::Method;
use ruma::api::error::ErrorKind;
use wick_core::{Error, Result};

/// The endpoints, by method and path without `/_matrix/client/` and the version.
const OPEN: &[(Method, &str)] = &[
    // Retrieving events and media.
    (Method::GET, "events"),
    (Method::GET, "media/download/{server_name}/{media_id}"),
    (Method::GET, "media/download/{server_name}/{media_id}/{filename}"),
    (Method::GET, "media/thumbnail/{server_name}/{media_id}"),
    (Method::GET, "rooms/{room_id}/context/{event_id}"),
    (Method::GET, "rooms/{room_id}/event/{event_id}"),
    (Method::GET, "rooms/{room_id}/initialSync"),
    (Method::GET, "rooms/{room_id}/members"),
    (Method::GET, "rooms/{room_id}/messages"),
    (Method::GET, "rooms/{room_id}/state"),
    (Method::GET, "rooms/{room_id}/state/{event_type}"),
    (Method::GET, "rooms/{room_id}/state/{event_type}/"),
    (Method::GET, "rooms/{room_id}/state/{event_type}/{state_key}"),
    (Method::GET, "sync"),
    // Sending events.
    (Method::POST, "rooms/{room_id}/join"),
    (Method::POST, "rooms/{room_id}/leave"),
    (Method::PUT, "rooms/{room_id}/send/{event_type}/{txn_id}"),
    (Method::PUT, "rooms/{room_id}/state/{event_type}"),
    (Method::PUT, "rooms/{room_id}/state/{event_type}/"),
    (Method::PUT, "rooms/{room_id}/state/{event_type}/{state_key}"),
    (Method::PUT, "sendToDevice/{event_type}/{txn_id}"),
    // Their own account.
    (Method::GET, "account/whoami"),
    (Method::GET, "devices"),
    (Method::GET, "devices/{device_id}"),
    (Method::PUT, "devices/{device_id}"),
    (Method::PUT, "profile/{user_id}/{field}"),
    // End-to-end encryption.
    (Method::POST, "keys/claim"),
    (Method::POST, "keys/query"),
    (Method::POST, "keys/upload"),
    // Not in the specification's list. The other path to join a room, the only one that some clients know:
    (Method::POST, "join/{room_id_or_alias}"),
    // The other way to send an event later (MSC4140):
    (Method::PUT, "rooms/{room_id}/delayed_event/{event_type}/{txn_id}"),
    // Endpoints without authentication are open with an access token, too:
    (Method::GET, "versions"),
    (Method::GET, "room_summary/{room_id_or_alias}"),
    (Method::GET, "rooms/{room_id_or_alias}/summary"),
    (Method::GET, "summary/{room_id_or_alias}"),
    (Method::POST, "delayed_events/{delay_id}"),
    (Method::POST, "delayed_events/{delay_id}/{action}"),
];

/// Of an endpoint whose path ends with the name of a profile field, the one that guests may set.
const OPEN_FIELD: (&str, &str) = ("profile/{user_id}/{field}", "displayname");

/// Method and end of the path of every endpoint that is open to guests, for a test that each is served.
pub fn guest_endpoints() -> impl Iterator<Item = (Method, &'static str)> {
    OPEN.iter().cloned()
}

/// Whether guests may call an endpoint.
#[derive(Clone, Copy, Debug)]
pub(crate) enum GuestAccess {
    /// They may not.
    Closed,
    /// They may.
    Open,
    /// They may if the last variable part of the path is this.
    OpenFor(&'static str),
}

impl GuestAccess {
    /// Whether guests may call this endpoint.
    pub(crate) fn of(method: &Method, path: &str) -> Self {
        let below = without_version(path);
        if !OPEN.iter().any(|(of, path)| of == method && *path == below) {
            return Self::Closed;
        }
        let (path, field) = OPEN_FIELD;
        if path == below { Self::OpenFor(field) } else { Self::Open }
    }

    /// Refuses a guest's request with these variable parts of its path, unless guests may send it.
    ///
    /// # Errors
    /// `M_GUEST_ACCESS_FORBIDDEN`.
    pub(crate) fn ensure(self, arguments: &[String]) -> Result<()> {
        let is_open = match self {
            Self::Closed => false,
            Self::Open => true,
            Self::OpenFor(field) => arguments.last().is_some_and(|last| last == field),
        };
        if is_open {
            return Ok(());
        }
        Err(Error::refused(ErrorKind::GuestAccessForbidden, "guests may not do this"))
    }
}

/// The part of a path that is the same in all versions. An unstable one has two parts, of which the latter names
/// the feature.
fn without_version(path: &str) -> &str {
    let below = path.strip_prefix("/_matrix/client/").unwrap_or(path);
    match below.split_once('/') {
        Some(("unstable", feature)) => feature.split_once('/').map_or(feature, |(_, path)| path),
        Some(("r0" | "v1" | "v3", path)) => path,
        _ => below,
    }
}
