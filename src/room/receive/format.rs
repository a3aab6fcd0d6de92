//! Whether the JSON is an event of the room's version: canonical, complete, within the limits of size and depth.

use ruma::{
    RoomId,
    canonical_json::{CanonicalJsonObject, CanonicalJsonValue},
    room_version_rules::RoomVersionRules,
    state_res,
};
use serde_json::value::RawValue;
use wick_core::{Result, rules};

use super::dropped;

/// The event as a canonical object, without what is not part of it: `unsigned` is not signed (R11).
///
/// `room_id` is the room it was sent to; `None` for the create event of a new room.
pub(super) fn check(
    event: &RawValue,
    room_id: Option<&RoomId>,
    version: &RoomVersionRules,
) -> Result<CanonicalJsonObject> {
    // Refuses floats and numbers beyond 2^53, as versions since 6 want it.
    let mut object: CanonicalJsonObject = serde_json::from_str(event.get()).map_err(dropped)?;
    rules::ensure_shallow(&object)?;
    let checked = with_short_fields(&object, version);
    state_res::check_pdu_format(checked.as_ref().unwrap_or(&object), &version.event_format)
        .map_err(dropped)?;
    object.remove("unsigned");
    let claimed = object.get("room_id").and_then(CanonicalJsonValue::as_str);
    if let (Some(claimed), Some(room_id)) = (claimed, room_id)
        && claimed != room_id.as_str()
    {
        return Err(dropped("it is of another room"));
    }
    Ok(object)
}

/// Before room version 11, servers limited type and state key to so many characters, not bytes; rooms have such events.
const MAX_CHARACTERS: usize = 255;

/// The event with a type and a state key of few bytes, if theirs are only in bytes beyond the limit.
fn with_short_fields(
    object: &CanonicalJsonObject,
    rules: &RoomVersionRules,
) -> Option<CanonicalJsonObject> {
    // The redaction rules of version 11 tell it from those before.
    if rules.redaction.content_field_redacts {
        return None;
    }
    let mut short = None;
    for field in ["type", "state_key"] {
        let Some(CanonicalJsonValue::String(text)) = object.get(field) else { continue };
        if text.len() > MAX_CHARACTERS && text.chars().count() <= MAX_CHARACTERS {
            short
                .get_or_insert_with(|| object.clone())
                .insert(field.to_owned(), CanonicalJsonValue::String(String::new()));
        }
    }
    short
}

#[cfg(test)]
mod tests {
    use ruma::RoomVersionId;
    use serde_json::{json, value::to_raw_value};

    use super::*;

    #[test]
    fn a_state_key_is_limited_in_characters_before_room_version_11_and_in_bytes_since() {
        let fits = |version: RoomVersionId, characters: usize| {
            let event = json!({
                "type": "org.example", "state_key": "é".repeat(characters), "content": {},
                "sender": "@a:b.test", "room_id": "!r:b.test", "depth": 1, "origin_server_ts": 1,
                "prev_events": ["$p"], "auth_events": ["$a"], "hashes": { "sha256": "aGFzaA" },
                "signatures": { "b.test": { "ed25519:1": "c2ln" } },
            });
            let rules = version.rules().unwrap();
            let checked = check(&to_raw_value(&event).unwrap(), None, &rules);
            let key = |object: CanonicalJsonObject| object["state_key"].as_str().unwrap().len();
            checked.is_ok_and(|object| key(object) == "é".len() * characters)
        };
        assert!(fits(RoomVersionId::V10, 100) && fits(RoomVersionId::V11, 100));
        assert!(fits(RoomVersionId::V10, 255) && !fits(RoomVersionId::V11, 255));
        assert!(!fits(RoomVersionId::V10, 256));
    }
}
