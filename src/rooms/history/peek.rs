//! A room as a preview shows it: its state and its last messages, then what happens next.
//!
//! <https://spec.matrix.org/v1.18/client-server-api/#room-previews>

use std::sync::Arc;

use ruma::{
    OwnedRoomId, RoomId,
    events::{StateEventType, room::member::MembershipState},
};
use serde_json::value::RawValue;
use wick_account::{
    Session,
    account_data::{self, Changed},
};
use wick_core::{Result, StateRoot};
use wick_room::{Direction, membership, render::Show};

use super::{EventFilter, History, Messages, page::Span, token::from_token, token::to_token};

/// Messages in the first answer, and in each one after it.
const FIRST: usize = 20;
const NEXT: usize = 100;

/// A room as it is when a preview begins.
pub struct RoomPreview {
    /// The membership of the session's user, if they ever had one.
    pub membership: Option<MembershipState>,
    /// The last messages in the order of the timeline; `end` is where the next ones begin.
    pub messages: Messages,
    /// The state that the user may know.
    pub state: Vec<Box<RawValue>>,
    /// The user's account data for the room.
    pub account_data: Vec<Changed>,
}

impl History {
    /// A room with its last messages. Runs on the worker threads, since it renders the whole state.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if the session's user may not read the room; `M_LIMIT_EXCEEDED` if too many requests of
    /// theirs wait for worker threads.
    pub async fn preview(
        &self,
        session: Arc<Session>,
        room_id: OwnedRoomId,
    ) -> Result<RoomPreview> {
        let (history, user) = (self.clone(), session.user_id.clone());
        self.resources.workers.run(&user, move || history.preview_now(&session, &room_id)).await
    }

    fn preview_now(&self, session: &Session, room_id: &RoomId) -> Result<RoomPreview> {
        let read = self.resources.database.published();
        let mut reader = self.reader(&read, session, room_id)?;
        let now = i64::try_from(read.position().0).unwrap_or(i64::MAX);
        let filter = EventFilter::default();
        let direction = Direction::Backward;
        let (limit, skips_gaps) = (FIRST, false);
        let span = Span { from: now, to: None, direction, limit, filter: &filter, skips_gaps };
        let page = reader.page(&span)?;
        let root = reader.viewer.latest_state()?.unwrap_or(StateRoot::EMPTY);
        let state = self.graph.states().collect(&read, root)?;
        let own = self.graph.state_event(
            &read,
            reader.room,
            &StateEventType::RoomMember,
            session.user_id.as_str(),
        )?;
        let own = own.as_deref().map(membership::content).transpose()?;
        Ok(RoomPreview {
            membership: own.map(|content| content.membership),
            messages: Messages {
                start: to_token(page.next.unwrap_or(i64::MIN)),
                end: Some(to_token(now)),
                chunk: page.events.into_iter().rev().map(|event| event.json).collect(),
                state: Vec::new(),
                gap: page.gap,
            },
            state: state
                .into_iter()
                .map(|(_, event)| reader.viewer.show(event, Show::CLIENT))
                .collect::<Result<_>>()?,
            account_data: account_data::all(&read, session.user, Some(reader.room))?,
        })
    }

    /// What happened in a room after `from`, by default from now on. There is always an `end` to continue from.
    ///
    /// # Errors
    /// As [`History::messages`].
    pub fn news(
        &self,
        session: &Session,
        room_id: &RoomId,
        from: Option<&str>,
    ) -> Result<Messages> {
        let read = self.resources.database.published();
        let mut reader = self.reader(&read, session, room_id)?;
        let now = i64::try_from(read.position().0).unwrap_or(i64::MAX);
        let from = from.map(from_token).transpose()?.unwrap_or(now);
        let filter = EventFilter::default();
        let direction = Direction::Forward;
        let (limit, skips_gaps) = (NEXT, true);
        let page =
            reader.page(&Span { from, to: None, direction, limit, filter: &filter, skips_gaps })?;
        Ok(Messages {
            start: to_token(from),
            end: Some(to_token(page.next.unwrap_or(now.max(from)))),
            chunk: page.events.into_iter().map(|event| event.json).collect(),
            state: Vec::new(),
            gap: None,
        })
    }
}
