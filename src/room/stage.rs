//! The stages of an event on its way into a room.
//!
//! Invariant: an authorized event is made in `build` and in `receive` alone, after the auth rules agreed;
//! `commit` takes nothing else.

use wick_core::{ShortEventId, ShortRoomId, event::pdu::SharedPdu};

use crate::Placement;

/// An event that the auth rules allow, ready to be committed.
#[derive(Debug)]
pub(crate) struct Authorized {
    pub(crate) pdu: SharedPdu,
    /// The forward extremities it was built on.
    pub(crate) prev: Vec<ShortEventId>,
}

/// An event that has been appended.
#[derive(Clone, Debug)]
pub struct Appended {
    /// The event.
    pub pdu: SharedPdu,
    /// Its short id.
    pub short: ShortEventId,
    /// The room's short id.
    pub room: ShortRoomId,
    /// Where it goes in the timeline.
    pub placement: Placement,
    /// Whether a timer sent it, not its sender.
    pub by_timer: bool,
    /// The event that it redacts, as it was before; `None` if it redacts none that is stored.
    pub redacted: Option<Redacted>,
}

/// An event that was redacted, as it was before.
#[derive(Clone, Debug)]
pub struct Redacted {
    /// Its short id.
    pub short: ShortEventId,
    /// The event.
    pub pdu: SharedPdu,
    /// The newest events that repeat its content ([`RelatesTo::repeats`](crate::RelatesTo::repeats)), each
    /// with its short id.
    pub repeated: Vec<(ShortEventId, SharedPdu)>,
}
