//! How an event is shown to a client: the signed event with an `unsigned` made on the spot (R11).

mod aggregate;
mod unsigned;

use ruma::{
    OwnedEventId,
    canonical_json::{self, CanonicalJsonObject},
    events::TimelineEventType,
};
use serde::Serialize;
use serde_json::{Map, Value, value::RawValue};
use wick_core::{Error, Pdu, Result, ShortEventId, event::pdu::SharedPdu};
use wick_database::{
    Read,
    schema::room::{HEAD_BY_ROOM, Place, REDACTION_BY_EVENT},
};

use crate::visibility::Viewer;

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
}

#[derive(Serialize)]
struct ClientEvent<'a> {
    #[serde(rename = "type")]
    event_type: &'a TimelineEventType,
    content: &'a RawValue,
    event_id: &'a OwnedEventId,
    sender: &'a str,
    origin_server_ts: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    room_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state_key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    redacts: Option<&'a OwnedEventId>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    unsigned: Map<String, Value>,
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
        let Some(pdu) = self.rooms.event(self.read, short)? else { return Ok(None) };
        let Some(place) = self.rooms.place(self.read, short)? else { return Ok(None) };
        if !self.can_see(&pdu, &place)? {
            return Ok(None);
        }
        self.show_event(short, &pdu, &place, show).map(Some)
    }

    /// The event whose parts are at hand.
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
        let redaction = self.read.get(&REDACTION_BY_EVENT, &short)?;
        // The cache may still hold what the event said before.
        let redacted_content = match redaction {
            Some(_) => Some(self.redacted_content(pdu, place)?),
            None => None,
        };
        let mut unsigned = self.unsigned(short, pdu, place, redaction)?;
        let relations = self.aggregations(short, pdu, redaction.is_some(), show.aggregations)?;
        if !relations.is_empty() {
            unsigned.insert("m.relations".to_owned(), Value::Object(relations));
        }
        let event = ClientEvent {
            event_type: &pdu.event_type,
            content: redacted_content.as_deref().unwrap_or(&pdu.content),
            event_id: &pdu.event_id,
            sender: pdu.sender.as_str(),
            origin_server_ts: pdu.origin_server_ts.0,
            room_id: show.room_id.then_some(pdu.room_id.as_str()),
            state_key: pdu.state_key.as_deref(),
            redacts: pdu.redacts.as_ref(),
            unsigned,
        };
        serde_json::value::to_raw_value(&event)
            .map_err(|error| Error::internal("could not serialize an event", error))
    }

    /// The stripped form shown to those who are not in the room.
    ///
    /// <https://spec.matrix.org/v1.18/client-server-api/#stripped-state>
    ///
    /// # Errors
    /// If it cannot be serialized.
    pub fn stripped(pdu: &Pdu) -> Result<Box<RawValue>> {
        #[derive(Serialize)]
        struct Stripped<'a> {
            #[serde(rename = "type")]
            event_type: &'a TimelineEventType,
            content: &'a RawValue,
            sender: &'a str,
            state_key: &'a str,
        }
        let stripped = Stripped {
            event_type: &pdu.event_type,
            content: &pdu.content,
            sender: pdu.sender.as_str(),
            state_key: pdu.state_key.as_deref().unwrap_or_default(),
        };
        serde_json::value::to_raw_value(&stripped)
            .map_err(|error| Error::internal("could not serialize an event", error))
    }

    fn redacted_content(&self, pdu: &Pdu, place: &Place) -> Result<Box<RawValue>> {
        let head = self
            .read
            .get(&HEAD_BY_ROOM, &place.room)?
            .ok_or_else(|| Error::corrupt("a room with events has no head"))?;
        let rules = self.rooms.rules_of(&head)?;
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
