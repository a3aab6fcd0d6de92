//! What is the same of an event for every viewer: made once, and shared while nothing changes in its room.
//!
//! Invariant: an entry is used for a snapshot only if it was made from that snapshot's position, or from
//! one below it since when nothing was written in the room. All that an entry is made of is written
//! together with something in the room: redactions and relations are events of it, and the end of an
//! event's life wakes it.

use std::sync::Arc;

use quick_cache::{Weighter, sync::Cache};
use ruma::{OwnedEventId, events::TimelineEventType};
use serde::Serialize;
use serde_json::{json, value::RawValue};
use wick_core::{Pdu, Position, Result, ShortEventId};
use wick_database::{
    Range, Read,
    schema::{
        room::{Place, REDACTION_BY_EVENT, RELATION_BY_PARENT},
        timer::{EXPIRY_BY_EVENT, ExpiryStatus},
    },
};
use wick_ruma::WILL_EXPIRE;

use super::{opened, push_member};
use crate::visibility::Viewer;

/// What an entry weighs besides its JSON.
const OVERHEAD_BYTES: u64 = 200;

/// The part of an event that all viewers share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// The position of the snapshot it was made from.
    at: Position,
    /// The event's redaction.
    pub(super) redaction: Option<ShortEventId>,
    /// Whether it is shown redacted.
    pub(super) redacted: bool,
    /// Whether any event relates to it.
    pub(super) has_children: bool,
    /// The event without `room_id`, `unsigned` and the brace that ends it.
    pub(super) base: Arc<str>,
    /// Members of `unsigned` for every viewer.
    pub(super) unsigned: String,
    /// Members of `unsigned` about the replaced state event, for viewers that may see this event.
    pub(super) previous: String,
}

#[derive(Clone)]
struct Bytes;

impl Weighter<ShortEventId, Arc<Shared>> for Bytes {
    fn weight(&self, _: &ShortEventId, shared: &Arc<Shared>) -> u64 {
        let bytes = [shared.base.len(), shared.unsigned.len(), shared.previous.len()];
        let bytes = bytes.into_iter().map(|bytes| u64::try_from(bytes).unwrap_or(u64::MAX));
        bytes.fold(OVERHEAD_BYTES, u64::saturating_add)
    }
}

/// The shared parts of the events that were shown last. Evicted by position, see above.
pub(crate) struct Rendered {
    cache: Cache<ShortEventId, Arc<Shared>, Bytes>,
}

impl Rendered {
    /// A cache of at most about `bytes`.
    #[must_use]
    pub(crate) fn new(bytes: u64) -> Self {
        let items = usize::try_from(bytes / 1024).unwrap_or(usize::MAX).max(64);
        Self { cache: Cache::with_weighter(items, bytes, Bytes) }
    }
}

#[derive(Serialize)]
struct Base<'a> {
    #[serde(rename = "type")]
    event_type: &'a TimelineEventType,
    content: &'a RawValue,
    event_id: &'a OwnedEventId,
    sender: &'a str,
    origin_server_ts: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    state_key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    redacts: Option<&'a OwnedEventId>,
    #[serde(rename = "msc4354_sticky", skip_serializing_if = "Option::is_none")]
    sticky: Option<Sticky>,
}

#[derive(Serialize)]
struct Sticky {
    duration_ms: u64,
}

impl Viewer<'_> {
    /// The shared part of an event.
    pub(super) fn shared(
        &self,
        short: ShortEventId,
        pdu: &Pdu,
        place: &Place,
    ) -> Result<Arc<Shared>> {
        let (cache, position) = (&self.rooms.rendered.cache, self.read.position());
        if let Some(shared) = cache.get(&short)
            && (shared.at == position
                || (shared.at < position && !self.rooms.db.is_busy_since(place.room, shared.at)))
        {
            return Ok(shared);
        }
        let shared = Arc::new(self.make_shared(short, pdu, place, false)?);
        cache.insert(short, Arc::clone(&shared));
        Ok(shared)
    }

    /// The parts of an event as of the snapshot; `erased`: redacted without a redaction.
    pub(super) fn make_shared(
        &self,
        short: ShortEventId,
        pdu: &Pdu,
        place: &Place,
        erased: bool,
    ) -> Result<Shared> {
        let redaction = self.read.get(&REDACTION_BY_EVENT, &short)?;
        let redacted = erased || redaction.is_some();
        let base = Base {
            event_type: &pdu.event_type,
            content: &self.shown_content(pdu, place, redacted)?,
            event_id: &pdu.event_id,
            sender: pdu.sender.as_str(),
            origin_server_ts: pdu.origin_server_ts.0,
            state_key: pdu.state_key.as_deref(),
            redacts: pdu.redacts.as_ref().filter(|_| !redacted),
            sticky: pdu
                .sticky_duration
                .filter(|_| !redacted)
                .map(|duration_ms| Sticky { duration_ms }),
        };
        let mut unsigned = String::new();
        if !redacted {
            self.push_expiry(&mut unsigned, short)?;
        }
        let children = Range::prefix((short,));
        Ok(Shared {
            at: self.read.position(),
            redaction,
            redacted,
            has_children: self.read.first(&RELATION_BY_PARENT, children)?.is_some(),
            base: opened(&base)?,
            unsigned,
            previous: self.previous(pdu, place)?,
        })
    }

    /// The members that name what a state event replaced.
    fn previous(&self, pdu: &Pdu, place: &Place) -> Result<String> {
        let mut members = String::new();
        let Some((event_type, state_key)) = pdu.state_tuple() else { return Ok(members) };
        let previous =
            self.rooms.state_event_at(self.read, place.before, &event_type, &state_key)?;
        let Some(previous) = previous else { return Ok(members) };
        let pdu = self.rooms.load_event(self.read, previous)?;
        let redacted = self.read.contains(&REDACTION_BY_EVENT, &previous)?;
        push_member(&mut members, "replaces_state", &pdu.event_id)?;
        push_member(&mut members, "prev_sender", &pdu.sender)?;
        push_member(&mut members, "prev_content", &*self.shown_content(&pdu, place, redacted)?)?;
        Ok(members)
    }

    fn push_expiry(&self, unsigned: &mut String, short: ShortEventId) -> Result<()> {
        let Some(expiry) = self.read.get(&EXPIRY_BY_EVENT, &short)? else { return Ok(()) };
        let status = match expiry.status {
            ExpiryStatus::Running => "running",
            ExpiryStatus::Expired => "expired",
            ExpiryStatus::Ended => "ended",
        };
        let mut value = json!({ "status": status });
        if let (Some((event_id, ts)), Some(fields)) = (expiry.terminal, value.as_object_mut()) {
            fields.insert("event_id".to_owned(), json!(event_id));
            fields.insert("origin_server_ts".to_owned(), json!(ts));
        }
        push_member(unsigned, WILL_EXPIRE, &value)
    }
}
