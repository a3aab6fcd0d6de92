//! The tables of durable timers, of whatever kind, and of the events that expire by them. Rows are made by
//! `room::commit` and, for delayed events, by `service::delayed`; `room::commit` removes them, under the
//! room's lock; `wick_timers` moves deadlines.

use ruma::OwnedEventId;
use serde::{Deserialize, Serialize};
use wick_core::{ShortEventId, ShortRoomId, ShortUserId, TimerId, Timestamp};


/// A running timer. Its presence is the timer: the batch that ends it removes the row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimerRow {
    /// When it fires, by the wall clock.
    pub deadline: Timestamp,
    /// How far from then a keep-alive puts it, in milliseconds.
    pub duration: u64,
    /// What happens then.
    pub kind: TimerKind,
    /// The user whose limit it counts against.
    pub owner: ShortUserId,
    /// Where it happens.
    pub room: ShortRoomId,
    /// Makes the handle of this timer differ from that of any other with the same id.
    pub nonce: u64,
    /// How often it was kept alive. Two rows of one timer are never the same: a change decided on
    /// one conflicts with the other, whatever the clock shows.
    pub renewals: u32,
}
crate::postcard_value!(TimerRow, version = 2, older = [1 => FirstTimerRow]);

/// A timer as it was stored first.
#[derive(Deserialize)]
struct FirstTimerRow {
    deadline: Timestamp,
    duration: u64,
    kind: TimerKind,
    owner: ShortUserId,
    room: ShortRoomId,
    nonce: u64,
}

impl From<FirstTimerRow> for TimerRow {
    fn from(first: FirstTimerRow) -> Self {
        let FirstTimerRow { deadline, duration, kind, owner, room, nonce } = first;
        Self { deadline, duration, kind, owner, room, nonce, renewals: 0 }
    }
}

/// What a timer does when it fires.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TimerKind {
    /// The event expires.
    Expire(ShortEventId),
    /// The delayed event of this timer is sent.
    Send,
}

impl TimerKind {
    /// The feature it belongs to.
    #[must_use]
    pub fn feature(&self) -> Feature {
        match self {
            Self::Expire(_) => Feature::Expiry,
            Self::Send => Feature::Delay,
        }
    }
}

/// What timers are for. Each has limits, handles and metrics of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Feature {
    /// Events that expire.
    Expiry,
    /// Events that are sent later.
    Delay,
}

impl Feature {
    /// Its name in metrics, in logs and for administrators.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Expiry => "expiry",
            Self::Delay => "delay",
        }
    }
}

/// Whether an event that can expire has, shown in its `unsigned`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpiryRow {
    /// The status.
    pub status: ExpiryStatus,
    /// The terminal event with its time, if one could be sent.
    pub terminal: Option<(OwnedEventId, Timestamp)>,
}
crate::postcard_value!(ExpiryRow, version = 1);

/// `running` is the absence of an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExpiryStatus {
    /// The timer runs.
    Running,
    /// The keep-alives stopped.
    Expired,
    /// It was ended by a request.
    Ended,
}

/// A timer that was ended by hand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedRow {
    /// When.
    pub at: Timestamp,
    /// The timer's nonce, to check the token.
    pub nonce: u64,
}
crate::postcard_value!(EndedRow, version = 1);

tables! {
    /// By id: the timer. Written when it is armed and kept alive, deleted when it ends. Scanned once, at start.
    TIMER_BY_ID: TimerId => TimerRow, Random;
    /// By event: the timer that will end it. Deleted with the timer.
    TIMER_BY_EVENT: ShortEventId => TimerId, Random;
    /// By event: its expiry status. Read whenever the event is shown. Kept with the event; deleted if the event
    /// is redacted or superseded while it runs.
    EXPIRY_BY_EVENT: ShortEventId => ExpiryRow, Random;
    /// By timer: when an `end` was answered, so that the same request again within five minutes is too.
    /// Older ones are deleted every ten minutes (`wick_timers`).
    ENDED_BY_TIMER: TimerId => EndedRow, Small;
}
