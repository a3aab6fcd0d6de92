//! Participants of calls: the holders of tokens for LiveKit, with their delegated timers.
//!
//! Invariant: each row of one table has its row in the other.

use serde::{Deserialize, Serialize};
use wick_core::{ShortRoomId, ShortUserId, TimerId, Timestamp};

use crate::postcard_value;

/// The holder of a token for LiveKit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParticipantRow {
    /// The room of the call.
    pub room: ShortRoomId,
    /// The user.
    pub user: ShortUserId,
    /// When the last token was issued or the last timer delegated.
    pub issued: Timestamp,
    /// The timers to end when the participant is gone: at most one of each feature.
    pub delegated: Vec<DelegatedTimer>,
}
postcard_value!(ParticipantRow, version = 1);

/// The timer of a delayed event, or of an event that expires, whose handle the client has delegated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DelegatedTimer {
    /// Its timer.
    pub timer: TimerId,
    /// The timer's nonce, from which its handle is made.
    pub nonce: u64,
    /// It is that of an event that expires.
    pub expires: bool,
}

tables! {
    /// By LiveKit room and identity: the participant. Written when a token is issued, read by web hooks. Deleted after
    /// seven days without a new token or a delegated timer (`wick_calls`). Scanned once, at start.
    PARTICIPANT_BY_IDENTITY: (String, String) => ParticipantRow, Random;
    /// By room, user, LiveKit room and identity: when the last token was issued. Read when a membership ends.
    ISSUED_BY_PARTICIPANT: (ShortRoomId, ShortUserId, String, String) => Timestamp, Random;
}
