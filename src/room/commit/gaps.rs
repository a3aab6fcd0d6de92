//! Where the history is incomplete: the events that others refer to and that are not here.
//!
//! Invariant: each event that an event of the timeline names in `prev_events` either has a place with the state around
//! it, or a row here.

use ruma::EventId;
use wick_core::Result;
use wick_database::{
    Read,
    schema::room::{CHILD_BY_MISSING, HISTORY_BY_ROOM, PLACE_BY_EVENT},
};

use super::{Entry, Placement};
use crate::Assembly;

/// Notes which of an event's prev events are not here.
pub(super) fn open(room: &mut Assembly<'_>, entry: &Entry) -> Result<()> {
    // Events of the history are written without a change of the head: none of those that were looked up may
    // come meanwhile.
    room.batch.read_for_update(&HISTORY_BY_ROOM, &room.room)?;
    for id in &entry.pdu.prev_events {
        let key = (room.room, id.clone());
        let is_older = matches!(entry.placement, Placement::History(_));
        if has_place(room, id)? || (is_older && room.batch.contains(&CHILD_BY_MISSING, &key)?) {
            continue;
        }
        entry.placement.put(&mut room.batch, &CHILD_BY_MISSING, move |place| (key, place));
    }
    Ok(())
}

/// Notes that an event came, whether or not it is part of the timeline.
pub(crate) fn close(room: &mut Assembly<'_>, id: &EventId) -> Result<()> {
    let key = (room.room, id.to_owned());
    if room.batch.contains(&CHILD_BY_MISSING, &key)? {
        room.batch.delete(&CHILD_BY_MISSING, &key);
    }
    Ok(())
}

fn has_place(room: &Assembly<'_>, id: &EventId) -> Result<bool> {
    let Some(short) = room.rooms.intern().lookup_event(&room.batch, id)? else { return Ok(false) };
    let place = room.batch.get(&PLACE_BY_EVENT, &short)?;
    Ok(place.is_some_and(|place| !place.is_outlier()))
}
