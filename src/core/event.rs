//! Events: before they are built ([`Draft`]) and signed ([`Pdu`]).
//!
//! The later stages (verified, authorized, committed) belong to the room crate, which alone can make them.

pub mod pdu;

use ruma::{
    OwnedEventId, OwnedRoomId, OwnedUserId,
    canonical_json::CanonicalJsonObject,
    events::{StateEventType, TimelineEventType},
};

use crate::Timestamp;

pub use self::pdu::Pdu;

/// An event type with a state key: the name of one piece of a room's state.
pub type StateKeyTuple = (StateEventType, String);

/// An event before it has a place in a room: no ids, no hashes, no signatures.
#[derive(Clone, Debug)]
pub struct Draft {
    /// The room.
    pub room_id: OwnedRoomId,
    /// The sender.
    pub sender: OwnedUserId,
    /// The event's type.
    pub event_type: TimelineEventType,
    /// Present for state events.
    pub state_key: Option<String>,
    /// The content, canonical: no floats, no integers beyond 2^53.
    pub content: CanonicalJsonObject,
    /// The event a redaction removes.
    pub redacts: Option<OwnedEventId>,
    /// For how long it is to be sticky, in milliseconds (MSC4354).
    pub sticky_duration: Option<u64>,
    /// Its timestamp, if not the current time (application services may set it).
    pub origin_server_ts: Option<Timestamp>,
}

impl Draft {
    /// A message event.
    #[must_use]
    pub fn message(
        room_id: OwnedRoomId,
        sender: OwnedUserId,
        event_type: TimelineEventType,
        content: CanonicalJsonObject,
    ) -> Self {
        Self {
            room_id,
            sender,
            event_type,
            state_key: None,
            content,
            redacts: None,
            sticky_duration: None,
            origin_server_ts: None,
        }
    }

    /// A state event.
    #[must_use]
    pub fn state(
        room_id: OwnedRoomId,
        sender: OwnedUserId,
        event_type: StateEventType,
        state_key: impl Into<String>,
        content: CanonicalJsonObject,
    ) -> Self {
        Self {
            state_key: Some(state_key.into()),
            ..Self::message(room_id, sender, event_type.to_string().into(), content)
        }
    }
}
