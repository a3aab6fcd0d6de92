//! What is still to be sent to push gateways.
//!
//! Invariant: a pusher has a row of progress exactly as long as it is there.

use serde::{Deserialize, Serialize};
use wick_core::{Position, ShortEventId, ShortRoomId, ShortUserId, Timestamp};

use crate::postcard_value;

/// How far the notifications of a pusher have come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PusherProgress {
    /// The position of the last notification that was sent or dropped.
    pub upto: Position,
    /// The unread count that the gateway was sent last; `None` if it was sent none yet.
    pub badge: Option<u64>,
    /// When the pusher was set first.
    pub set_at: Timestamp,
}

/// Something that the pushers of a user are to send.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingPush {
    /// When it became due.
    pub at: Timestamp,
    /// What it is.
    pub what: Pushed,
}

/// What a push is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pushed {
    /// An event that notifies the user.
    Event {
        /// The room.
        room: ShortRoomId,
        /// The event.
        event: ShortEventId,
        /// The actions of the push rule that applies, as JSON text.
        actions: String,
    },
    /// The unread count of the user may have changed: by reading, leaving or a redaction.
    Count,
    /// An invite to a room that is not here.
    RemoteInvite {
        /// The room.
        room: ShortRoomId,
        /// The actions of the push rule that applies, as JSON text.
        actions: String,
    },
}

postcard_value!(PusherProgress, version = 1);
postcard_value!(PendingPush, version = 1);

tables! {
    /// How far each pusher has come, by user, app id and push key. Written with
    /// [`PUSHER_BY_ID`](super::account_data::PUSHER_BY_ID) and when something was sent; read by `push`; where
    /// it is missing, the pusher has sent nothing yet.
    PROGRESS_BY_PUSHER: (ShortUserId, String, String) => PusherProgress, Random;

    /// What the pushers of a user are to send, in stream order. Written by the follower of `push`, deleted once all of the
    /// user's pushers have passed it or are gone; rebuilt from nothing else.
    PENDING_PUSH_BY_POSITION: (ShortUserId, Position) => PendingPush, Sequential;
}
