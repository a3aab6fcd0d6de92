//! The state of a room that is not in its timeline.
//!
//! Invariant: a client that applies the state first and then the timeline, event by event, has the room's
//! state as it is at the end, whatever the timeline's filter left out; with `state_after`, one that applies
//! no state of the timeline and takes this has it too.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use ruma::{OwnedUserId, api::client::filter::RoomEventFilter, events::TimelineEventType};
use wick_account::filters;
use wick_core::{Error, Result, ShortEventId, ShortStateKey, StateRoot};
use wick_room::{render::Show, visibility::Viewer};

use crate::{
    context::Context,
    events::Json,
    members::{self, Members},
    scope::Scope,
    timeline::Piece,
};

type State = BTreeMap<ShortStateKey, ShortEventId>;

/// Which state is wanted.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    /// The events that it allows.
    pub filter: &'a RoomEventFilter,
    /// The state at the timeline's end, not at its beginning.
    pub after: bool,
    /// All of it, also what the client has.
    pub full: bool,
    /// Which members.
    pub members: Members<'a>,
    /// Members that the response names otherwise, so that a lazy client needs them.
    pub named: &'a [OwnedUserId],
}

/// The state events that go before (or, with `after`, beside) a piece of the timeline.
///
/// # Errors
/// If the database cannot be read.
pub fn state(
    context: &Context<'_>,
    viewer: &mut Viewer<'_>,
    scope: &Scope,
    piece: &Piece,
    wanted: Wanted<'_>,
) -> Result<Vec<Json>> {
    if !filters::allows_events_of(wanted.filter, &context.room_id(scope.room)?) {
        return Ok(Vec::new());
    }
    let mut events = match scope.stay.filter(|_| scope.has_stay()) {
        Some(stay) => state_of_stay(context, viewer, scope, (piece, stay), wanted)?,
        None => BTreeSet::new(),
    };
    events.extend(scope.removal);
    let mut shown = Vec::with_capacity(events.len());
    for event in events {
        let pdu = context.graph.load_event(&context.read, event)?;
        let is_ended = scope.removal.is_some_and(|removal| removal != event)
            && pdu.is_state(&TimelineEventType::RoomMember, context.session.user_id.as_str());
        if !is_ended && filters::allows_event(wanted.filter, &pdu) {
            shown.push(viewer.show(event, Show::SYNC)?);
        }
    }
    Ok(shown)
}

/// The state events of the user's last stay, which ended at the place `stay`.
fn state_of_stay(
    context: &Context<'_>,
    viewer: &mut Viewer<'_>,
    scope: &Scope,
    (piece, stay): (&Piece, i64),
    wanted: Wanted<'_>,
) -> Result<BTreeSet<ShortEventId>> {
    let end = context.root_at(scope.room, scope.upto.min(stay))?;
    // Before a join the room can have been in states that are not visible to the user.
    let start = viewer.state_at(piece.start.min(stay))?.unwrap_or(end);
    let state = missing_state(context, scope, piece, (start, end), wanted)?;
    let mut events: BTreeSet<ShortEventId> = state.into_values().collect();
    if let Members::Lazily { known, redundant } = wanted.members {
        let at = if wanted.after { end } else { start };
        let needed = members::needed(context, scope, piece, wanted.named, (at, end))?;
        if scope.since.is_none() || wanted.full {
            members::remove_others(context, &mut events, &needed)?;
        }
        members::add_needed(context, scope, (known, redundant), &mut events, &needed);
    }
    if !wanted.after {
        for item in &piece.items {
            events.remove(&item.event);
        }
    }
    Ok(events)
}

/// The state that the client cannot know.
fn missing_state(
    context: &Context<'_>,
    scope: &Scope,
    piece: &Piece,
    (start, end): (StateRoot, StateRoot),
    wanted: Wanted<'_>,
) -> Result<State> {
    let states = context.graph.states();
    let from = match scope.from().filter(|_| !wanted.full) {
        Some(from) => context.root_at(scope.room, from)?,
        None => StateRoot::EMPTY,
    };
    let target = if wanted.after { end } else { start };
    let mut state: State = if from == StateRoot::EMPTY {
        whole(context, scope, target, wanted.members)?
    } else {
        let changes = states.diff(&context.read, from, target)?;
        changes.into_iter().filter_map(|change| Some((change.key, change.new?))).collect()
    };
    if target != end {
        // State events that the timeline's filter left out.
        let shown: HashSet<_> = piece.items.iter().map(|item| item.event).collect();
        for change in states.diff(&context.read, start, end)? {
            if let Some(event) = change.new.filter(|event| !shown.contains(event)) {
                state.insert(change.key, event);
            }
        }
    }
    Ok(state)
}

/// A whole state. Without members if they are loaded lazily: those needed are added later. That is only
/// possible as long as the current state is visible to the user.
fn whole(
    context: &Context<'_>,
    scope: &Scope,
    target: StateRoot,
    members: Members<'_>,
) -> Result<State> {
    let (graph, read) = (context.graph, &context.read);
    if !scope.joined || !members.are_lazy() {
        return Ok(graph.states().collect(read, target)?.into_iter().collect());
    }
    let mut state: State = graph.settings(read, scope.room)?.into_iter().collect();
    let head =
        graph.head(read, scope.room)?.ok_or_else(|| Error::corrupt("a joined room has no head"))?;
    for change in graph.states().diff(read, head.state, target)? {
        if graph.is_member_key(read, change.key)? {
            continue;
        }
        match change.new {
            Some(event) => state.insert(change.key, event),
            None => state.remove(&change.key),
        };
    }
    Ok(state)
}
