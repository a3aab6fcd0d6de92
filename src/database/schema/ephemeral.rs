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
    /// When the list of users last changed.
    pub position: Position,
    /// The users, in the order of their ids.
    pub users: Vec<TypingUser>,
}

/// A user who is typing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TypingUser {
    /// The user.
    pub user_id: OwnedUserId,
    /// When the notification times out.
    pub until: Timestamp,
}

/// A [`TypingRow`] of the first version, which has no timeouts. Its users are taken for timed out.
#[derive(Deserialize)]
struct FirstTypingRow {
    position: Position,
    users: Vec<OwnedUserId>,
}

impl From<FirstTypingRow> for TypingRow {
    fn from(FirstTypingRow { position, users }: FirstTypingRow) -> Self {
        let timed_out = |user_id| TypingUser { user_id, until: Timestamp::default() };
        Self { position, users: users.into_iter().map(timed_out).collect() }
    }
}

/// The presence of a user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PresenceRow {
    /// When the state or the status message last changed.
    pub position: Position,
    /// The state that others see.
    pub state: PresenceKind,
    /// The status message.
    pub status_msg: Option<String>,
    /// The state that the user's clients asked for last. `Offline` was set by the user: activity does not
    /// change it.
    pub requested: PresenceKind,
    /// Until when the state holds if nothing is heard of the user any more; without meaning if it is `Offline`.
    pub until: Timestamp,
}

/// A [`PresenceRow`] of the first version. Its state is taken for over.
#[derive(Deserialize)]
struct FirstPresenceRow {
    position: Position,
    state: PresenceKind,
    status_msg: Option<String>,
    #[serde(rename = "last_active")]
    _last_active: Timestamp,
}

impl From<FirstPresenceRow> for PresenceRow {
    fn from(first: FirstPresenceRow) -> Self {
        let FirstPresenceRow { position, state, status_msg, .. } = first;
        let (requested, until) = (PresenceKind::Online, Timestamp::default());
        Self { position, state, status_msg, requested, until }
    }
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

/// The user and room of a receipt that moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MovedReceipt {
    /// The room.
    pub room: ShortRoomId,
    /// The user.
    pub user: ShortUserId,
}

postcard_value!(MovedReceipt, version = 1);
postcard_value!(ReceiptRow, version = 1);
postcard_value!(ReceiptName, version = 1);
postcard_value!(TypingRow, version = 2, older = [1 => FirstTypingRow]);
postcard_value!(PresenceRow, version = 2, older = [1 => FirstPresenceRow]);

tables! {
    /// Receipts by room, user, [`ReceiptKind`] and thread. Written by `POST /receipt` and
    /// `POST /read_markers`; read by sync and by notification counts; rebuilt from nothing else.
    RECEIPT_BY_USER: (ShortRoomId, ShortUserId, u8, String) => ReceiptRow, Random;

    /// The newest move of each receipt of a room, in stream order. Written with [`RECEIPT_BY_USER`],
    /// from which it can be rebuilt; read by sync; wakes the room's readers.
    RECEIPT_CHANGE_BY_POSITION: (ShortRoomId, Position) => ReceiptName, Sequential, wakes_room;

    /// The newest move of each receipt, whatever room it is in, in stream order. In a database that is older than
    /// this table, receipts from before are not in it. Written with [`RECEIPT_BY_USER`], from which it can be rebuilt;
    /// read by followers.
    RECEIPT_BY_STREAM: Position => MovedReceipt, Sequential;

    /// The users who are typing, by room. Written by `PUT /typing`, by the end of a membership and by timeouts;
    /// read by sync and, for the timeouts, at start; rebuilt from nothing else. A row wakes no
    /// reader by itself: a timeout that is put off is not shown.
    TYPING_BY_ROOM: ShortRoomId => TypingRow, Random;

    /// Presence by user. Written by requests and when the state ends by itself; read by sync,
    /// `GET /presence` and at start; rebuilt from nothing else.
    PRESENCE_BY_USER: ShortUserId => PresenceRow, Random;

    /// When a user was last active, by user. Written with every event of a local user and by changes of presence;
    /// read with [`PRESENCE_BY_USER`]; rebuilt from nothing else.
    ACTIVITY_BY_USER: ShortUserId => Timestamp, Random;

    /// The newest change of each user's presence, in stream order. Written with
    /// [`PRESENCE_BY_USER`], from which it can be rebuilt; read by sync.
    PRESENCE_CHANGE_BY_POSITION: Position => ShortUserId, Sequential, wakes_table;
}
