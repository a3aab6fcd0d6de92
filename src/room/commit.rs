//! The table of contents of an event: every row that one event causes, in one batch (R1).
//!
//! Invariant: all origins of an event (sent here, received, fired by a timer) end here.

mod delayed;
mod event;
pub(crate) mod expiry;
mod extremities;
mod members;
mod redaction;
mod relations;
pub(crate) mod state;
pub(crate) mod timer;
mod transaction;
mod typing;

use wick_core::{Result, ShortEventId, StateRoot, event::pdu::SharedPdu};
use wick_database::Slot;

use crate::{Appended, Assembly, Effects, stage::Authorized, state::StateChange};

/// An event on its way into the batch.
pub(crate) struct Entry {
    pub(crate) pdu: SharedPdu,
    pub(crate) short: ShortEventId,
    pub(crate) slot: Slot,
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
    let mut entry =
        Entry { pdu, short, slot, prev, before, after: before, changes: Vec::new(), effects };

    state::write(room, &mut entry)?;
    write(room, entry)
}

/// Writes everything that follows from an entry whose state is known.
pub(crate) fn write(room: &mut Assembly<'_>, mut entry: Entry) -> Result<Appended> {
    redaction::apply_earlier(room, &mut entry)?;
    event::write(room, &entry)?;
    extremities::write(room, &entry);
    members::write(room, &entry)?;
    relations::write(room, &entry)?;
    let redacted = redaction::write(room, &entry)?;
    timer::write(room, &entry)?;
    expiry::write(room, &entry)?;
    delayed::write(room, &entry)?;
    transaction::write(room, &entry);

    let Entry { pdu, short, slot, effects, .. } = entry;
    let by_timer = effects.finish.is_some();
    let appended = Appended { pdu, short, room: room.room, slot, by_timer, redacted };
    for projection in &room.rooms.hooks.projections {
        projection.project(&appended, &mut room.batch)?;
    }
    Ok(appended)
}
