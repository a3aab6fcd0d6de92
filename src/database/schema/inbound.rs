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
    /// How often the room's policy server had no answer for it.
    pub unanswered: u32,
}

impl QueuedEvent {
    /// Whether it was tried in vain.
    #[must_use]
    pub fn is_postponed(&self) -> bool {
        self.attempts > 0 || self.unanswered > 0
    }
}

/// The same as it was stored when policy servers were one of the things that an event needs.
#[derive(Deserialize)]
struct QueuedEventOfOneNeed {
    origin: OwnedServerName,
    event_id: OwnedEventId,
    json: String,
    attempts: u32,
    retry_at: Timestamp,
}

impl From<QueuedEventOfOneNeed> for QueuedEvent {
    fn from(old: QueuedEventOfOneNeed) -> Self {
        let QueuedEventOfOneNeed { origin, event_id, json, attempts, retry_at } = old;
        Self { origin, event_id, json, attempts, retry_at, unanswered: 0 }
    }
}

postcard_value!(QueuedEvent, version = 2, older = [1 => QueuedEventOfOneNeed]);

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Value;

    #[test]
    fn events_of_the_older_format_are_read() {
        let event = QueuedEvent {
            origin: OwnedServerName::try_from("a").unwrap(),
            event_id: OwnedEventId::try_from("$b").unwrap(),
            json: "{}".to_owned(),
            attempts: 3,
            retry_at: Timestamp(5),
            unanswered: 0,
        };
        let old = [1, 1, b'a', 2, b'$', b'b', 2, b'{', b'}', 3, 5];
        assert_eq!(QueuedEvent::decode(&old).unwrap(), event);
        let event = QueuedEvent { unanswered: 300, ..event };
        assert_eq!(QueuedEvent::decode(&event.encode()).unwrap(), event);
    }
}
