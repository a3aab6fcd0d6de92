//! Read receipts, typing notifications, presence.
//!
//! Invariant: of each receipt and each user's presence, the index of changes has exactly one row.

use ruma::{OwnedEventId, OwnedUserId};
use serde::{Deserialize, Serialize};
use wick_core::{Position, ShortRoomId, ShortUserId, Timestamp};

use crate::postcard_value;

/// How far a user has read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptRow {
    /// When it was last moved.
    pub position: Position,
    /// The newest event that was read.
    pub event_id: OwnedEventId,
    /// Its place in the timeline.
    pub place: i64,
    /// When it was read.
    pub at: Timestamp,
}

/// Which receipt of a room moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptName {
    /// The user of the receipt.
    pub user: ShortUserId,
    /// A [`ReceiptKind`] as a number.
    pub kind: u8,
    /// The thread; empty for all, `main` for what is in none.
    pub thread: String,
}

/// Whether a receipt is sent to other users.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum ReceiptKind {
    /// `m.read`: to all members of the room.
    Public = 0,
    /// `m.read.private`: to the user's own devices.
    Private = 1,
}

/// The users who are typing in a room.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TypingRow {
    /// When that last changed.
    pub position: Position,
    /// The users.
    pub users: Vec<OwnedUserId>,
}

/// The presence of a user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PresenceRow {
    /// When it last changed.
    pub position: Position,
    /// The state.
    pub state: PresenceKind,
    /// The status message.
    pub status_msg: Option<String>,
    /// When the user was last active, as far as it is known.
    pub last_active: Timestamp,
}

/// The presence states of the specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PresenceKind {
    /// `online`
    Online,
    /// `unavailable`: connected and idle
    Unavailable,
    /// `offline`
    Offline,
}

postcard_value!(ReceiptRow, version = 1);
postcard_value!(ReceiptName, version = 1);
postcard_value!(TypingRow, version = 1);
postcard_value!(PresenceRow, version = 1);

tables! {
    /// Receipts by room, user, [`ReceiptKind`] and thread. Written by `POST /receipt` and
    /// `POST /read_markers`; read by sync and by notification counts; rebuilt from nothing else.
    RECEIPT_BY_USER: (ShortRoomId, ShortUserId, u8, String) => ReceiptRow, Random;

    /// The newest move of each receipt of a room, in stream order. Written with [`RECEIPT_BY_USER`],
    /// from which it can be rebuilt; read by sync; wakes the room's readers.
    RECEIPT_CHANGE_BY_POSITION: (ShortRoomId, Position) => ReceiptName, Sequential, wakes_room;

    /// The users who are typing, by room. Written by `PUT /typing` and when its time is over; emptied at start;
    /// read by sync; wakes the room's readers.
    TYPING_BY_ROOM: ShortRoomId => TypingRow, Random, wakes_room;

    /// Presence by user. Written by requests and when their time is over; read by sync and
    /// `GET /presence`; rebuilt from nothing else.
    PRESENCE_BY_USER: ShortUserId => PresenceRow, Random;

    /// The newest change of each user's presence, in stream order. Written with
    /// [`PRESENCE_BY_USER`], from which it can be rebuilt; read by sync.
    PRESENCE_CHANGE_BY_POSITION: Position => ShortUserId, Sequential;
}
