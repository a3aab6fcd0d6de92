//! Whether the JSON is an event of the room's version: canonical, complete, within the size limits.

use ruma::{
    RoomId,
    canonical_json::{CanonicalJsonObject, CanonicalJsonValue},
    room_version_rules::RoomVersionRules,
    state_res,
};
use serde_json::value::RawValue;
use wick_core::Result;

use super::dropped;

/// The event as a canonical object, without what is not part of it: `unsigned` is not signed (R11).
///
/// `room_id` is the room it was sent to; `None` for the create event of a new room.
pub(super) fn check(
    json: &RawValue,
    room_id: Option<&RoomId>,
    rules: &RoomVersionRules,
) -> Result<CanonicalJsonObject> {
    // Refuses floats and numbers beyond 2^53, as versions since 6 want it.
    let mut object: CanonicalJsonObject = serde_json::from_str(json.get()).map_err(dropped)?;
    state_res::check_pdu_format(&object, &rules.event_format).map_err(dropped)?;
    object.remove("unsigned");
    let claimed = object.get("room_id").and_then(CanonicalJsonValue::as_str);
    if let (Some(claimed), Some(room_id)) = (claimed, room_id)
        && claimed != room_id.as_str()
    {
        return Err(dropped("it is of another room"));
    }
    Ok(object)
}
