//! `/context`: what stood around an event.
//!
//! <https://spec.matrix.org/v1.18/client-server-api/#get_matrixclientv3roomsroomidcontexteventid>

use std::collections::HashSet;

use ruma::{
    OwnedEventId, OwnedRoomId, api::client::filter::LazyLoadOptions, events::StateEventType,
};
use serde_json::value::RawValue;
use wick_core::{Result, StateRoot};
use wick_database::{Read, schema::room::REDACTION_BY_EVENT};
use wick_room::{Direction, TimelineItem, render::Show};

use super::{
    EventFilter, History, MAX_LIMIT, Reader,
    page::{Page, Shown, Span},
    token::to_token,
    unseen,
};
use crate::{Session, account_data::ignored_users};

/// Around what to look.
pub struct AskContext {
    /// The room.
    pub room_id: OwnedRoomId,
    /// The event in the middle.
    pub event_id: OwnedEventId,
    /// How many events before it at most.
    pub before: usize,
    /// How many after it.
    pub after: usize,
    /// Which ones.
    pub filter: EventFilter,
    /// Whether to show the state, too.
    pub state: bool,
}

/// An event with what stood around it.
pub struct Context {
    /// The event.
    pub event: Box<RawValue>,
    /// What came before, the newest first.
    pub before: Vec<Box<RawValue>>,
    /// What came after.
    pub after: Vec<Box<RawValue>>,
    /// The state at the last of them.
    pub state: Vec<Box<RawValue>>,
    /// Where to read on backwards.
    pub start: String,
    /// Where to read on forwards.
    pub end: String,
}

impl History {
    /// An event with its neighbours and the state at the last of them.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if the session's user may not read the room, `M_NOT_FOUND` if the event is not
    /// there or they may not see it.
    pub fn context(&self, session: &Session, ask: &AskContext) -> Result<Context> {
        let read = self.resources.database.published();
        let mut reader = self.reader(&read, session, &ask.room_id)?;
        let event = self.graph.intern().lookup_event(&read, &ask.event_id)?.ok_or_else(unseen)?;
        let pdu = self.graph.event(&read, event)?.ok_or_else(unseen)?;
        let place = self.graph.place(&read, event)?.and_then(|place| place.position);
        let item = TimelineItem { place: place.ok_or_else(unseen)?, event };
        let middle = reader.shown(item, &pdu)?.ok_or_else(unseen)?;

        let ignored = ignored_users(&read, session.user)?;
        let mut span = Span {
            from: item.place.saturating_sub(1),
            to: None,
            direction: Direction::Backward,
            limit: ask.before.min(MAX_LIMIT),
            filter: &ask.filter,
            ignored: &ignored,
        };
        let before = reader.page(&span)?;
        (span.direction, span.from) = (Direction::Forward, item.place);
        span.limit = ask.after.min(MAX_LIMIT);
        let after = reader.page(&span)?;

        let root = after.events.last().map_or(middle.after, |last| last.after);
        let state = if ask.state {
            reader.state_around(&ask.filter, root, &middle, [&before, &after])?
        } else {
            Vec::new()
        };
        let start = before.next.or_else(|| before.events.last().map(|event| event.place - 1));
        Ok(Context {
            start: to_token(start.unwrap_or(item.place - 1)),
            end: to_token(after.events.last().map_or(item.place, |event| event.place)),
            event: middle.json,
            before: before.events.into_iter().map(|event| event.json).collect(),
            after: after.events.into_iter().map(|event| event.json).collect(),
            state,
        })
    }
}

impl Reader<'_> {
    fn state_around(
        &mut self,
        filter: &EventFilter,
        root: StateRoot,
        middle: &Shown,
        pages: [&Page; 2],
    ) -> Result<Vec<Box<RawValue>>> {
        let lazy = matches!(filter.events.lazy_load_options, LazyLoadOptions::Enabled { .. });
        let around = pages.into_iter().flat_map(|page| &page.events).chain([middle]);
        let senders: HashSet<_> = around.map(|event| &*event.sender).collect();
        let mut state = if lazy { self.members_of(senders.into_iter(), root)? } else { Vec::new() };
        for (key, event) in self.graph.states().collect(self.read, root)? {
            if lazy {
                // Without its name, a key says nothing about whose it is.
                let tuple = self.graph.intern().state_key_tuple(self.read, key)?;
                if matches!(tuple, Some((StateEventType::RoomMember, _))) {
                    continue;
                }
            }
            let pdu = self.graph.load_event(self.read, event)?;
            let redacted = self.read.contains(&REDACTION_BY_EVENT, &event)?;
            if filter.allows(&pdu, redacted) {
                state.push(self.viewer.show(event, Show::CLIENT)?);
            }
        }
        Ok(state)
    }
}
