//! One room that the user is or was in.

use std::{collections::BTreeMap, sync::Arc};

use ruma::{OwnedUserId, api::client::filter::EventFormat};
use wick_account::filters;
use wick_core::Result;
use wick_room::{
    render::{Format, Show},
    visibility::Viewer,
};

use super::{
    response::{RoomUpdate, Timeline},
    response_builder::ResponseBuilder,
};
use crate::{
    Members, Scope, account_data,
    events::{Events, Json},
    receipts,
    state::{self, state},
    sticky::{Sticky, sticky},
    summary::{self, Summary, summary},
    timeline::{self, Piece, timeline},
    token::to_token,
    typing::typing,
    unread::unread,
};

/// The ephemeral events of a room.
#[derive(Default)]
struct Ephemeral {
    events: Vec<Json>,
    /// The user's own receipts moved, and the counts with them.
    has_read: bool,
}

impl ResponseBuilder<'_> {
    /// What is new in a room; `None` if nothing is.
    pub(super) fn room_update(&mut self, scope: &Scope) -> Result<Option<RoomUpdate>> {
        let full = self.request.full_state;
        let account_data = self.room_account_data(scope)?;
        let ephemeral = self.ephemeral(scope)?;
        let quiet = account_data.is_empty() && ephemeral.events.is_empty() && !ephemeral.has_read;
        let mut viewer = self.context.viewer(scope.room)?.formatted(self.format());
        let filter = &self.request.filter.room.timeline;
        let wanted = timeline::Wanted { filter, limit: self.timeline_limit() };
        let piece = timeline(self.context, &mut viewer, scope, wanted)?;
        let moved = piece.moved;
        if !moved && quiet && !full {
            return Ok(None);
        }
        let summary = self.summary(scope, moved)?;
        let Sticky { events: sticky, senders } = if moved || full {
            sticky(self.context, &mut viewer, scope, &piece)?
        } else {
            Sticky::default()
        };
        let heroes = summary.as_ref().map(Summary::heroes).unwrap_or_default();
        let named: Vec<_> = heroes.iter().cloned().chain(senders).collect();
        let state = self.state(&mut viewer, scope, &piece, &named)?;
        let unchanged =
            piece.is_empty() && state.is_empty() && summary.is_none() && sticky.is_empty();
        // A client must learn that it lost the room, whatever its filters leave out.
        if quiet && scope.since.is_some() && unchanged && !scope.is_removed() {
            return Ok(None);
        }
        let mut update = RoomUpdate {
            summary,
            timeline: render(&mut viewer, &piece)?,
            state: None,
            state_after: None,
            state_after_unstable: None,
            account_data: account_data.into(),
            ephemeral: ephemeral.events.into(),
            sticky: sticky.into(),
            unread_notifications: None,
            unread_thread_notifications: BTreeMap::new(),
        };
        self.place_state(&mut update, state);
        if scope.joined {
            self.place_counts(&mut update, scope)?;
        }
        Ok(Some(update))
    }

    fn format(&self) -> Arc<Format> {
        let filter = &self.request.filter;
        let federation = filter.event_format == EventFormat::Federation;
        Arc::new(Format::new(filter.event_fields.as_deref(), federation))
    }

    fn room_account_data(&self, scope: &Scope) -> Result<Vec<Json>> {
        let filter = &self.request.filter.room.account_data;
        let wanted = |event_type: &str| filters::allows_room_type(filter, event_type);
        if scope.since.is_none() {
            return account_data::whole_room(self.context, scope.room, wanted);
        }
        let changed = self.account_data.get(&Some(scope.room));
        account_data::events(changed.map(Vec::as_slice).unwrap_or_default(), wanted)
    }

    fn ephemeral(&self, scope: &Scope) -> Result<Ephemeral> {
        let mut found = Ephemeral::default();
        if !scope.joined {
            return Ok(found);
        }
        let filter = &self.request.filter.room.ephemeral;
        let wants_room = filters::allows_events_of(filter, &self.context.room_id(scope.room)?);
        let wants = |event_type| wants_room && filters::allows_room_type(filter, event_type);
        if wants("m.typing") {
            found.events.extend(typing(self.context, scope)?);
        }
        let moved = receipts::moved(self.context, scope)?;
        found.has_read = moved.iter().any(|receipt| receipt.name.user == self.context.session.user);
        if wants("m.receipt") {
            found.events.extend(receipts::event(self.context, moved)?);
        }
        Ok(found)
    }

    fn timeline_limit(&self) -> usize {
        let config = &self.sync.resources.config.sync;
        let wanted = self.request.filter.room.timeline.limit;
        let limit = wanted.map_or(config.timeline_limit.into(), u64::from);
        usize::try_from(limit.min(config.max_timeline_limit.into())).unwrap_or(usize::MAX)
    }

    /// The summary if it can have changed.
    fn summary(&mut self, scope: &Scope, moved: bool) -> Result<Option<Summary>> {
        let full = self.request.full_state;
        if !scope.joined || !(moved || full) {
            return Ok(None);
        }
        let changed = summary::has_changed(self.context, scope, &mut self.roster)?;
        if changed || full { summary(self.context, scope).map(Some) } else { Ok(None) }
    }

    fn state(
        &self,
        viewer: &mut Viewer<'_>,
        scope: &Scope,
        piece: &Piece,
        named: &[OwnedUserId],
    ) -> Result<Vec<Json>> {
        let filter = &self.request.filter.room.state;
        let names = self.request.state;
        let wanted = state::Wanted {
            filter,
            after: names.after || names.after_unstable,
            full: self.request.full_state,
            members: Members::of(filter, &self.sync.lazy),
            named,
        };
        state(self.context, viewer, scope, piece, wanted)
    }

    fn place_counts(&self, update: &mut RoomUpdate, scope: &Scope) -> Result<()> {
        let unread = unread(self.context, &self.sync.counts, scope)?;
        if self.request.filter.room.timeline.unread_thread_notifications {
            update.unread_notifications = Some(unread.main);
            update.unread_thread_notifications = unread.threads;
        } else {
            update.unread_notifications = Some(unread.total());
        }
        Ok(())
    }

    fn place_state(&self, update: &mut RoomUpdate, state: Vec<Json>) {
        let names = self.request.state;
        if names.after_unstable {
            update.state_after_unstable = Some(Events { events: state.clone() });
        }
        if names.after {
            update.state_after = Some(Events { events: state });
        } else if !names.after_unstable {
            update.state = Some(Events { events: state });
        }
    }
}

fn render(viewer: &mut Viewer<'_>, piece: &Piece) -> Result<Timeline> {
    let events = piece
        .items
        .iter()
        .map(|item| viewer.show_event(item.event, &item.pdu, &item.place, Show::SYNC))
        .collect::<Result<Vec<_>>>()?;
    Ok(Timeline { events, limited: piece.limited, prev_batch: to_token(piece.start) })
}
