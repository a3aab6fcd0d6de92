//! The newest events of a room that the client does not have.

use std::collections::HashSet;

use ruma::{api::client::filter::RoomEventFilter, events::TimelineEventType};
use wick_account::filters;
use wick_core::{Pdu, Result, ShortEventId, event::pdu::SharedPdu};
use wick_database::schema::room::{GAP_BY_PLACE, Place};
use wick_room::{Direction, TimelineItem, visibility::Viewer};

use crate::{context::Context, scope::Scope};

/// How many events are looked at for each one that is wanted, where most are not.
const LOOKED_AT_PER_WANTED: usize = 20;
const LOOKED_AT_AT_LEAST: usize = 500;

/// Which events of a timeline are wanted.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    /// Those that it allows.
    pub filter: &'a RoomEventFilter,
    /// At most so many, the newest.
    pub limit: usize,
}

/// A piece of the timeline, not yet rendered.
pub struct Piece {
    /// Old to new.
    pub items: Vec<Item>,
    /// There is more between the scope's beginning and the first of them.
    pub limited: bool,
    /// The place after which it begins.
    pub start: i64,
    /// The scope has events that the client does not have, also such as are left out.
    pub moved: bool,
}

/// An event of the timeline.
pub struct Item {
    /// Its short id.
    pub event: ShortEventId,
    /// The event.
    pub pdu: SharedPdu,
    /// Where it stands.
    pub place: Place,
}

impl Piece {
    /// The piece of a scope without events.
    #[must_use]
    pub fn empty(scope: &Scope) -> Self {
        Self { items: Vec::new(), limited: false, start: scope.upto, moved: scope.from().is_none() }
    }

    /// Whether it is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty() && !self.limited
    }
}

/// The newest events of the scope.
///
/// # Errors
/// If the database cannot be read.
pub fn timeline(
    context: &Context<'_>,
    viewer: &mut Viewer<'_>,
    scope: &Scope,
    wanted: Wanted<'_>,
) -> Result<Piece> {
    let mut piece = Piece::empty(scope);
    let Wanted { filter, limit } = wanted;
    let room_id = context.room_id(scope.room)?;
    let limit = if filters::allows_events_of(filter, &room_id) { limit } else { 0 };
    let most = limit.saturating_mul(LOOKED_AT_PER_WANTED).max(LOOKED_AT_AT_LEAST);
    let newest = context.graph.timeline(&context.read, scope.room, scope.upto, Direction::Backward);
    let gap = newest_gap(context, scope)?;
    let mut hidden = Hidden::of(context, scope);
    for (looked_at, item) in newest.enumerate() {
        let item = item?;
        if scope.from().is_some_and(|from| item.place <= from) {
            break;
        }
        piece.moved = true;
        if looked_at >= most {
            piece.limited = true;
            break;
        }
        let pdu = context.graph.load_event(&context.read, item.event)?;
        match visible(context, viewer, scope, (filter, item), &pdu)? {
            None => hidden.note(&pdu),
            Some(_) if piece.items.len() >= limit || hidden.replaces(&pdu) => {
                piece.limited = true;
                break;
            }
            Some(found) => {
                piece.start = item.place.saturating_sub(1);
                piece.items.push(found);
            }
        }
        // What is here from before a gap does not follow on it, and what came into the gap since is no news.
        if gap == Some(item.place) {
            piece.limited = true;
            break;
        }
    }
    piece.items.reverse();
    piece.limited |= scope.gap;
    Ok(piece)
}

/// The place of the newest event of the scope before which something is missing, if there is one.
fn newest_gap(context: &Context<'_>, scope: &Scope) -> Result<Option<i64>> {
    let can_have_one = |since| context.is_table_changed_since(&GAP_BY_PLACE, since);
    if !scope.since.is_none_or(can_have_one) {
        return Ok(None);
    }
    context.graph.newest_gap(&context.read, scope.room, scope.upto)
}

/// The pieces of state that something sets which the timeline leaves out: an event, or state resolution.
///
/// A timeline must not set a piece of state to something older than that: a client that applies
/// it to the state would end with what was replaced. So it begins after the older one.
struct Hidden(HashSet<(TimelineEventType, String)>);

impl Hidden {
    /// Nothing but the user's membership, if state resolution set it.
    fn of(context: &Context<'_>, scope: &Scope) -> Self {
        let own = || (TimelineEventType::RoomMember, context.session.user_id.to_string());
        Self(scope.is_resolved.then(own).into_iter().collect())
    }

    fn note(&mut self, pdu: &Pdu) {
        if let Some(state_key) = &pdu.state_key {
            self.0.insert((pdu.event_type.clone(), state_key.clone()));
        }
    }

    fn replaces(&self, pdu: &Pdu) -> bool {
        let Some(state_key) = pdu.state_key.as_ref().filter(|_| !self.0.is_empty()) else {
            return false;
        };
        self.0.contains(&(pdu.event_type.clone(), state_key.clone()))
    }
}

/// The event if the filter allows it and the viewer may see it.
fn visible(
    context: &Context<'_>,
    viewer: &mut Viewer<'_>,
    scope: &Scope,
    (filter, item): (&RoomEventFilter, TimelineItem),
    pdu: &SharedPdu,
) -> Result<Option<Item>> {
    let own = || pdu.is_state(&TimelineEventType::RoomMember, context.session.user_id.as_str());
    if !allows(context, filter, pdu) || !(scope.is_in_stay(item.place) || own()) {
        return Ok(None);
    }
    let Some(place) = context.graph.place(&context.read, item.event)? else { return Ok(None) };
    let visible = viewer.can_see(pdu, &place)?;
    Ok(visible.then(|| Item { event: item.event, pdu: SharedPdu::clone(pdu), place }))
}

fn allows(context: &Context<'_>, filter: &RoomEventFilter, pdu: &Pdu) -> bool {
    let ignored = pdu.state_key.is_none() && context.ignores(&pdu.sender);
    !ignored && filters::allows_event(filter, pdu)
}
