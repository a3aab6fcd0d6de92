//! One room that the user is or was in.

use std::collections::BTreeMap;

use wick_core::{Result, ShortRoomId};
use wick_room::{render::Show, visibility::Viewer};

use super::{
    account_data::News,
    builder::Builder,
    response::{Events, Json, RoomUpdate, Timeline},
    roster::RosterChanges,
    token::to_token,
};

/// What of a room is told.
pub(super) struct Scope {
    pub(super) room: ShortRoomId,
    /// What the client knows of the room; `None` if it does not have it.
    pub(super) since: Option<i64>,
    /// Where it ends: at the snapshot, or where the user left.
    pub(super) upto: i64,
    /// The client has synced before, without this room.
    pub(super) gap: bool,
    /// The user is in the room.
    pub(super) joined: bool,
    /// The user was never in the room as far as this answer goes, and gets their own events alone.
    pub(super) outside: bool,
}

impl Builder<'_> {
    /// What is new in a room; `None` if nothing is.
    pub(super) fn room_update(
        &self,
        scope: &Scope,
        news: &News,
        roster: &mut RosterChanges,
    ) -> Result<Option<RoomUpdate>> {
        let is_new = scope.since.is_none();
        let account_data = self.room_account_data(scope.room, is_new, news)?;
        let ephemeral = self.ephemeral(scope)?;
        let last = self.last_place(scope)?;
        let moved = scope.since.is_none_or(|since| last.is_some_and(|last| last > since));
        let quiet = account_data.is_empty() && ephemeral.events.is_empty() && !ephemeral.has_read;
        if !moved && quiet && !self.request.full_state {
            return Ok(None);
        }
        let (read, session) = (&self.read, self.session);
        let mut viewer =
            Viewer::new(self.graph, read, scope.room, &session.user_id, Some(&session.device_id))?;
        let timeline = self.timeline(&mut viewer, scope, moved)?;
        let (summary, heroes) = self.summary(scope, moved, roster)?;
        let state = self.state(&mut viewer, scope, &timeline, &heroes)?;
        if quiet && !is_new && timeline.is_empty() && state.is_empty() && summary.is_none() {
            return Ok(None);
        }
        let prev_batch = to_token(timeline.start);
        let events = timeline
            .items
            .iter()
            .map(|item| viewer.show_event(item.event, &item.pdu, &item.place, Show::SYNC))
            .collect::<Result<Vec<_>>>()?;
        let timeline = Timeline { events, limited: timeline.limited, prev_batch };
        let mut update = RoomUpdate {
            summary,
            timeline,
            state: None,
            state_after: None,
            state_after_unstable: None,
            account_data: account_data.into(),
            ephemeral: ephemeral.events.into(),
            unread_notifications: None,
            unread_thread_notifications: BTreeMap::new(),
        };
        self.place_state(&mut update, state);
        if scope.joined {
            self.place_counts(&mut update, scope)?;
        }
        Ok(Some(update))
    }

    fn place_counts(&self, update: &mut RoomUpdate, scope: &Scope) -> Result<()> {
        let at = (scope.room, scope.upto);
        let unread = self.sync.counts.unread(&self.read, self.session, at, &self.ignored)?;
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
