//! The tables of the event graph. All are written by `room::commit` alone.
//!
//! Invariant: a row that holds a [`Position`] is written with the batch that was given that position.

use ruma::{OwnedEventId, OwnedRoomId, OwnedServerName, OwnedUserId};
use serde::{Deserialize, Serialize};
use wick_core::{
    Position, ShortEventId, ShortRoomId, ShortStateKey, ShortUserId, StateRoot, Timestamp,
};


/// What a new event of a room is built on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The room's version, as in its create event.
    pub version: String,
    /// The create event.
    pub create: ShortEventId,
    /// Events without a successor that the next event refers to.
    pub extremities: Vec<ShortEventId>,
    /// The greatest depth among the extremities.
    pub depth: u64,
    /// The current state.
    pub state: StateRoot,
    /// How many members have each membership.
    pub counts: MemberCounts,
}
crate::postcard_value!(Head, version = 1);

/// How many users have each membership in a room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberCounts {
    /// Joined members.
    pub joined: u64,
    /// Invited members.
    pub invited: u64,
    /// Members who knock.
    pub knocked: u64,
    /// Members who left or were kicked.
    pub left: u64,
    /// Banned members.
    pub banned: u64,
}

/// An event as it was signed, or its redacted form once it is redacted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredEvent {
    /// The event's id.
    pub event_id: OwnedEventId,
    /// The room's id, which the JSON of a create event may not have.
    pub room_id: OwnedRoomId,
    /// The auth rules rejected it on receipt.
    pub rejected: bool,
    /// The JSON.
    pub json: String,
}
crate::postcard_value!(StoredEvent, version = 1);

/// Where an event stands in its room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The room.
    pub room: ShortRoomId,
    /// Its place in the timeline; `None` for an event that is known but not part of it (rejected, soft-failed, outlier).
    pub position: Option<i64>,
    /// The state before it.
    pub before: StateRoot,
    /// The state after it; the same as before for a message event.
    pub after: StateRoot,
    /// Refused by the current state when it came, so never shown and never built on.
    pub soft_failed: bool,
    /// The request that sent it, for the sender's own `unsigned.transaction_id`.
    pub transaction: Option<TransactionEcho>,
}
crate::postcard_value!(Place, version = 1);

impl Place {
    /// The place of an event that is known without the state around it: an auth event, or an event of a state that
    /// another server had.
    #[must_use]
    pub fn outlier(room: ShortRoomId) -> Self {
        let (before, after) = (StateRoot::EMPTY, StateRoot::EMPTY);
        Self { room, position: None, before, after, soft_failed: false, transaction: None }
    }

    /// Whether the state around the event is not known.
    #[must_use]
    pub fn is_outlier(&self) -> bool {
        self.position.is_none()
            && self.before == StateRoot::EMPTY
            && self.after == StateRoot::EMPTY
    }
}

/// The device that used a transaction id, and to which alone it is returned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionEcho {
    /// The sending device.
    pub device_id: String,
    /// The transaction id.
    pub transaction_id: String,
}

/// What a request that may come again was answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionAnswer {
    /// The event it sent.
    pub event: OwnedEventId,
    /// The timer it armed with the nonce its token is derived from.
    pub timer: Option<(wick_core::TimerId, u64)>,
}
crate::postcard_value!(TransactionAnswer, version = 1);

/// A request that was answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnsweredTransaction {
    /// When.
    pub at: Timestamp,
    /// Its key in [`ANSWER_BY_TRANSACTION`].
    pub key: (ShortUserId, String, String),
}
crate::postcard_value!(AnsweredTransaction, version = 1);

/// A membership with the event that made it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberRow {
    /// The membership.
    pub membership: Membership,
    /// The member event. The former one where state resolution left a user of this server none, who has left then.
    pub event: ShortEventId,
    /// When the membership became current.
    pub position: Position,
    /// The user has forgotten the room since.
    pub forgotten: bool,
}
crate::postcard_value!(MemberRow, version = 1);

/// A membership as part of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum Membership {
    /// `join`
    Join = 0,
    /// `invite`
    Invite = 1,
    /// `knock`
    Knock = 2,
    /// `leave`, by oneself or by a kick
    Leave = 3,
    /// `ban`
    Ban = 4,
}

/// An event with a relation to another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelationRow {
    /// The event that relates.
    pub child: ShortEventId,
    /// Its type.
    pub event_type: String,
    /// Its sender.
    pub sender: OwnedUserId,
    /// `key` of an annotation.
    pub key: Option<String>,
}
crate::postcard_value!(RelationRow, version = 1);

/// What is known of a thread.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadRow {
    /// The place of its newest event in the timeline.
    pub latest_position: i64,
    /// Its newest event.
    pub latest: ShortEventId,
    /// How many events it has beside its root.
    pub count: u64,
}
crate::postcard_value!(ThreadRow, version = 1);

/// Places of a timeline that were left free because events are missing there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimelineGap {
    /// The last place below all of them. At the beginning of the timeline, and in a gap without free places, it is the one
    /// before the event after the gap.
    pub floor: i64,
    /// The lowest place that was given to an event since; at first that of the event after the gap.
    pub lowest: i64,
}
crate::postcard_value!(TimelineGap, version = 1);

tables! {
    /// By interned room: what the next event is built on. Rebuilt from: the events.
    HEAD_BY_ROOM: ShortRoomId => Head, Random;
    /// By interned event: the event. Read everywhere; the source of all else.
    STORED_BY_EVENT: ShortEventId => StoredEvent, Sequential;
    /// By interned event: its place. Rebuilt from: the events.
    PLACE_BY_EVENT: ShortEventId => Place, Sequential;
    /// By room and place in the timeline: the event. Read by sync and `/messages`; wakes the room's readers.
    EVENT_BY_POSITION: (ShortRoomId, i64) => ShortEventId, Sequential, wakes_room;
    /// By room and state key: the current state. Rebuilt from: the tree at [`Head::state`].
    EVENT_BY_STATE: (ShortRoomId, ShortStateKey) => ShortEventId, Random;
    /// By room and state key: the current state without the members. Read by syncs that load
    /// members lazily. Rebuilt from: current state.
    EVENT_BY_SETTING: (ShortRoomId, ShortStateKey) => ShortEventId, Random;
    /// By room and the position of a change: the state after it. Kept with the events. Read by sync for the
    /// state at a token.
    ROOT_BY_POSITION: (ShortRoomId, i64) => StateRoot, Sequential;
    /// By room, membership and user: the member event. Rebuilt from: current state.
    MEMBER_BY_ROOM: (ShortRoomId, u8, ShortUserId) => ShortEventId, Random;
    /// By user and room: the membership. Read by sync and every permission check; wakes the user,
    /// and evicts their cached joined rooms.
    MEMBER_BY_USER: (ShortUserId, ShortRoomId) => MemberRow, Random, wakes_member;
    /// By room and server: how many users of the server are joined; no row if none is. Read when events are sent to other
    /// servers, and to tell whether a server is in the room. Rebuilt from: current state.
    JOINED_BY_SERVER: (ShortRoomId, OwnedServerName) => u64, Random;
    /// By server and room: the rooms that a server is in. Written and deleted with [`JOINED_BY_SERVER`], from which it can
    /// be rebuilt; read when a server was out of reach for long.
    ROOM_BY_SERVER: (OwnedServerName, ShortRoomId) => (), Random;
    /// By parent, `rel_type` and the child's place: the relation. Read by `/relations` and aggregation.
    RELATION_BY_PARENT: (ShortEventId, String, i64) => RelationRow, Sequential;
    /// By parent, sender, `rel_type` and the child's place: the same relation. Written and deleted with
    /// [`RELATION_BY_PARENT`], from which it can be rebuilt; read for edits, participation in a thread and
    /// repeated annotations, which are about one sender's children alone.
    RELATION_BY_SENDER: (ShortEventId, ShortUserId, String, i64) => RelationRow, Sequential;
    /// By room and root: the thread. Read by `/threads` and aggregation.
    THREAD_BY_ROOT: (ShortRoomId, ShortEventId) => ThreadRow, Random;
    /// By room and the place of the newest event: the thread's root. Read by `/threads`.
    THREAD_BY_ACTIVITY: (ShortRoomId, i64) => ShortEventId, Random;
    /// By redacted event: the redaction that took effect.
    REDACTION_BY_EVENT: ShortEventId => ShortEventId, Random;
    /// By an event that is not here yet and a redaction of it. When the event comes, the first of its redactions
    /// takes effect that its sender was allowed to send. Deleted then; rebuilt from the redactions.
    REDACTION_OF_MISSING: (ShortEventId, ShortEventId) => (), Random;
    /// By room and an event that an event of the timeline refers to in `prev_events`, and that is not here
    /// with its place: the place of the first event that referred to it, from which on backwards the history is incomplete.
    /// Written with the event that refers to it, deleted when the missing one comes; rebuilt from the events.
    CHILD_BY_MISSING: (ShortRoomId, OwnedEventId) => i64, Random;
    /// By room, place of the event that refers to it, and missing event: the same. Written and deleted with
    /// [`CHILD_BY_MISSING`], from which it can be rebuilt; read to find what is missing in one part of the timeline.
    MISSING_BY_CHILD: (ShortRoomId, i64, OwnedEventId) => (), Sequential;
    /// By room and the place of an event whose prev events were not all here when it came: the places before it.
    /// Read by `/sync`, by `/messages` and when missing events come. Rebuilt from nothing else.
    GAP_BY_PLACE: (ShortRoomId, i64) => TimelineGap, Sequential, wakes_table;
    /// By room: the place below zero that was last given to an event of the history. Events that fill a gap lower it,
    /// too, so that all batches of history conflict with each other. Rebuilt from the timeline.
    HISTORY_BY_ROOM: ShortRoomId => i64, Random;
    /// By user, device and request path with its transaction id: the answer given. Read when a request is
    /// repeated. Deleted two weeks after it was written (`wick_rooms`).
    ANSWER_BY_TRANSACTION: (ShortUserId, String, String) => TransactionAnswer, Random;
    /// By the position of the event: the request that sent it. Written and deleted with
    /// [`ANSWER_BY_TRANSACTION`], whose oldest rows are found by it.
    TRANSACTION_BY_POSITION: Position => AnsweredTransaction, Sequential;
}
