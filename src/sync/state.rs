//! The state that a room's timeline does not tell.
//!
//! Invariant: who applies the state first and then the timeline, event by event, has the room's state
//! as it is at the end, whatever the timeline's filter left out; with `state_after`, who applies the
//! timeline's state to nothing and takes this has it too.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use ruma::{OwnedUserId, api::client::filter::LazyLoadOptions, events::StateEventType};
use wick_account::filters;
use wick_core::{Error, Result, ShortEventId, ShortStateKey, StateRoot};
use wick_room::{render::Show, visibility::Viewer};

use super::{builder::Builder, response::Json, room::Scope, timeline::Piece};

type State = BTreeMap<ShortStateKey, ShortEventId>;

impl Builder<'_> {
    /// The state events to tell before (or, with `state_after`, beside) a piece of the timeline.
    pub(super) fn state(
        &self,
        viewer: &mut Viewer<'_>,
        scope: &Scope,
        piece: &Piece,
        heroes: &[OwnedUserId],
    ) -> Result<Vec<Json>> {
        let filter = &self.request.filter.room.state;
        if scope.outside || !filters::allows_events_of(filter, &self.room_id(scope.room)?) {
            return Ok(Vec::new());
        }
        let start = self.graph.root_at(&self.read, scope.room, piece.start)?;
        let end = self.graph.root_at(&self.read, scope.room, scope.upto)?;
        let state = self.untold(scope, piece, start, end)?;
        let mut events: BTreeSet<ShortEventId> = state.into_values().collect();
        let lazily = self.lazily();
        if let Some(redundant) = lazily {
            let at = if self.wants_after() { end } else { start };
            let needed = self.needed_members(scope, piece, heroes, at)?;
            self.keep_members(scope, &mut events, &needed, redundant)?;
        }
        let in_timeline: HashSet<_> = piece.items.iter().map(|item| item.event).collect();
        if !self.wants_after() {
            events.retain(|event| !in_timeline.contains(event));
        }
        let mut shown = Vec::with_capacity(events.len());
        for event in events {
            let pdu = self.graph.load_event(&self.read, event)?;
            if filters::allows_event(filter, &pdu) {
                shown.push(viewer.show(event, Show::SYNC)?);
            }
        }
        Ok(shown)
    }

    fn wants_after(&self) -> bool {
        self.request.state.after || self.request.state.after_unstable
    }

    /// `None` if all members are wanted; whether those told before are wanted again.
    fn lazily(&self) -> Option<bool> {
        match self.request.filter.room.state.lazy_load_options {
            LazyLoadOptions::Enabled { include_redundant_members } => {
                Some(include_redundant_members)
            }
            LazyLoadOptions::Disabled => None,
        }
    }

    /// The state that the client cannot know.
    fn untold(
        &self,
        scope: &Scope,
        piece: &Piece,
        start: StateRoot,
        end: StateRoot,
    ) -> Result<State> {
        let states = self.graph.states();
        let known = scope.since.filter(|_| !self.request.full_state);
        let from = match known {
            Some(since) => self.graph.root_at(&self.read, scope.room, since)?,
            None => StateRoot::EMPTY,
        };
        let target = if self.wants_after() { end } else { start };
        let mut state: State = if from == StateRoot::EMPTY {
            self.all(scope, target)?
        } else {
            let changes = states.diff(&self.read, from, target)?;
            changes.into_iter().filter_map(|change| Some((change.key, change.new?))).collect()
        };
        if target != end {
            // What the timeline would have told, had its filter not left it out.
            let told: HashSet<_> = piece.items.iter().map(|item| item.event).collect();
            for change in states.diff(&self.read, start, end)? {
                if let Some(event) = change.new.filter(|event| !told.contains(event)) {
                    state.insert(change.key, event);
                }
            }
        }
        Ok(state)
    }

    /// A whole state. Lazy clients get their members elsewhere, so for them it is without any, as
    /// long as the room is the user's to see now.
    fn all(&self, scope: &Scope, target: StateRoot) -> Result<State> {
        let states = self.graph.states();
        if !scope.joined || self.lazily().is_none() {
            return Ok(states.collect(&self.read, target)?.into_iter().collect());
        }
        let mut state: State = self.graph.settings(&self.read, scope.room)?.into_iter().collect();
        let head = self
            .graph
            .head(&self.read, scope.room)?
            .ok_or_else(|| Error::corrupt("a joined room has no head"))?;
        for change in states.diff(&self.read, head.state, target)? {
            if self.graph.is_member_key(&self.read, change.key)? {
                continue;
            }
            match change.new {
                Some(event) => state.insert(change.key, event),
                None => state.remove(&change.key),
            };
        }
        Ok(state)
    }

    /// The member events of those who speak in the timeline, and of the heroes.
    fn needed_members(
        &self,
        scope: &Scope,
        piece: &Piece,
        heroes: &[OwnedUserId],
        at: StateRoot,
    ) -> Result<HashSet<ShortEventId>> {
        let mut users: BTreeSet<&str> =
            piece.items.iter().map(|item| item.pdu.sender.as_str()).collect();
        users.extend(heroes.iter().map(|user_id| user_id.as_str()));
        if scope.since.is_none() {
            users.insert(self.session.user_id.as_str());
        }
        let mut needed = HashSet::new();
        for user_id in users {
            let member =
                self.graph.state_event_at(&self.read, at, &StateEventType::RoomMember, user_id)?;
            needed.extend(member);
        }
        Ok(needed)
    }

    /// Takes the members out that a lazy client has no use for, and adds those it needs.
    ///
    /// Of what changed since the last sync all members stay, so that a client never holds a member
    /// that is not so any more.
    fn keep_members(
        &self,
        scope: &Scope,
        events: &mut BTreeSet<ShortEventId>,
        needed: &HashSet<ShortEventId>,
        redundant: bool,
    ) -> Result<()> {
        if scope.since.is_none() || self.request.full_state {
            let mut kept = BTreeSet::new();
            for event in std::mem::take(events) {
                let pdu = self.graph.load_event(&self.read, event)?;
                if pdu.event_type != ruma::events::TimelineEventType::RoomMember
                    || needed.contains(&event)
                {
                    kept.insert(event);
                }
            }
            *events = kept;
        }
        let since = self.since.filter(|_| scope.since.is_some() && !redundant);
        let lazy = &self.sync.lazy;
        let news = needed
            .iter()
            .copied()
            .filter(|event| !lazy.knows(self.session, (scope.room, *event), since));
        events.extend(news);
        lazy.tell(self.session, scope.room, needed.iter().copied(), self.upto);
        Ok(())
    }
}
