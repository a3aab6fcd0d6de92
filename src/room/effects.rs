//! What an event does beside being there: answering a transaction, arming or finishing a timer.

use ruma::OwnedDeviceId;
use wick_core::{ShortRoomId, ShortUserId, TimerId, Timestamp};
use wick_database::schema::timer::{TimerKind, TimerRow};

/// What is written in the same batch as an event.
#[derive(Clone, Debug, Default)]
pub struct Effects {
    /// The request that sends it, so that the same request again is the same event.
    pub transaction: Option<TransactionKey>,
    /// Arms a timer that will end the event.
    pub arm: Option<Arm>,
    /// Removes the timer that this event is the firing of.
    pub finish: Option<Finish>,
}

/// Which request it was: the scope is the device and the path, not the body.
///
/// <https://spec.matrix.org/v1.18/client-server-api/#transaction-identifiers>
#[derive(Clone, Debug)]
pub struct TransactionKey {
    /// The sender.
    pub user: ShortUserId,
    /// The sender's device.
    pub device_id: OwnedDeviceId,
    /// The path of the request without its last segment.
    pub path: String,
    /// The path's last segment.
    pub transaction_id: String,
}

impl TransactionKey {
    /// The key of the row that holds the answer.
    #[must_use]
    pub fn row_key(&self) -> (ShortUserId, String, String) {
        (self.user, self.device_id.to_string(), format!("{}/{}", self.path, self.transaction_id))
    }
}

/// A timer to arm.
#[derive(Clone, Debug)]
pub struct Arm {
    /// Its id, from [`Graph::next_timer`](crate::Graph::next_timer).
    pub timer: TimerId,
    /// Makes its handle unique.
    pub nonce: u64,
    /// How long it runs after each refresh, in milliseconds.
    pub duration: u64,
    /// When it fires if it is not refreshed.
    pub deadline: Timestamp,
}

impl Arm {
    /// The timer as it is stored.
    #[must_use]
    pub fn row(&self, kind: TimerKind, owner: ShortUserId, room: ShortRoomId) -> TimerRow {
        let Self { deadline, duration, nonce, .. } = *self;
        TimerRow { deadline, duration, kind, owner, room, nonce, renewals: 0 }
    }
}

/// A timer that fires.
#[derive(Clone, Debug)]
pub struct Finish {
    /// Its id.
    pub timer: TimerId,
    /// The row that the decision to fire was made on. If it has changed since, nothing is written
    /// and the commit is a conflict: a refresh came in between.
    pub row: TimerRow,
    /// How it ends.
    pub outcome: Outcome,
    /// When that was decided.
    pub at: Timestamp,
    /// The handle of a delayed event, which its sender sees in the event it became.
    pub delay_id: Option<String>,
}

/// How a timer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// An event expired: its deadline passed.
    Expired,
    /// An event was ended by a request with its refresh token.
    Ended,
    /// A newer state event took the place of the one that would end, or that was to be sent.
    Superseded,
    /// The event was redacted.
    Redacted,
    /// A delayed event was sent, when it was due or by hand.
    Sent,
    /// A delayed event was cancelled.
    Cancelled,
    /// A delayed event was refused when it was due.
    Failed,
}

impl Outcome {
    /// Its name in metrics and logs; of the first two also in the terminal event.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Ended => "ended",
            Self::Superseded => "superseded",
            Self::Redacted => "redacted",
            Self::Sent => "sent",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
        }
    }
}

/// What a commit did to a timer.
#[derive(Clone, Debug)]
pub enum TimerChange {
    /// It runs.
    Armed(TimerId, TimerRow),
    /// It was removed.
    Stopped(TimerId, TimerRow, Outcome),
}
