//! Whether an event has the format of its room version, whether the servers signed it that had to, and whether its
//! content is what they signed.

use ruma::{
    EventId, OwnedEventId, RoomId,
    canonical_json::{self, CanonicalJsonObject, CanonicalJsonValue},
    room_version_rules::RoomVersionRules,
    signatures::{self, PublicKeyMap},
};
use serde_json::value::RawValue;
use wick_core::{Error, Pdu, Result, event::pdu::SharedPdu, rules};

use super::{dropped, format};

/// An event with the format of its room version; of its signatures nothing is known.
#[derive(Clone, Debug)]
pub struct Formatted {
    object: CanonicalJsonObject,
    event_id: OwnedEventId,
}

impl Formatted {
    /// Checks the format. `room_id` is the room it was sent to, `None` for the create event of a new room.
    ///
    /// # Errors
    /// `M_BAD_JSON` if it is no event of this room version or of another room, `M_TOO_LARGE`.
    pub fn check(
        json: &RawValue,
        room_id: Option<&RoomId>,
        version: &RoomVersionRules,
    ) -> Result<Self> {
        let object = format::check(json, room_id, version)?;
        let event_id = rules::event_id(&object, version)?;
        Ok(Self { object, event_id })
    }

    /// The event as canonical JSON, for [`verify_event`](signatures::verify_event).
    #[must_use]
    pub fn object(&self) -> &CanonicalJsonObject {
        &self.object
    }

    /// The event's id.
    #[must_use]
    pub fn event_id(&self) -> &EventId {
        &self.event_id
    }

    /// Checks signatures and content hash. An event with good signatures whose hash does not fit has lost content on
    /// the way, which is as if it had been redacted. `keys` are the keys of the servers that had to sign it, each of
    /// which was valid at the time of the event. `None` if a server signed it and none of its keys is known: then
    /// nothing can be said of the event yet. Takes about a tenth of a millisecond.
    ///
    /// <https://spec.matrix.org/v1.19/server-server-api/#validating-hashes-and-signatures-on-received-events>
    ///
    /// # Errors
    /// `M_FORBIDDEN` if a signature is wrong or absent: the event is to be dropped.
    pub fn verify(
        self,
        version: &RoomVersionRules,
        keys: &PublicKeyMap,
    ) -> Result<Option<Verified>> {
        let Self { mut object, event_id } = self;
        let wrong = |error| Error::forbidden(format!("the event's signature is wrong: {error}"));
        let verified = match signatures::verify_event(keys, &object, version) {
            Ok(verified) => verified,
            Err(_) if lacks_key(&object, version, keys) => return Ok(None),
            Err(error) => return Err(wrong(error)),
        };
        if verified == signatures::Verified::Signatures {
            canonical_json::redact_in_place(&mut object, &version.redaction, None)
                .map_err(dropped)?;
        }
        let room_id = match object.get("room_id").and_then(CanonicalJsonValue::as_str) {
            Some(claimed) => RoomId::parse(claimed).map_err(dropped)?,
            None if rules::room_id_is_create_hash(version) => rules::room_id_of_create(&event_id)?,
            None => return Err(dropped("it has no room id")),
        };
        let json = rules::to_json(&object)?;
        let pdu = Pdu::parse(event_id, room_id, json, &version.redaction).map_err(dropped)?;
        Ok(Some(Verified { pdu: SharedPdu::new(pdu) }))
    }
}

/// Whether one of the servers that signed an event, as they had to, has no key among `keys`.
fn lacks_key(
    object: &CanonicalJsonObject,
    version: &RoomVersionRules,
    keys: &PublicKeyMap,
) -> bool {
    let servers =
        signatures::required_server_signatures_to_verify_event(object, &version.signatures);
    let signed = object.get("signatures").and_then(CanonicalJsonValue::as_object);
    let Some(signed) = signed else { return false };
    servers.is_ok_and(|servers| {
        let mut servers = servers.iter().map(|server| server.as_str());
        servers.any(|server| signed.contains_key(server) && !keys.contains_key(server))
    })
}

/// An event whose signatures are good and whose content is what was signed, or was redacted to be so.
#[derive(Clone, Debug)]
pub struct Verified {
    pdu: SharedPdu,
}

impl Verified {
    /// Checks format, signatures and content hash of an event whose keys are at hand.
    ///
    /// # Errors
    /// As [`Formatted::check`] and [`Formatted::verify`]; `M_FORBIDDEN` too if a key is not known.
    pub fn check(
        json: &RawValue,
        room_id: Option<&RoomId>,
        version: &RoomVersionRules,
        keys: &PublicKeyMap,
    ) -> Result<Self> {
        let verified = Formatted::check(json, room_id, version)?.verify(version, keys)?;
        let verified = verified.ok_or_else(|| Error::forbidden("a signing key is not known"))?;
        if room_id.is_some_and(|room_id| *room_id != *verified.pdu.room_id) {
            return Err(dropped("it is of another room"));
        }
        Ok(verified)
    }

    /// The event.
    #[must_use]
    pub fn pdu(&self) -> &SharedPdu {
        &self.pdu
    }

    /// The event's id.
    #[must_use]
    pub fn event_id(&self) -> &EventId {
        &self.pdu.event_id
    }

    pub(super) fn into_pdu(self) -> SharedPdu {
        self.pdu
    }
}
