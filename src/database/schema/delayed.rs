//! Delayed events: what is to be sent when its timer fires, and what became of those that were
//! scheduled. The timer itself is in [`timer`](super::timer).
//!
//! Invariant: a delayed event has a row of [`DELAYED_BY_TIMER`] as long as anything is known of it, and
//! either a timer or a row of [`FINALISED_BY_TIMER`], never both.

use ruma::OwnedEventId;
use serde::{Deserialize, Serialize};
use wick_core::{ShortEventId, ShortRoomId, ShortStateKey, ShortUserId, TimerId, Timestamp};

use super::timer::TimerRow;
use crate::postcard_value;

/// An event that is to be sent. Never rewritten: keep-alives touch the timer alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DelayedRow {
    /// Its type.
    pub event_type: String,
    /// Its state key, if it is a state event.
    pub state_key: Option<String>,
    /// Its content as the client gave it, JSON.
    pub content: String,
    /// For how long it is to be sticky once it is sent, in milliseconds (MSC4354).
    pub sticky_duration: Option<u64>,
    /// The request that scheduled it, if that had a transaction id: device, and path with the id.
    pub transaction: Option<(String, String)>,
}
postcard_value!(DelayedRow, version = 1);

/// A delayed event that is no longer scheduled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinalisedRow {
    /// Its timer as it was.
    pub timer: TimerRow,
    /// When it was finalised.
    pub at: Timestamp,
    /// What became of it.
    pub outcome: FinalOutcome,
}
postcard_value!(FinalisedRow, version = 1);

/// What became of a delayed event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FinalOutcome {
    /// It was sent as this event.
    Sent(OwnedEventId),
    /// It was cancelled by a request.
    Cancelled,
    /// It was refused when it was due.
    Failed {
        /// The errcode.
        errcode: String,
        /// The message that goes with it.
        message: String,
    },
}

/// What a request to schedule an event was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduledAnswer {
    /// The timer.
    pub timer: TimerId,
    /// Its nonce, from which its handle is made again.
    pub nonce: u64,
}
postcard_value!(ScheduledAnswer, version = 1);

tables! {
    /// By timer: the event to send. Written when it is scheduled, read when it is due and to list it; deleted
    /// with the row of [`FINALISED_BY_TIMER`].
    DELAYED_BY_TIMER: TimerId => DelayedRow, Random;
    /// By user, device and request: the answer, so that the same request again schedules nothing more.
    /// Goes with the row of [`DELAYED_BY_TIMER`].
    SCHEDULED_BY_TRANSACTION: (ShortUserId, String, String) => ScheduledAnswer, Random;
    /// By room and state key: the delayed events that would set it. Read when it is set, by servers that
    /// cancel them then. Deleted when they are finalised.
    DELAYED_BY_STATE: (ShortRoomId, ShortStateKey, TimerId) => (), Random;
    /// By timer: what became of its event. Deleted after seven days, or when its owner has more than a thousand
    /// newer ones (`wick_rooms`).
    FINALISED_BY_TIMER: TimerId => FinalisedRow, Random;
    /// By owner and time: their finalised delayed events. Read to forget the oldest.
    FINALISED_BY_OWNER: (ShortUserId, Timestamp, TimerId) => (), Random;
    /// By event: the handle of the delayed event it was, for the sender's `unsigned`. The handle gives no
    /// right any more.
    DELAY_ID_BY_EVENT: ShortEventId => String, Random;
}
