//! The sticky events of a room (MSC4354) that the timeline does not have.

use std::collections::HashSet;

use wick_core::Result;
use wick_room::{render::Show, visibility::Viewer};

use crate::{Scope, context::Context, events::Json, timeline::Piece};

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
) -> Result<Vec<Json>> {
    if !scope.joined {
        return Ok(Vec::new());
    }
    let span = (scope.from(), scope.upto);
    let rows = context.graph.sticky_events(&context.read, scope.room, span)?;
    let in_timeline: HashSet<_> = piece.items.iter().map(|item| item.event).collect();
    let mut sticky = Vec::new();
    for row in rows {
        if !in_timeline.contains(&row.event) {
            sticky.extend(viewer.show_sticky(row.event, Show::SYNC)?);
        }
    }
    Ok(sticky)
}
