//! Whether the servers signed it that had to, and whether its content is what they signed.

use ruma::{
    RoomId,
    canonical_json::{self, CanonicalJsonObject, CanonicalJsonValue},
    room_version_rules::RoomVersionRules,
    signatures::{self, PublicKeyMap},
};
use wick_core::{Error, Pdu, Result, rules};

use super::dropped;

/// An event whose signatures are good and whose content is what was signed, or was redacted to be so.
pub(crate) struct Verified {
    pub(crate) pdu: Pdu,
}

/// Verifies signatures and content hash. An event with good signatures whose hash does not fit has lost
/// content on the way, which is as if it had been redacted.
///
/// <https://spec.matrix.org/v1.19/server-server-api/#validating-hashes-and-signatures-on-received-events>
pub(super) fn check(
    mut object: CanonicalJsonObject,
    room_id: Option<&RoomId>,
    version: &RoomVersionRules,
    keys: &PublicKeyMap,
) -> Result<Verified> {
    let verified = signatures::verify_event(keys, &object, version)
        .map_err(|error| Error::forbidden(format!("the event's signature is wrong: {error}")))?;
    if verified == signatures::Verified::Signatures {
        canonical_json::redact_in_place(&mut object, &version.redaction, None).map_err(dropped)?;
    }
    let event_id = rules::event_id(&object, version)?;
    let room_id = match room_id {
        Some(room_id) => room_id.to_owned(),
        None if rules::room_id_is_create_hash(version) => rules::room_id_of_create(&event_id)?,
        None => {
            let claimed = object.get("room_id").and_then(CanonicalJsonValue::as_str);
            let claimed = claimed.ok_or_else(|| dropped("it has no room id"))?;
            RoomId::parse(claimed).map_err(dropped)?
        }
    };
    let pdu = Pdu::parse(event_id, room_id, rules::to_json(&object)?).map_err(dropped)?;
    Ok(Verified { pdu })
}
