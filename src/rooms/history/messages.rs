//! `/messages`: a room's timeline in pages.
//!
//! <https://spec.matrix.org/v1.18/client-server-api/#get_matrixclientv3roomsroomidmessages>

use ruma::{OwnedRoomId, RoomId, api::client::filter::LazyLoadOptions};
use serde_json::value::RawValue;
use wick_account::Session;
use wick_core::{Result, StateRoot};
use wick_room::Direction;

use super::{
    EventFilter, History, MAX_LIMIT,
    page::Span,
    token::{from_token, to_token},
};

/// Which part of a timeline.
pub struct AskMessages {
    /// The room's.
    pub room_id: OwnedRoomId,
    /// Where to begin; by default at the end that the direction starts from.
    pub from: Option<String>,
    /// Where to end.
    pub to: Option<String>,
    /// Which way.
    pub direction: Direction,
    /// How many events at most.
    pub limit: usize,
    /// Which ones.
    pub filter: EventFilter,
    /// Whether to read on behind a gap in which events are missing.
    pub skips_gaps: bool,
}

/// A part of a timeline.
pub struct Messages {
    /// Where it begins.
    pub start: String,
    /// Where the next part begins; `None` if there is none.
    pub end: Option<String>,
    /// The events.
    pub chunk: Vec<Box<RawValue>>,
    /// The member events of their senders, if those were asked for.
    pub state: Vec<Box<RawValue>>,
    /// The place of the event after the gap at which it ends early.
    pub gap: Option<i64>,
}

impl History {
    /// Whether the session's user may read anything of the room.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if not.
    pub fn ensure_readable(&self, session: &Session, room_id: &RoomId) -> Result<()> {
        let read = self.resources.database.published();
        self.reader(&read, session, room_id).map(drop)
    }

    /// A part of a room's timeline.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if the session's user may not read the room, `M_INVALID_PARAM` if a token is none.
    pub fn messages(&self, session: &Session, ask: &AskMessages) -> Result<Messages> {
        let read = self.resources.database.published();
        let mut reader = self.reader(&read, session, &ask.room_id)?.formatted(&ask.filter);
        let from = match (&ask.from, ask.direction) {
            (Some(token), _) => from_token(token)?,
            (None, Direction::Backward) => i64::try_from(read.position().0).unwrap_or(i64::MAX),
            (None, Direction::Forward) => i64::MIN,
        };
        let span = Span {
            from,
            to: ask.to.as_deref().map(from_token).transpose()?,
            direction: ask.direction,
            limit: ask.limit.min(MAX_LIMIT),
            filter: &ask.filter,
            skips_gaps: ask.skips_gaps,
        };
        let page = reader.page(&span)?;
        // The newest event's state knows all senders that are still there.
        let newest = page.events.iter().map(|event| event.place).max();
        let state = match (&ask.filter.events.lazy_load_options, newest) {
            (LazyLoadOptions::Enabled { .. }, Some(newest)) => {
                let root = reader.viewer.state_at(newest)?.unwrap_or(StateRoot::EMPTY);
                reader.members_of(page.events.iter().map(|event| &*event.sender), root)?
            }
            _ => Vec::new(),
        };
        Ok(Messages {
            start: ask.from.clone().unwrap_or_else(|| to_token(from)),
            end: page.next.map(to_token),
            gap: page.gap,
            chunk: page.events.into_iter().map(|event| event.json).collect(),
            state,
        })
    }
}
