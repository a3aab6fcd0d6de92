//! Where the history is incomplete: the events that others refer to and that are not here.
//!
//! An event that comes without all of its prev events is given a position with free ones before it: the *gap*. Events that are
//! fetched later get places in it from above, as those from before the first event that is here get places below zero. So:
//!
//! * places stay integers in the order of the timeline, and a token is a place as before. None was handed out within a gap
//!   before it had events, but for the one right before the event after it;
//! * what fills a gap is above all that stood before it and below what came after. No sync token is in between, so it is never new;
//! * an event costs the same however many gaps there are, and a gap one row. Its free positions cost nothing;
//! * the rows of the gap, of its events and of what is still missing are one batch. One that has more missing events than free
//!   places stays open.
//!
//! Invariants: each event that an event of the timeline names in `prev_events` either has a place with the state around
//! it, or is listed as missing; no two gaps overlap; what is missing from a gap is listed by the place of an event in it or the
//! one after it.

use ruma::EventId;
use wick_core::Result;
use wick_database::{
    Range, Read,
    schema::room::{
        CHILD_BY_MISSING, EVENT_BY_POSITION, GAP_BY_PLACE, HISTORY_BY_ROOM, MISSING_BY_CHILD,
        PLACE_BY_EVENT, ROOT_BY_POSITION, TimelineGap,
    },
};

use super::{Entry, Placement};
use crate::{Assembly, assembly::timeline_place};

/// How many positions are left free. A gap that lacks more events is filled with the newest of them.
const FREE: u32 = 1 << 20;

/// How many positions to leave free before an event at the end of the timeline, some of whose prev events are not here. None at
/// the beginning of the timeline: what comes before it has places below zero.
pub(crate) fn free_before(room: &Assembly<'_>) -> Result<u32> {
    let first = room.batch.first(&EVENT_BY_POSITION, Range::prefix((room.room,)))?;
    Ok(if first.is_some() { FREE } else { 0 })
}

/// Notes which of an event's prev events are not here. At the end of the timeline, it has `free` positions before it.
pub(super) fn open(room: &mut Assembly<'_>, entry: &Entry, free: u32) -> Result<()> {
    // Events of the history are written without a change of the head: none of those that were looked up may
    // come meanwhile.
    room.batch.read_for_update(&HISTORY_BY_ROOM, &room.room)?;
    let short = room.room;
    for id in &entry.pdu.prev_events {
        let key = (short, id.clone());
        // It belongs before the first event that refers to it.
        if has_place(room, id)? || room.batch.contains(&CHILD_BY_MISSING, &key)? {
            continue;
        }
        let missing = id.clone();
        entry.placement.put(&mut room.batch, &CHILD_BY_MISSING, move |place| (key, place));
        entry
            .placement
            .put(&mut room.batch, &MISSING_BY_CHILD, move |place| ((short, place, missing), ()));
    }
    if let Placement::End(slot) = entry.placement {
        room.batch.put_at(slot, &GAP_BY_PLACE, move |position| {
            let lowest = timeline_place(position);
            let floor = lowest.saturating_sub(i64::from(free)).saturating_sub(1);
            ((short, lowest), TimelineGap { floor, lowest })
        });
        // The events of the gap have states of their own, which may differ from the one that is current.
        let root = room.head.state;
        room.batch.put_at(slot, &ROOT_BY_POSITION, move |position| {
            ((short, timeline_place(position)), root)
        });
    }
    Ok(())
}

/// Notes that an event came, whether or not it is part of the timeline.
pub(crate) fn close(room: &mut Assembly<'_>, id: &EventId) -> Result<()> {
    let key = (room.room, id.to_owned());
    if let Some(child) = room.batch.get(&CHILD_BY_MISSING, &key)? {
        room.batch.delete(&CHILD_BY_MISSING, &key);
        room.batch.delete(&MISSING_BY_CHILD, &(key.0, child, key.1));
    }
    Ok(())
}

fn has_place(room: &Assembly<'_>, id: &EventId) -> Result<bool> {
    let Some(short) = room.rooms.intern().lookup_event(&room.batch, id)? else { return Ok(false) };
    let place = room.batch.get(&PLACE_BY_EVENT, &short)?;
    Ok(place.is_some_and(|place| !place.is_outlier()))
}
