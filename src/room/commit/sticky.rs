//! Sticky events (MSC4354): notes until when an event is sticky, and forgets it when it is redacted.

use std::time::Duration;

use wick_core::{Result, ShortEventId};
use wick_database::{
    Read, Slot,
    schema::{
        room::PLACE_BY_EVENT,
        sticky::{STICKY_BY_END, STICKY_BY_ROOM, StickyRow},
    },
};

use super::Entry;
use crate::{Assembly, assembly::timeline_place};

/// The time begins when the event was sent, but not later than now, even if its `origin_server_ts` is later.
pub(super) fn write(room: &mut Assembly<'_>, entry: &Entry, slot: Slot) -> Result<()> {
    let Some(duration) = entry.pdu.sticky_duration else { return Ok(()) };
    let now = room.rooms.clock.now();
    let until = now.min(entry.pdu.origin_server_ts).after(Duration::from_millis(duration));
    if until <= now {
        return Ok(());
    }
    let sender = room.rooms.intern().user(&entry.pdu.sender, &mut room.batch)?;
    let row = StickyRow { event: entry.short, sender, until };
    let room_short = room.room;
    room.batch.put_at(slot, &STICKY_BY_ROOM, move |position| {
        ((room_short, timeline_place(position)), row)
    });
    room.batch.put_at(slot, &STICKY_BY_END, move |position| {
        ((until, room_short, timeline_place(position)), ())
    });
    Ok(())
}

/// An event that is redacted is not sticky any more.
pub(super) fn end(room: &mut Assembly<'_>, event: ShortEventId) -> Result<()> {
    let place = room.batch.get(&PLACE_BY_EVENT, &event)?;
    let Some(key) = place.and_then(|place| Some((place.room, place.position?))) else {
        return Ok(());
    };
    if let Some(row) = room.batch.get(&STICKY_BY_ROOM, &key)? {
        room.batch.delete(&STICKY_BY_ROOM, &key);
        room.batch.delete(&STICKY_BY_END, &(row.until, key.0, key.1));
    }
    Ok(())
}
