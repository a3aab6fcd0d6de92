//! Received events on their way into the batch: accepted ones through the commit that all events take,
//! refused ones as what they are, outside the timeline.

use std::sync::Arc;

use wick_core::{Error, Pdu, Result, ShortEventId, StateRoot, event::pdu::SharedPdu};
use wick_database::{
    Read,
    schema::room::{PLACE_BY_EVENT, Place, STORED_BY_EVENT, StoredEvent},
};

use super::Judged;
use crate::{
    Appended, Assembly, Effects,
    commit::{self, Entry},
    resolve,
};

/// Stores an event that the auth rules or the current state refuse. Later events can refer to it and find the
/// state after it; it has no place in the timeline and is no forward extremity.
pub(super) fn refuse(room: &mut Assembly<'_>, judged: Judged) -> Result<()> {
    let Judged { verified, before, rejected, soft_failed, .. } = judged;
    let mut pdu = verified.pdu;
    pdu.rejected = rejected.is_some();
    let pdu = Arc::new(pdu);
    let short = room.rooms.intern().event(&pdu.event_id, &mut room.batch)?;
    // A rejected event changes no state.
    let after = if pdu.rejected { before } else { state_after(room, &pdu, short, before)? };
    store(room, &pdu, short)?;
    let place =
        Place { room: room.room, position: None, before, after, soft_failed, transaction: None };
    room.batch.put(&PLACE_BY_EVENT, &short, &place);
    Ok(())
}

/// Appends an accepted event. The current state becomes that of all forward extremities, resolved.
pub(super) fn accept(room: &mut Assembly<'_>, judged: Judged) -> Result<Appended> {
    let Judged { verified, prev, before, .. } = judged;
    let pdu = Arc::new(verified.pdu);
    let short = room.rooms.intern().event(&pdu.event_id, &mut room.batch)?;
    let slot = room.batch.reserve_position();
    // Before the commit does it, because the resolution below reads it.
    store(room, &pdu, short)?;
    let after = state_after(room, &pdu, short, before)?;

    let mut roots = vec![after];
    for other in room.head.extremities.iter().filter(|extremity| !prev.contains(extremity)) {
        let place = room.batch.get(&PLACE_BY_EVENT, other)?;
        let place = place.ok_or_else(|| Error::corrupt("a forward extremity has no place"))?;
        roots.push(place.after);
    }
    let current = resolve::resolve(room.rooms, &mut room.batch, (room.room, &room.rules), &roots)?;
    let changes = room.rooms.states.diff(&room.batch, room.head.state, current)?;
    if !changes.is_empty() {
        commit::state::become_current(room, current, &changes, slot)?;
    }
    let effects = Effects::default();
    commit::write(room, Entry { pdu, short, slot, prev, before, after, changes, effects })
}

fn store(room: &mut Assembly<'_>, pdu: &Pdu, short: ShortEventId) -> Result<()> {
    let stored = StoredEvent {
        event_id: pdu.event_id.clone(),
        room_id: pdu.room_id.clone(),
        rejected: pdu.rejected,
        json: pdu.json.get().to_owned(),
    };
    room.batch.put(&STORED_BY_EVENT, &short, &stored);
    resolve::note_order(room.rooms, &mut room.batch, room.room, (short, pdu))
}

fn state_after(
    room: &mut Assembly<'_>,
    pdu: &SharedPdu,
    short: ShortEventId,
    before: StateRoot,
) -> Result<StateRoot> {
    let Some((event_type, state_key)) = pdu.state_tuple() else { return Ok(before) };
    let key = room.rooms.intern().state_key(&event_type, &state_key, &mut room.batch)?;
    room.rooms.states.insert(&mut room.batch, before, key, short)
}
