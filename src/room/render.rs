//! How an event is shown to a client: the signed event with an `unsigned` made on the spot (R11).
//!
//! Invariant: what the cache of [`shared`] holds is the same for every viewer; whatever depends on the
//! viewer is added to it for each request.

mod aggregate;
mod format;
mod shared;
mod unsigned;

use std::{borrow::Cow, sync::Arc};

use ruma::{
    MilliSecondsSinceUnixEpoch,
    canonical_json::{self, CanonicalJsonObject},
    events::TimelineEventType,
    room_version_rules::RoomVersionRules,
};
use serde::Serialize;
use serde_json::{Map, Value, value::RawValue};
use wick_core::{Error, Pdu, Result, ShortEventId, ShortRoomId, event::pdu::SharedPdu};
use wick_database::{
    Read,
    schema::room::{Place, REDACTION_BY_EVENT},
};

pub use self::format::Format;
pub(crate) use self::shared::Rendered;
use self::shared::Shared;
use crate::{Graph, visibility::Viewer};

/// Bytes that `unsigned` takes as a rule.
const ROOM_FOR_UNSIGNED: usize = 160;

/// Which parts to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Show {
    /// `room_id`, which `/sync` leaves out.
    pub room_id: bool,
    /// Bundled aggregations.
    pub aggregations: Aggregations,
}

/// Which bundled aggregations to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aggregations {
    /// None.
    None,
    /// All but a thread: those of an event inside of a thread, where none begins.
    WithoutThread,
    /// All.
    All,
}

impl Show {
    /// As in `/sync`: the room is known.
    pub const SYNC: Self = Self { room_id: false, aggregations: Aggregations::All };
    /// As everywhere else.
    pub const CLIENT: Self = Self { room_id: true, aggregations: Aggregations::All };
    /// Without what relates to it, as inside of another event.
    pub const NESTED: Self = Self { room_id: true, aggregations: Aggregations::None };
    /// As the latest event of a thread, inside of the thread's root.
    const IN_THREAD: Self = Self { room_id: true, aggregations: Aggregations::WithoutThread };

    /// Whether it is for an event that stands by itself.
    fn is_whole(self) -> bool {
        self.aggregations == Aggregations::All
    }
}

impl Viewer<'_> {
    /// The event as this viewer gets it. Does not ask whether they may see it.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn show(&mut self, short: ShortEventId, show: Show) -> Result<Box<RawValue>> {
        let pdu = self.rooms.load_event(self.read, short)?;
        let place = self
            .rooms
            .place(self.read, short)?
            .ok_or_else(|| Error::corrupt(format!("event {short} has no place")))?;
        self.show_event(short, &pdu, &place, show)
    }

    /// The event, if the viewer may see it.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn show_if_visible(
        &mut self,
        short: ShortEventId,
        show: Show,
    ) -> Result<Option<Box<RawValue>>> {
        let Some((pdu, place)) = self.visible(short)? else { return Ok(None) };
        self.show_event(short, &pdu, &place, show).map(Some)
    }

    /// A sticky event, which members see whatever the history visibility was when it was sent (MSC4354). `None` if the
    /// viewer is not joined or ignores its sender.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn show_sticky(
        &mut self,
        short: ShortEventId,
        show: Show,
    ) -> Result<Option<Box<RawValue>>> {
        let Some(pdu) = self.rooms.event(self.read, short)? else { return Ok(None) };
        let Some(place) = self.rooms.place(self.read, short)? else { return Ok(None) };
        if !self.can_see_sticky(&pdu, &place) {
            return Ok(None);
        }
        self.show_event(short, &pdu, &place, show).map(Some)
    }

    /// An event from its parts, in the form that the client asks for.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn show_event(
        &mut self,
        short: ShortEventId,
        pdu: &SharedPdu,
        place: &Place,
        show: Show,
    ) -> Result<Box<RawValue>> {
        let event = self.render(short, pdu, place, show)?;
        self.format.reduced(event)
    }

    /// An event inside of another's `unsigned`, if the viewer may see it. One that is nested so deep that
    /// it cannot be read inside of another stays out, and the other is shown all the same.
    fn nested(&mut self, short: ShortEventId, show: Show) -> Result<Option<Value>> {
        let Some((pdu, place)) = self.visible(short)? else { return Ok(None) };
        let event = self.render(short, &pdu, &place, show)?;
        Ok(serde_json::from_str(event.get()).ok())
    }

    fn visible(&mut self, short: ShortEventId) -> Result<Option<(SharedPdu, Place)>> {
        let Some(pdu) = self.rooms.event(self.read, short)? else { return Ok(None) };
        let Some(place) = self.rooms.place(self.read, short)? else { return Ok(None) };
        Ok(self.can_see(&pdu, &place)?.then_some((pdu, place)))
    }

    /// What is the same for every viewer comes from the cache; `unsigned` is added to it.
    fn render(
        &mut self,
        short: ShortEventId,
        pdu: &SharedPdu,
        place: &Place,
        show: Show,
    ) -> Result<Box<RawValue>> {
        let shared = if self.is_erased(pdu, place)? {
            Arc::new(self.make_shared(short, pdu, place, true)?)
        } else {
            self.shared(short, pdu, place)?
        };
        let federation = self.format.federation && show.is_whole();
        let base = if federation { self.signed(pdu, place, &shared)? } else { shared.base.clone() };
        let mut json = String::with_capacity(base.len() + ROOM_FOR_UNSIGNED);
        json.push_str(&base);
        if show.room_id && !federation {
            push_member(&mut json, "room_id", pdu.room_id.as_str())?;
        }
        json.push_str(",\"unsigned\":{");
        self.push_unsigned(&mut json, short, pdu, place, &shared)?;
        if shared.has_children {
            let relations = self.aggregations(short, pdu, shared.redacted, show.aggregations)?;
            if !relations.is_empty() {
                push_member(&mut json, "m.relations", &relations)?;
            }
        }
        json.push_str("}}");
        RawValue::from_string(json)
            .map_err(|error| Error::internal("a rendered event is not JSON", error))
    }

    /// The signed event, redacted if it is, without the brace that ends it.
    fn signed(&self, pdu: &Pdu, place: &Place, shared: &Shared) -> Result<Arc<str>> {
        let mut object = pdu
            .to_canonical_object()
            .map_err(|error| Error::internal("a stored event is not canonical", error))?;
        if shared.redacted {
            let rules = self.rooms.rules_at(self.read, place.room)?;
            canonical_json::redact_in_place(&mut object, &rules.redaction, None)
                .map_err(|error| Error::internal("a stored event cannot be redacted", error))?;
        }
        object.remove("unsigned");
        opened(&object)
    }
}

impl Viewer<'_> {
    /// The content as clients get it: redacted if the event is, and that of a redaction with its target,
    /// which room versions before 11 have beside it.
    ///
    /// <https://spec.matrix.org/v1.18/client-server-api/#mroomredaction>
    fn shown_content<'p>(
        &self,
        pdu: &'p Pdu,
        place: &Place,
        redacted: bool,
    ) -> Result<Cow<'p, RawValue>> {
        if redacted {
            // The cache may still hold the event as it was before.
            return self.rooms.redacted_content(self.read, pdu, place).map(Cow::Owned);
        }
        let (TimelineEventType::RoomRedaction, Some(redacts)) = (&pdu.event_type, &pdu.redacts)
        else {
            return Ok(Cow::Borrowed(&pdu.content));
        };
        let mut content: Map<String, Value> = pdu
            .content_as()
            .map_err(|error| Error::internal("a stored content is no object", error))?;
        content.insert("redacts".to_owned(), redacts.as_str().into());
        serde_json::value::to_raw_value(&content)
            .map(Cow::Owned)
            .map_err(|error| Error::internal("could not serialize a content", error))
    }
}

impl Graph {
    /// The content of an event as it counts: without what its redaction removed. A redacted rule, for
    /// instance, remains one, since its redaction keeps it.
    ///
    /// # Errors
    /// If the event is not there, or the database cannot be read.
    pub fn content(&self, read: &impl Read, short: ShortEventId) -> Result<Box<RawValue>> {
        let pdu = self.load_event(read, short)?;
        self.content_of(read, short, &pdu)
    }

    fn content_of(
        &self,
        read: &impl Read,
        short: ShortEventId,
        pdu: &Pdu,
    ) -> Result<Box<RawValue>> {
        // The cache may still hold the event as it was before.
        if !read.contains(&REDACTION_BY_EVENT, &short)? {
            return Ok(pdu.content.clone());
        }
        let place = self.place(read, short)?;
        let place = place.ok_or_else(|| Error::corrupt(format!("event {short} has no place")))?;
        self.redacted_content(read, pdu, &place)
    }

    /// The stripped form of a state event, for users that are not in the room.
    ///
    /// <https://spec.matrix.org/v1.18/client-server-api/#stripped-state>
    ///
    /// # Errors
    /// If the event is not there, or the database cannot be read.
    pub fn stripped(&self, read: &impl Read, short: ShortEventId) -> Result<Box<RawValue>> {
        #[derive(Serialize)]
        struct Stripped<'a> {
            #[serde(rename = "type")]
            event_type: &'a TimelineEventType,
            content: &'a RawValue,
            sender: &'a str,
            state_key: &'a str,
            /// MSC4311 has it in the create event.
            #[serde(skip_serializing_if = "Option::is_none")]
            origin_server_ts: Option<MilliSecondsSinceUnixEpoch>,
        }
        let pdu = self.load_event(read, short)?;
        let is_create = pdu.event_type == TimelineEventType::RoomCreate;
        let stripped = Stripped {
            event_type: &pdu.event_type,
            content: &self.content_of(read, short, &pdu)?,
            sender: pdu.sender.as_str(),
            state_key: pdu.state_key.as_deref().unwrap_or_default(),
            origin_server_ts: is_create.then(|| pdu.origin_server_ts.matrix()),
        };
        serde_json::value::to_raw_value(&stripped)
            .map_err(|error| Error::internal("could not serialize an event", error))
    }

    fn rules_at(&self, read: &impl Read, room: ShortRoomId) -> Result<RoomVersionRules> {
        let head = self
            .head(read, room)?
            .ok_or_else(|| Error::corrupt("a room with events has no head"))?;
        self.rules_of(&head)
    }

    fn redacted_content(
        &self,
        read: &impl Read,
        pdu: &Pdu,
        place: &Place,
    ) -> Result<Box<RawValue>> {
        let rules = self.rules_at(read, place.room)?;
        let mut content: CanonicalJsonObject = pdu
            .content_as()
            .map_err(|error| Error::internal("a stored content is not canonical", error))?;
        canonical_json::redact_content_in_place(
            &mut content,
            &rules.redaction,
            pdu.event_type.to_string(),
        );
        serde_json::value::to_raw_value(&content)
            .map_err(|error| Error::internal("could not serialize a content", error))
    }
}

/// A JSON object without the brace that ends it.
fn opened(object: &impl Serialize) -> Result<Arc<str>> {
    let mut json = serde_json::to_string(object)
        .map_err(|error| Error::internal("could not serialize an event", error))?;
    json.pop();
    Ok(json.into())
}

/// Adds a member to a JSON object that is being written.
fn push_member(
    json: &mut String,
    name: &'static str,
    value: &(impl Serialize + ?Sized),
) -> Result<()> {
    let value = serde_json::to_string(value)
        .map_err(|error| Error::internal("could not serialize an event", error))?;
    if !json.is_empty() && !json.ends_with('{') {
        json.push(',');
    }
    json.push('"');
    json.push_str(name);
    json.push_str("\":");
    json.push_str(&value);
    Ok(())
}
