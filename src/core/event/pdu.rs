//! A persistent event as it was hashed and signed, parsed once.
//!
//! Invariant: `json` is the signed form; nothing is ever added to it. `unsigned` is made when it is read (R11).

use std::{fmt, sync::Arc};

use ruma::{
    EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UserId,
    canonical_json::CanonicalJsonObject,
    events::{StateEventType, TimelineEventType},
    room_version_rules::RedactionRules,
    state_res,
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use crate::{StateKeyTuple, Timestamp};

/// The longest time for which an event is sticky, in milliseconds (MSC4354).
pub const MAX_STICKY_MS: u64 = 3_600_000;

/// A persistent event of a room.
#[derive(Clone)]
pub struct Pdu {
    /// Its id (the reference hash, since room version 3).
    pub event_id: OwnedEventId,
    /// The room it belongs to. Known also for a version 12 create event, whose JSON does not have it.
    pub room_id: OwnedRoomId,
    /// The sender.
    pub sender: OwnedUserId,
    /// Its type.
    pub event_type: TimelineEventType,
    /// Present for state events.
    pub state_key: Option<String>,
    /// The time of sending by the clock of its server.
    pub origin_server_ts: Timestamp,
    /// One more than the largest depth of its `prev_events`.
    pub depth: u64,
    /// The forward extremities it was built on.
    pub prev_events: Vec<OwnedEventId>,
    /// The events that allow it.
    pub auth_events: Vec<OwnedEventId>,
    /// The event it redacts, from the field in which the room version has it.
    pub redacts: Option<OwnedEventId>,
    /// For how long it is sticky, in milliseconds up to [`MAX_STICKY_MS`] (MSC4354); `None` if it is not.
    pub sticky_duration: Option<u64>,
    /// Its content.
    pub content: Box<RawValue>,
    /// The whole signed event.
    pub json: Box<RawValue>,
    /// Whether the auth rules rejected it on receipt.
    pub rejected: bool,
}

#[derive(Deserialize)]
struct Wire<'a> {
    sender: OwnedUserId,
    #[serde(rename = "type")]
    event_type: TimelineEventType,
    state_key: Option<String>,
    origin_server_ts: MilliSecondsSinceUnixEpoch,
    depth: u64,
    prev_events: Vec<OwnedEventId>,
    auth_events: Vec<OwnedEventId>,
    #[serde(borrow)]
    redacts: Option<&'a RawValue>,
    #[serde(borrow, rename = "msc4354_sticky")]
    sticky: Option<&'a RawValue>,
    #[serde(borrow)]
    content: &'a RawValue,
}

#[derive(Deserialize)]
struct Sticky {
    duration_ms: u64,
}

#[derive(Deserialize)]
struct RedactsContent {
    redacts: Option<OwnedEventId>,
}

impl Pdu {
    /// Parses the signed JSON of an event whose id and room are known. `redaction` are the rules of the room's
    /// version, by which the target of a redaction is a top-level field up to version 10, and part of the content
    /// since 11. The other field means nothing.
    ///
    /// # Errors
    /// If a field that every event has is absent or of the wrong type.
    pub fn parse(
        event_id: OwnedEventId,
        room_id: OwnedRoomId,
        json: Box<RawValue>,
        redaction: &RedactionRules,
    ) -> Result<Self, serde_json::Error> {
        let wire: Wire<'_> = serde_json::from_str(json.get())?;
        let redacts = match (&wire.event_type, redaction.content_field_redacts) {
            (TimelineEventType::RoomRedaction, true) => {
                serde_json::from_str::<RedactsContent>(wire.content.get())
                    .map_or(None, |content| content.redacts)
            }
            (TimelineEventType::RoomRedaction, false) => {
                wire.redacts.and_then(|id| serde_json::from_str(id.get()).ok())
            }
            _ => None,
        };
        // What is not understood makes an event not sticky; state is never.
        let sticky = wire.sticky.filter(|_| wire.state_key.is_none());
        let sticky = sticky.and_then(|sticky| serde_json::from_str::<Sticky>(sticky.get()).ok());
        Ok(Self {
            event_id,
            room_id,
            sender: wire.sender,
            event_type: wire.event_type,
            state_key: wire.state_key,
            origin_server_ts: wire.origin_server_ts.into(),
            depth: wire.depth,
            prev_events: wire.prev_events,
            auth_events: wire.auth_events,
            redacts,
            sticky_duration: sticky.map(|sticky| sticky.duration_ms.min(MAX_STICKY_MS)),
            content: wire.content.to_owned(),
            json,
            rejected: false,
        })
    }

    /// The name of the piece of state this event sets, if it is a state event.
    #[must_use]
    pub fn state_tuple(&self) -> Option<StateKeyTuple> {
        let state_key = self.state_key.clone()?;
        Some((StateEventType::from(self.event_type.to_string()), state_key))
    }

    /// The signed JSON as a canonical object.
    ///
    /// # Errors
    /// If the JSON is not canonical, which a stored event always is.
    pub fn to_canonical_object(&self) -> Result<CanonicalJsonObject, serde_json::Error> {
        serde_json::from_str(self.json.get())
    }

    /// The content as a type. Only for content that this server reads for its own purposes.
    ///
    /// # Errors
    /// If the content does not have that form.
    pub fn content_as<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.content.get())
    }

    /// Whether this is the state event `event_type` with `state_key`.
    #[must_use]
    pub fn is_state(&self, event_type: &TimelineEventType, state_key: &str) -> bool {
        self.event_type == *event_type && self.state_key.as_deref() == Some(state_key)
    }
}

impl fmt::Debug for Pdu {
    /// Names the event without its content, so that no message ends up in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pdu")
            .field("event_id", &self.event_id)
            .field("room_id", &self.room_id)
            .field("event_type", &self.event_type)
            .finish_non_exhaustive()
    }
}

/// An event shared between caches, checks and readers.
pub type SharedPdu = Arc<Pdu>;

impl state_res::Event for Pdu {
    type Id = OwnedEventId;

    fn event_id(&self) -> &OwnedEventId {
        &self.event_id
    }

    fn room_id(&self) -> Option<&RoomId> {
        // The auth rules of version 12 want to see that the create event has none of its own.
        let is_create =
            self.event_type == TimelineEventType::RoomCreate && self.prev_events.is_empty();
        if is_create && !self.room_id.as_str().contains(':') { None } else { Some(&self.room_id) }
    }

    fn sender(&self) -> &UserId {
        &self.sender
    }

    fn origin_server_ts(&self) -> MilliSecondsSinceUnixEpoch {
        self.origin_server_ts.matrix()
    }

    fn event_type(&self) -> &TimelineEventType {
        &self.event_type
    }

    fn content(&self) -> &RawValue {
        &self.content
    }

    fn state_key(&self) -> Option<&str> {
        self.state_key.as_deref()
    }

    fn prev_events(&self) -> Box<dyn DoubleEndedIterator<Item = &OwnedEventId> + '_> {
        Box::new(self.prev_events.iter())
    }

    fn auth_events(&self) -> Box<dyn DoubleEndedIterator<Item = &OwnedEventId> + '_> {
        Box::new(self.auth_events.iter())
    }

    fn redacts(&self) -> Option<&OwnedEventId> {
        self.redacts.as_ref()
    }

    fn rejected(&self) -> bool {
        self.rejected
    }
}

impl Pdu {
    /// The event's id.
    #[must_use]
    pub fn id(&self) -> &EventId {
        &self.event_id
    }
}
