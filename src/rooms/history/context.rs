//! `/context`: the context of an event.
//!
//! <https://spec.matrix.org/v1.18/client-server-api/#get_matrixclientv3roomsroomidcontexteventid>

use ruma::{
    OwnedEventId, OwnedRoomId, api::client::filter::LazyLoadOptions, events::StateEventType,
};
use serde_json::value::RawValue;
use wick_account::Session;
use wick_core::{Result, ShortEventId};
use wick_database::{Read, schema::room::REDACTION_BY_EVENT};
use wick_room::{Direction, TimelineItem, render::Show};

use super::{
    EventFilter, History, MAX_LIMIT, Reader,
    page::{Page, Shown, Span},
    room_id,
    token::to_token,
    unseen,
};

/// The event and how much context.
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
}

/// An event with its context.
pub struct Context {
    /// The event.
    pub event: Box<RawValue>,
    /// What came before, the newest first.
    pub before: Vec<Box<RawValue>>,
    /// What came after.
    pub after: Vec<Box<RawValue>>,
    /// The state at the last of them, or the nearest that the user may know.
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
        let mut reader = self.reader(&read, session, &ask.room_id)?.formatted(&ask.filter);
        let event = self.graph.intern().lookup_event(&read, &ask.event_id)?.ok_or_else(unseen)?;
        let limits = (ask.before, ask.after);
        let around = reader.around(event, limits, &ask.filter)?.ok_or_else(unseen)?;
        let state = reader.state_around(&ask.filter, &around)?;
        Ok(Context {
            start: to_token(around.start()),
            end: to_token(around.end()),
            event: around.middle.json,
            before: around.before.events.into_iter().map(|event| event.json).collect(),
            after: around.after.events.into_iter().map(|event| event.json).collect(),
            state,
        })
    }
}

/// An event with its neighbours.
pub(crate) struct Around {
    pub(crate) middle: Shown,
    pub(crate) before: Page,
    pub(crate) after: Page,
}

impl Around {
    /// The place from which to read on backwards.
    pub(crate) fn start(&self) -> i64 {
        let oldest = self.before.events.last().unwrap_or(&self.middle);
        self.before.next.unwrap_or(oldest.place.saturating_sub(1))
    }

    /// The place from which to read on forwards.
    pub(crate) fn end(&self) -> i64 {
        self.newest().place
    }

    /// All of them.
    pub(crate) fn events(&self) -> impl Iterator<Item = &Shown> {
        self.before.events.iter().chain([&self.middle]).chain(&self.after.events)
    }

    /// The last one.
    pub(crate) fn newest(&self) -> &Shown {
        self.after.events.last().unwrap_or(&self.middle)
    }
}

impl Reader<'_> {
    /// An event with up to so many before and after it; `None` if it may not be seen.
    pub(crate) fn around(
        &mut self,
        event: ShortEventId,
        (before, after): (usize, usize),
        filter: &EventFilter,
    ) -> Result<Option<Around>> {
        let Some(pdu) = self.graph.event(self.read, event)? else { return Ok(None) };
        let place = self.graph.place(self.read, event)?.and_then(|place| place.position);
        let Some(place) = place else { return Ok(None) };
        let Some(middle) = self.shown(TimelineItem { place, event }, &pdu)? else {
            return Ok(None);
        };
        let mut span = Span {
            from: place.saturating_sub(1),
            to: None,
            direction: Direction::Backward,
            limit: before.min(MAX_LIMIT),
            filter,
            skips_gaps: false,
        };
        let before = self.page(&span)?;
        (span.direction, span.from, span.limit) = (Direction::Forward, place, after.min(MAX_LIMIT));
        let after = self.page(&span)?;
        Ok(Some(Around { middle, before, after }))
    }

    fn state_around(
        &mut self,
        filter: &EventFilter,
        around: &Around,
    ) -> Result<Vec<Box<RawValue>>> {
        if !filter.allows_room(&room_id(self.graph, self.read, self.room)?) {
            return Ok(Vec::new());
        }
        let Some(root) = self.viewer.state_at(around.newest().place)? else {
            return Ok(Vec::new());
        };
        let lazy = matches!(filter.events.lazy_load_options, LazyLoadOptions::Enabled { .. });
        let mut state = if lazy {
            self.members_of(around.events().map(|event| &*event.sender), root)?
        } else {
            Vec::new()
        };
        for (key, event) in self.graph.states().collect(self.read, root)? {
            if lazy {
                // Without its name, a key does not show which user it belongs to.
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
