//! The room's state: the new version of the tree, and the table of the current state.

use ruma::events::StateEventType;
use wick_core::{Result, StateRoot};
use wick_database::{
    Read, Slot,
    schema::{
        lookup::CHILD_BY_SPACE,
        room::{EVENT_BY_SETTING, EVENT_BY_STATE, ROOT_BY_POSITION},
    },
};

use super::Entry;
use crate::{Assembly, assembly::timeline_place, state::StateChange};

/// Applies a state event that was built on the current state.
pub(super) fn write(room: &mut Assembly<'_>, entry: &mut Entry, slot: Slot) -> Result<()> {
    let Some((event_type, state_key)) = entry.pdu.state_tuple() else { return Ok(()) };
    let key = room.rooms.intern().state_key(&event_type, &state_key, &mut room.batch)?;
    let old = room.batch.get(&EVENT_BY_STATE, &(room.room, key))?;
    entry.after = room.rooms.states.insert(&mut room.batch, entry.before, key, entry.short)?;
    entry.changes = vec![StateChange { key, old, new: Some(entry.short) }];
    become_current(room, entry.after, &entry.changes, slot)
}

/// Makes `root` the current state; `changes` is what differs from the one before.
pub(crate) fn become_current(
    room: &mut Assembly<'_>,
    root: StateRoot,
    changes: &[StateChange],
    slot: Slot,
) -> Result<()> {
    for change in changes {
        let row = (room.room, change.key);
        match change.new {
            Some(event) => room.batch.put(&EVENT_BY_STATE, &row, &event),
            None => room.batch.delete(&EVENT_BY_STATE, &row),
        }
        if room.rooms.is_member_key(&room.batch, change.key)? {
            continue;
        }
        match change.new {
            Some(event) => room.batch.put(&EVENT_BY_SETTING, &row, &event),
            None => room.batch.delete(&EVENT_BY_SETTING, &row),
        }
        let tuple = room.rooms.intern().state_key_tuple(&room.batch, change.key)?;
        if let Some((StateEventType::SpaceChild, child)) = tuple {
            room.batch.put(&CHILD_BY_SPACE, &(room.room, child), &());
        }
    }
    room.head.state = root;
    let room_short = room.room;
    room.batch.put_at(slot, &ROOT_BY_POSITION, move |position| {
        ((room_short, timeline_place(position)), root)
    });
    Ok(())
}
