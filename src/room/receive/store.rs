//! Received events on their way into the batch: accepted ones through the commit that all events take,
//! refused ones as what they are, outside the timeline.

use std::sync::Arc;

use wick_core::{Error, Pdu, Result, ShortEventId, StateRoot, event::pdu::SharedPdu};
use wick_database::{
    Read,
    schema::room::{PLACE_BY_EVENT, Place, STORED_BY_EVENT, StoredEvent},
};

use super::judge::{self, Judged};
use crate::{
    Appended, Assembly, Effects, Placement,
    commit::{self, Entry},
    resolve,
};

/// Stores an event that the auth rules refuse. One that its auth events alone allow, and that is an outlier because of
/// that, stays one: states of other servers may hold it.
pub(super) fn reject(room: &mut Assembly<'_>, judged: Judged) -> Result<()> {
    let known = match judge::stored(room, &judged.pdu.event_id)? {
        Some(short) => room.batch.get(&STORED_BY_EVENT, &short)?,
        None => None,
    };
    if known.is_some_and(|known| !known.rejected) {
        return Ok(());
    }
    refuse(room, judged)
}

/// Stores an event that the auth rules or the current state refuse. Later events can refer to it and find the
/// state after it; it has no place in the timeline and is no forward extremity.
pub(super) fn refuse(room: &mut Assembly<'_>, judged: Judged) -> Result<()> {
    let Judged { pdu, before, rejected, soft_failed, .. } = judged;
    let is_rejected = rejected.is_some();
    let pdu = if is_rejected { Arc::new(Pdu { rejected: true, ..(*pdu).clone() }) } else { pdu };
    let short = room.rooms.intern().event(&pdu.event_id, &mut room.batch)?;
    // A rejected event changes no state.
    let after = if is_rejected { before } else { state_after(room, &pdu, short, before)? };
    store(room, &pdu, short)?;
    let place =
        Place { room: room.room, position: None, before, after, soft_failed, transaction: None };
    room.batch.put(&PLACE_BY_EVENT, &short, &place);
    commit::gaps::close(room, &pdu.event_id)
}

/// Writes an accepted event: at a place in the history, or at the end of the timeline, where the current state becomes that
/// of all forward extremities, resolved.
pub(super) fn accept(
    room: &mut Assembly<'_>,
    judged: Judged,
    history: Option<i64>,
) -> Result<Appended> {
    let Judged { pdu, prev, is_whole, before, .. } = judged;
    let free = match history {
        None if !is_whole => commit::gaps::free_before(room)?,
        _ => 0,
    };
    let placement = match history {
        Some(place) => Placement::History(place),
        None => Placement::End(room.batch.reserve_position_after(free.into())),
    };
    let prev = behind_refused(room, prev)?;
    let short = room.rooms.intern().event(&pdu.event_id, &mut room.batch)?;
    // Before the commit does it, because the resolution below reads it.
    store(room, &pdu, short)?;
    let after = state_after(room, &pdu, short, before)?;
    let mut changes = Vec::new();
    if let Placement::End(slot) = placement {
        let current = current_state(room, &prev, after)?;
        changes = room.rooms.states.diff(&room.batch, room.head.state, current)?;
        if !changes.is_empty() {
            commit::state::become_current(room, current, &changes, slot)?;
        }
    }
    let effects = Effects::default();
    let entry = Entry { pdu, short, placement, prev, before, after, changes, effects };
    commit::write_received(room, entry, (!is_whole).then_some(free))
}

/// How many refused events are walked through to find what lies behind them.
const MAX_REFUSED: usize = 1_000;

/// These events, and those that lie behind the rejected and soft-failed ones among them: such an event takes the place of
/// no extremity, so an event that follows it has to.
fn behind_refused(room: &Assembly<'_>, prev: Vec<ShortEventId>) -> Result<Vec<ShortEventId>> {
    let mut all = prev;
    let mut next = 0;
    while let Some(event) = all.get(next).copied().filter(|_| next < MAX_REFUSED) {
        next += 1;
        let place = room.batch.get(&PLACE_BY_EVENT, &event)?;
        if place.is_none_or(|place| place.position.is_some() || place.is_outlier()) {
            continue;
        }
        for id in &room.rooms.events.load(&room.batch, event)?.prev_events {
            let behind = room.rooms.intern().lookup_event(&room.batch, id)?;
            all.extend(behind.filter(|behind| !all.contains(behind)));
        }
    }
    Ok(all)
}

/// The state after all forward extremities, if an event with the state `after` it takes the place of `prev`.
pub(super) fn current_state(
    room: &mut Assembly<'_>,
    prev: &[ShortEventId],
    after: StateRoot,
) -> Result<StateRoot> {
    let mut roots = vec![after];
    for other in room.head.extremities.iter().filter(|extremity| !prev.contains(extremity)) {
        let place = room.batch.get(&PLACE_BY_EVENT, other)?;
        let place = place.ok_or_else(|| Error::corrupt("a forward extremity has no place"))?;
        roots.push(place.after);
    }
    resolve::resolve(room.rooms, &mut room.batch, (room.room, &room.rules), &roots)
}

fn store(room: &mut Assembly<'_>, pdu: &SharedPdu, short: ShortEventId) -> Result<()> {
    let known = room.batch.read_for_update(&STORED_BY_EVENT, &short)?;
    if known.is_some_and(|known| known.rejected != pdu.rejected) {
        room.replaced.push((short, SharedPdu::clone(pdu)));
    }
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
