//! Events that other servers sent and that are still to be received.

use ruma::{OwnedEventId, OwnedRoomId, OwnedServerName};
use serde::{Deserialize, Serialize};
use wick_core::{Position, Timestamp};

use crate::postcard_value;

/// An event that another server sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuedEvent {
    /// The server that sent it, which need not be its sender's.
    pub origin: OwnedServerName,
    /// Its id.
    pub event_id: OwnedEventId,
    /// The event as it came; nothing about it is checked but its format.
    pub json: String,
    /// How often something that it needs could not be had.
    pub attempts: u32,
    /// Not before this time is it tried again.
    pub retry_at: Timestamp,
}

postcard_value!(QueuedEvent, version = 1);

/// A transaction of another server that was answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnsweredInbound {
    /// Its id.
    pub id: String,
    /// For each of its events why it was refused, if it was.
    pub results: Vec<(OwnedEventId, Option<String>)>,
}

postcard_value!(AnsweredInbound, version = 1);

tables! {
    /// By room and the position at which it came: an event that is to be received. Written before the transaction is
    /// answered, deleted once the event is stored or dropped (`wick_inbound`); rebuilt from nothing else.
    QUEUED_BY_ROOM: (OwnedRoomId, Position) => QueuedEvent, Sequential;

    /// By room and event: where it is in [`QUEUED_BY_ROOM`], with which it is written and deleted.
    QUEUED_BY_EVENT: (OwnedRoomId, OwnedEventId) => Position, Random;

    /// By server: its last transaction. Written with the events of the transaction, read when it is repeated; rebuilt
    /// from nothing else.
    ANSWER_BY_ORIGIN: OwnedServerName => AnsweredInbound, Random;
}
