//! Parsed events, cached by short id.
//!
//! Invariant: the commit of a redaction replaces its target here. A reader of an older snapshot can put it
//! back as it was, so its redaction is looked up before an event is rendered ([`render`](crate::render)).

use std::sync::Arc;

use quick_cache::{Weighter, sync::Cache};
use ruma::{EventId, RoomVersionId, room_version_rules::RedactionRules};
use serde_json::value::RawValue;
use wick_core::{Error, Pdu, Result, ShortEventId, event::pdu::SharedPdu};
use wick_database::{
    Interner, Read,
    schema::{
        intern::SHORT_BY_ROOM,
        room::{HEAD_BY_ROOM, STORED_BY_EVENT, StoredEvent},
    },
};

/// What an event weighs besides its JSON: ids, vectors, the entry itself.
const OVERHEAD_BYTES: u64 = 700;

#[derive(Clone)]
struct Bytes;

impl Weighter<ShortEventId, SharedPdu> for Bytes {
    fn weight(&self, _: &ShortEventId, pdu: &SharedPdu) -> u64 {
        let json = u64::try_from(pdu.json.get().len()).unwrap_or(u64::MAX);
        // The content is held twice: in the JSON and by itself.
        json.saturating_mul(2).saturating_add(OVERHEAD_BYTES)
    }
}

/// The events of all rooms.
pub struct Events {
    cache: Cache<ShortEventId, SharedPdu, Bytes>,
}

impl Events {
    /// A cache of at most about `bytes`.
    #[must_use]
    pub(crate) fn new(bytes: u64) -> Self {
        let items = usize::try_from(bytes / 2048).unwrap_or(usize::MAX).max(64);
        Self { cache: Cache::with_weighter(items, bytes, Bytes) }
    }

    /// The event; `None` if it is not stored here.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn get(&self, read: &impl Read, short: ShortEventId) -> Result<Option<SharedPdu>> {
        if let Some(pdu) = self.cache.get(&short) {
            return Ok(Some(pdu));
        }
        let Some(stored) = read.get(&STORED_BY_EVENT, &short)? else { return Ok(None) };
        let redaction = redaction_rules(read, &stored)?;
        let json = RawValue::from_string(stored.json)
            .map_err(|error| Error::internal("a stored event is not JSON", error))?;
        let mut pdu = Pdu::parse(stored.event_id, stored.room_id, json, &redaction)
            .map_err(|error| Error::internal("a stored event cannot be parsed", error))?;
        pdu.rejected = stored.rejected;
        let pdu = Arc::new(pdu);
        self.cache.insert(short, pdu.clone());
        Ok(Some(pdu))
    }

    /// Puts an event in the place of what it was before: before its redaction, or before it was no longer
    /// rejected.
    pub(crate) fn replace(&self, short: ShortEventId, pdu: SharedPdu) {
        self.cache.insert(short, pdu);
    }

    /// The event, which must be stored here.
    ///
    /// # Errors
    /// If it cannot be read, or is not there although something refers to it.
    pub fn load(&self, read: &impl Read, short: ShortEventId) -> Result<SharedPdu> {
        self.get(read, short)?
            .ok_or_else(|| Error::corrupt(format!("event {short} is referred to and not stored")))
    }

    /// The event with this id, with its short id.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn by_id(
        &self,
        read: &impl Read,
        intern: &Interner,
        event_id: &EventId,
    ) -> Result<Option<(ShortEventId, SharedPdu)>> {
        let Some(short) = intern.lookup_event(read, event_id)? else { return Ok(None) };
        Ok(self.get(read, short)?.map(|pdu| (short, pdu)))
    }
}

/// The rules by which an event is read. They matter for redactions alone, so nothing is looked up for others.
fn redaction_rules(read: &impl Read, stored: &StoredEvent) -> Result<RedactionRules> {
    if !stored.json.contains("m.room.redaction") {
        return Ok(RedactionRules::V1);
    }
    let Some(room) = read.get(&SHORT_BY_ROOM, &stored.room_id)? else {
        return Ok(RedactionRules::V1);
    };
    let head = read.get(&HEAD_BY_ROOM, &room)?;
    let version = head.and_then(|head| RoomVersionId::try_from(head.version.as_str()).ok());
    Ok(version
        .and_then(|version| version.rules())
        .map_or(RedactionRules::V1, |rules| rules.redaction))
}
