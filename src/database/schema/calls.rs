//! Participants of calls: the holders of tokens for LiveKit, with their delegated timers, and those that are to be out
//! of LiveKit.
//!
//! Invariant: each row of [`ISSUED_BY_PARTICIPANT`] has its row of [`PARTICIPANT_BY_IDENTITY`], and the reverse, unless it is
//! that of a former member whose tokens work no more.

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
    /// Timers that newer ones replaced, which are to end at once.
    pub replaced: Vec<DelegatedTimer>,
    /// Since LiveKit does not list the participant; `None` while it does.
    pub absence: Option<Absence>,
}
postcard_value!(ParticipantRow, version = 2, older = [1 => FirstParticipantRow]);

impl ParticipantRow {
    /// Whether a timer is delegated or still to be ended.
    #[must_use]
    pub fn has_timers(&self) -> bool {
        !self.delegated.is_empty() || !self.replaced.is_empty()
    }
}

/// A participant as it was stored first.
#[derive(Deserialize)]
struct FirstParticipantRow {
    room: ShortRoomId,
    user: ShortUserId,
    issued: Timestamp,
    delegated: Vec<DelegatedTimer>,
}

impl From<FirstParticipantRow> for ParticipantRow {
    fn from(first: FirstParticipantRow) -> Self {
        let FirstParticipantRow { room, user, issued, delegated } = first;
        Self { room, user, issued, delegated, replaced: Vec::new(), absence: None }
    }
}

/// The time that a participant with a delegated timer has to connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Absence {
    /// When it counts as gone, by the wall clock.
    pub until: Timestamp,
    /// How often an outage of LiveKit has moved that time.
    pub outages: u32,
    /// It has not connected since its timer was delegated.
    pub is_awaited: bool,
}

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
    /// seven days without a new token, a delegated timer or a connection (`wick_calls`). Scanned at start and every hour.
    PARTICIPANT_BY_IDENTITY: (String, String) => ParticipantRow, Random;
    /// By room, user, LiveKit room and identity: when the last token was issued. Scanned where an event changes the state of the
    /// room, for those whose membership has ended. Deleted with the participant, and when a removal is over (`wick_calls`).
    ISSUED_BY_PARTICIPANT: (ShortRoomId, ShortUserId, String, String) => Timestamp, Random;
    /// By LiveKit room and identity: when the participant, whose user's membership ended or has newer identities, was to be
    /// removed from LiveKit, or was seen there after that. Deleted by a new token, and when no older one works any more
    /// (`wick_calls`).
    REMOVAL_BY_PARTICIPANT: (String, String) => Timestamp, Small;
}
