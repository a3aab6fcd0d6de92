//! What this server sends to other servers: events and EDUs, in the order of their positions, by destination.
//!
//! Invariant: what is queued for a destination stays until the destination has acknowledged it, or until it is not
//! worth sending any more.

use ruma::{OwnedEventId, OwnedServerName};
use serde::{Deserialize, Serialize};
use wick_core::{Position, ShortEventId, ShortRoomId};

use super::to_device::Outstanding;
use crate::postcard_value;

/// An EDU that is to be sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuedEdu {
    /// The servers that it is for.
    pub destinations: Vec<OwnedServerName>,
    /// The EDU with its type.
    pub json: String,
    /// Whether it is dropped for a destination that is out of reach at present.
    pub is_transient: bool,
}

/// Something that is to be sent to one destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outgoing {
    /// An event.
    Event(ShortEventId),
    /// An EDU.
    Edu(String),
}

/// How far a destination has got.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DestinationProgress {
    /// Everything queued up to this position was acknowledged.
    pub acknowledged: Position,
    /// The positions whose events were not queued, because the destination was out of reach for long.
    pub gap: Option<Gap>,
}

/// Positions whose events are not in the queue of a destination. Instead of them it gets the newest event of each room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// The last position before it.
    pub after: Position,
    /// Its last position; `None` while it grows.
    pub upto: Option<Position>,
    /// The last room whose newest event was acknowledged; rooms are gone through in the order of their short ids.
    pub room: Option<ShortRoomId>,
}

postcard_value!(QueuedEdu, version = 1);
postcard_value!(Outgoing, version = 1);
postcard_value!(DestinationProgress, version = 1);

tables! {
    /// EDUs that are not in the queues of their destinations yet, by position. Written with the change that
    /// they tell of, moved to [`OUTGOING_BY_DESTINATION`] by `wick_sender`; rebuilt from nothing else.
    EDU_BY_STREAM: Position => QueuedEdu, Sequential;

    /// The queue of each destination, by position. Written and deleted by `wick_sender`; the events in it can be
    /// rebuilt from [`EVENT_BY_STREAM`](super::stream::EVENT_BY_STREAM), the EDUs from nothing else.
    OUTGOING_BY_DESTINATION: (OwnedServerName, Position) => Outgoing, Sequential;

    /// How far each destination has got; no row if nothing was ever sent to it. Written and read by `wick_sender`;
    /// rebuilt from nothing else.
    PROGRESS_BY_DESTINATION: OwnedServerName => DestinationProgress, Small;

    /// The messages from device to device in the queue of each destination. Written with [`OUTGOING_BY_DESTINATION`], from
    /// which it can be rebuilt; a row that counts nothing is deleted.
    HELD_BY_DESTINATION: OwnedServerName => Outstanding, Small;

    /// By destination and subject: where the newest update of a user's devices or keys, or the newest member event of
    /// another server's user in a room, is in the queue, if it was queued
    /// while the destination was out of reach. Written with [`OUTGOING_BY_DESTINATION`], deleted with the first update
    /// that is queued afterwards; a lost row leaves an update in the queue that need not be sent.
    NEWEST_BY_DESTINATION: (OwnedServerName, String) => Position, Small;

    /// Events of other servers that came over this server, and that it sends on to the servers in their room. Written
    /// before the event is received (`wick_inbound`), deleted with the event's way into [`OUTGOING_BY_DESTINATION`].
    FORWARDED_BY_EVENT: OwnedEventId => (), Small;
}
