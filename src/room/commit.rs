//! The table of contents of an event: every row that one event causes, in one batch (R1).
//!
//! Invariant: all origins of an event (sent here, received, fired by a timer, part of the history) end here.

mod delayed;
mod event;
pub(crate) mod expiry;
mod extremities;
pub(crate) mod gaps;
mod members;
mod placement;
mod redaction;
mod relations;
mod servers;
pub(crate) mod state;
mod sticky;
pub(crate) mod timer;
mod transaction;
mod typing;

use wick_core::{Result, ShortEventId, StateRoot, event::pdu::SharedPdu};

pub use self::placement::Placement;
use crate::{Appended, Assembly, Effects, stage::Authorized, state::StateChange};

/// An event on its way into the batch.
pub(crate) struct Entry {
    pub(crate) pdu: SharedPdu,
    pub(crate) short: ShortEventId,
    pub(crate) placement: Placement,
    /// The forward extremities whose place it takes, if they are such.
    pub(crate) prev: Vec<ShortEventId>,
    pub(crate) before: StateRoot,
    pub(crate) after: StateRoot,
    /// What it changes in the room's current state.
    pub(crate) changes: Vec<StateChange>,
    pub(crate) effects: Effects,
}

/// Appends an event that was built on the room's head.
pub(crate) fn append(
    room: &mut Assembly<'_>,
    authorized: Authorized,
    effects: Effects,
) -> Result<Appended> {
    let Authorized { pdu, prev } = authorized;
    let short = room.rooms.intern().event(&pdu.event_id, &mut room.batch)?;
    let slot = room.batch.reserve_position();
    let before = room.head.state;
    let (placement, changes) = (Placement::End(slot), Vec::new());
    let mut entry = Entry { pdu, short, placement, prev, before, after: before, changes, effects };

    state::write(room, &mut entry, slot)?;
    write(room, entry)
}

/// Writes everything that follows from a received event: it may have been missing, redacted, answered or ended before it
/// came. If not all of its prev events are here, `gap` is how many free positions it has before it.
pub(crate) fn write_received(
    room: &mut Assembly<'_>,
    mut entry: Entry,
    gap: Option<u32>,
) -> Result<Appended> {
    redaction::apply_earlier(room, &mut entry)?;
    gaps::close(room, &entry.pdu.event_id)?;
    if let Some(free) = gap {
        gaps::open(room, &entry, free)?;
    }
    expiry::apply_earlier(room, &entry)?;
    relations::apply_earlier(room, &entry)?;
    write(room, entry)
}

/// Writes everything that follows from an entry whose state is known.
fn write(room: &mut Assembly<'_>, entry: Entry) -> Result<Appended> {
    event::write(room, &entry)?;
    relations::write(room, &entry)?;
    let redacted = redaction::write(room, &entry)?;
    expiry::record_end(room, &entry)?;
    if let Placement::End(slot) = entry.placement {
        extremities::write(room, &entry);
        members::write(room, &entry, slot)?;
        timer::write(room, &entry)?;
        expiry::write(room, &entry)?;
        delayed::write(room, &entry)?;
        sticky::write(room, &entry, slot)?;
        transaction::write(room, &entry, slot);
    }

    let Entry { pdu, short, placement, effects, .. } = entry;
    let by_timer = effects.finish.is_some();
    let appended = Appended { pdu, short, room: room.room, placement, by_timer, redacted };
    for projection in &room.rooms.hooks.projections {
        projection.project(&appended, &mut room.batch)?;
    }
    Ok(appended)
}
