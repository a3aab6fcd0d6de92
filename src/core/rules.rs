//! The only door to ruma's room version rules, signatures and auth checks.

use ruma::{
    EventId, OwnedEventId, RoomId, RoomVersionId, ServerName,
    canonical_json::{CanonicalJsonObject, CanonicalJsonValue},
    events::{StateEventType, TimelineEventType},
    room_version_rules::RoomVersionRules,
    signatures::{self, Ed25519KeyPair},
    state_res,
};
use serde_json::value::RawValue;

use crate::{Error, Pdu, Result, StateKeyTuple, event::pdu::SharedPdu, json::MAX_DEPTH};

/// The greatest size of an event in canonical JSON, in bytes.
///
/// <https://spec.matrix.org/v1.18/client-server-api/#size-limits>
pub const MAX_EVENT_BYTES: usize = 65_535;

/// The greatest length of an event's type, state key, sender and room id, in bytes.
pub const MAX_FIELD_BYTES: usize = 255;

/// Room versions that can be created and joined here, and the rules ruma has for them.
pub const SUPPORTED_VERSIONS: &[RoomVersionId] = &[
    RoomVersionId::V6,
    RoomVersionId::V7,
    RoomVersionId::V8,
    RoomVersionId::V9,
    RoomVersionId::V10,
    RoomVersionId::V11,
    RoomVersionId::V12,
];

/// The rules of a room version.
///
/// # Errors
/// `M_UNSUPPORTED_ROOM_VERSION` if this server does not have them.
pub fn version_rules(version: &RoomVersionId) -> Result<RoomVersionRules> {
    let unsupported = || {
        Error::refused(
            ruma::api::error::ErrorKind::UnsupportedRoomVersion,
            "this server does not support that room version",
        )
    };
    if !SUPPORTED_VERSIONS.contains(version) {
        return Err(unsupported());
    }
    version.rules().ok_or_else(unsupported)
}

/// Hashes and signs an event and gives it its id. `event` has everything but hashes and signatures.
///
/// # Errors
/// `M_TOO_LARGE` if the event or one of its fields is over its limit.
pub fn hash_and_sign(
    event: &mut CanonicalJsonObject,
    rules: &RoomVersionRules,
    server: &ServerName,
    key: &Ed25519KeyPair,
) -> Result<OwnedEventId> {
    check_fields(event)?;
    signatures::hash_and_sign_event(server.as_str(), key, event, &rules.redaction)
        .map_err(signing_error)?;
    event_id(event, rules)
}

/// The id of a signed event: its reference hash.
///
/// # Errors
/// `M_TOO_LARGE` if the event is over the size limit.
pub fn event_id(event: &CanonicalJsonObject, rules: &RoomVersionRules) -> Result<OwnedEventId> {
    let hash = signatures::reference_hash(event, rules).map_err(signing_error)?;
    OwnedEventId::try_from(format!("${hash}"))
        .map_err(|error| Error::internal("an event's hash makes no event id", error))
}

fn signing_error(error: signatures::JsonError) -> Error {
    match error {
        signatures::JsonError::PduTooLarge => too_large(),
        other => Error::internal("could not hash or sign an event", other),
    }
}

fn too_large() -> Error {
    Error::too_large("the event is larger than 65535 bytes")
}

/// Whether the parts of an event are small and shallow enough, as far as they are there yet.
///
/// # Errors
/// `M_TOO_LARGE`, `M_BAD_JSON`.
pub fn check_fields(event: &CanonicalJsonObject) -> Result<()> {
    for field in ["type", "state_key", "sender", "room_id"] {
        if let Some(CanonicalJsonValue::String(value)) = event.get(field)
            && value.len() > MAX_FIELD_BYTES
        {
            return Err(Error::too_large(format!("{field} is longer than 255 bytes")));
        }
    }
    ensure_shallow(event)
}

/// Whether no field of an event is nested deeper than what can be stored and shown.
///
/// # Errors
/// `M_BAD_JSON`.
pub fn ensure_shallow(event: &CanonicalJsonObject) -> Result<()> {
    if event.values().any(|value| is_deeper_than(MAX_DEPTH, value)) {
        return Err(Error::bad_json(format!(
            "the content is nested deeper than {MAX_DEPTH} levels"
        )));
    }
    Ok(())
}

fn is_deeper_than(levels: usize, value: &CanonicalJsonValue) -> bool {
    let within = |value: &CanonicalJsonValue| is_deeper_than(levels.saturating_sub(1), value);
    match value {
        CanonicalJsonValue::Object(fields) => levels == 0 || fields.values().any(within),
        CanonicalJsonValue::Array(items) => levels == 0 || items.iter().any(within),
        _ => false,
    }
}

/// The canonical JSON text of a signed event.
///
/// # Errors
/// `M_TOO_LARGE` if it is over the size limit.
pub fn to_json(event: &CanonicalJsonObject) -> Result<Box<RawValue>> {
    let json = serde_json::to_string(event)
        .map_err(|error| Error::internal("could not serialize an event", error))?;
    if json.len() > MAX_EVENT_BYTES {
        return Err(too_large());
    }
    RawValue::from_string(json)
        .map_err(|error| Error::internal("could not serialize an event", error))
}

/// The pieces of state that decide whether an event is allowed. Without the create event in room
/// versions whose events do not refer to it.
///
/// # Errors
/// `M_BAD_JSON` if the content does not have the form that its type demands.
pub fn auth_types(
    event_type: &TimelineEventType,
    sender: &ruma::UserId,
    state_key: Option<&str>,
    content: &RawValue,
    rules: &RoomVersionRules,
) -> Result<Vec<StateKeyTuple>> {
    state_res::auth_types_for_event(event_type, sender, state_key, content, &rules.authorization)
        .map_err(Error::bad_json)
}

/// The auth rules that look at the event's own `auth_events`.
///
/// # Errors
/// The reason, if the event is not allowed.
pub fn check_state_independent(
    rules: &RoomVersionRules,
    event: &Pdu,
    fetch: impl Fn(&EventId) -> Option<SharedPdu>,
) -> Result<(), String> {
    state_res::check_state_independent_auth_rules(&rules.authorization, event, fetch)
}

/// The auth rules that look at a state.
///
/// # Errors
/// The reason, if the event is not allowed.
pub fn check_state_dependent(
    rules: &RoomVersionRules,
    event: &Pdu,
    fetch: impl Fn(&StateEventType, &str) -> Option<SharedPdu>,
) -> Result<(), String> {
    state_res::check_state_dependent_auth_rules(&rules.authorization, event, fetch)
}

/// The room that a create event makes, in versions where the room's id is the event's hash.
///
/// # Errors
/// Never for an id that [`event_id`] made.
pub fn room_id_of_create(create: &EventId) -> Result<ruma::OwnedRoomId> {
    let hash = create.as_str().strip_prefix('$').unwrap_or(create.as_str());
    RoomId::parse(format!("!{hash}"))
        .map_err(|error| Error::internal("a create event's hash makes no room id", error))
}

/// The create event of a room whose id is the hash of that event.
///
/// # Errors
/// `M_BAD_JSON` if the room's id is of another form.
pub fn create_of_room(room_id: &RoomId) -> Result<OwnedEventId> {
    let hash = room_id.as_str().strip_prefix('!').unwrap_or(room_id.as_str());
    EventId::parse(format!("${hash}"))
        .map_err(|_| Error::bad_json("the room id is not the hash of a create event"))
}

/// Whether the room's id is the hash of its create event, which then is in no event's `auth_events`.
#[must_use]
pub fn room_id_is_create_hash(rules: &RoomVersionRules) -> bool {
    rules.authorization.room_create_event_id_as_room_id
}
