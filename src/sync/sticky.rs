//! The sticky events of a room (MSC4354) that the timeline does not have.

use std::collections::{BTreeSet, HashSet};

use ruma::OwnedUserId;
use wick_core::Result;
use wick_database::schema::sticky::STICKY_BY_ROOM;
use wick_room::{render::Show, visibility::Viewer};

use crate::{Scope, context::Context, events::Json, timeline::Piece};

/// Sticky events.
#[derive(Default)]
pub struct Sticky {
    /// The events.
    pub events: Vec<Json>,
    /// Their senders, whom a lazy client has to know.
    pub senders: BTreeSet<OwnedUserId>,
}

/// The sticky events of the scope that `piece` leaves out: all of them for a client that does not have the room, whatever
/// the history visibility was.
///
/// # Errors
/// If the database cannot be read.
pub fn sticky(
    context: &Context<'_>,
    viewer: &mut Viewer<'_>,
    scope: &Scope,
    piece: &Piece,
) -> Result<Sticky> {
    let mut sticky = Sticky::default();
    let has_changed = |since| context.is_table_changed_since(&STICKY_BY_ROOM, since);
    if !scope.joined || !scope.since.is_none_or(has_changed) {
        return Ok(sticky);
    }
    let span = (scope.from(), scope.upto);
    let rows = context.graph.sticky_events(&context.read, scope.room, span)?;
    let in_timeline: HashSet<_> = piece.items.iter().map(|item| item.event).collect();
    for row in rows {
        if in_timeline.contains(&row.event) {
            continue;
        }
        if let Some(event) = viewer.show_sticky(row.event, Show::SYNC)? {
            sticky.events.push(event);
            sticky.senders.insert(context.graph.user_id(&context.read, row.sender)?);
        }
    }
    Ok(sticky)
}
