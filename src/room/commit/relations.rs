//! Relations, by parent; threads, by their newest event.

use ruma::{EventId, OwnedEventId};
use serde::Deserialize;
use wick_core::{Result, ShortEventId};
use wick_database::{
    Read,
    schema::room::{
        PARTICIPATION_BY_THREAD, PLACE_BY_EVENT, RELATION_BY_PARENT, RelationRow,
        THREAD_BY_ACTIVITY, THREAD_BY_ROOT, ThreadRow,
    },
};

use super::Entry;
use crate::{Assembly, assembly::timeline_place};

/// `m.relates_to`, as far as the server reads it.
#[derive(Deserialize)]
pub(crate) struct RelatesTo {
    pub(crate) rel_type: String,
    pub(crate) event_id: OwnedEventId,
    pub(crate) key: Option<String>,
}

#[derive(Deserialize)]
struct Content {
    #[serde(rename = "m.relates_to")]
    relates_to: Option<RelatesTo>,
}

/// What an event says it relates to. A malformed relation is none.
pub(crate) fn relates_to(content: &serde_json::value::RawValue) -> Option<RelatesTo> {
    // Only a content that mentions it is parsed: this runs for every event.
    if !content.get().contains("m.relates_to") {
        return None;
    }
    serde_json::from_str::<Content>(content.get()).ok()?.relates_to
}

pub(super) fn write(room: &mut Assembly<'_>, entry: &Entry) -> Result<()> {
    let Some(RelatesTo { rel_type, event_id, key }) = relates_to(&entry.pdu.content) else {
        return Ok(());
    };
    let parent = room.rooms.intern().event(&event_id, &mut room.batch)?;
    if rel_type == "m.thread" && is_in_room(room, parent, &event_id)? {
        write_thread(room, entry, parent)?;
    }
    let row = RelationRow {
        child: entry.short,
        event_type: entry.pdu.event_type.to_string(),
        sender: entry.pdu.sender.clone(),
        key,
    };
    room.batch.put_at(entry.slot, &RELATION_BY_PARENT, move |position| {
        ((parent, rel_type, timeline_place(position)), row)
    });
    Ok(())
}

fn is_in_room(room: &Assembly<'_>, event: ShortEventId, event_id: &EventId) -> Result<bool> {
    let place = room.batch.get(&PLACE_BY_EVENT, &event)?;
    tracing::trace!(%event_id, known = place.is_some(), "thread root");
    Ok(place.is_some_and(|place| place.room == room.room))
}

fn write_thread(room: &mut Assembly<'_>, entry: &Entry, root: ShortEventId) -> Result<()> {
    let key = (room.room, root);
    let known = room.batch.get(&THREAD_BY_ROOT, &key)?;
    let count = known.as_ref().map_or(1, |thread| thread.count.saturating_add(1));
    if let Some(thread) = known {
        room.batch.delete(&THREAD_BY_ACTIVITY, &(room.room, thread.latest_position));
    }
    let sender = room.rooms.intern().user(&entry.pdu.sender, &mut room.batch)?;
    room.batch.put(&PARTICIPATION_BY_THREAD, &(root, sender), &());
    let (room_short, latest) = (room.room, entry.short);
    room.batch.put_at(entry.slot, &THREAD_BY_ROOT, move |position| {
        (key, ThreadRow { latest_position: timeline_place(position), latest, count })
    });
    room.batch.put_at(entry.slot, &THREAD_BY_ACTIVITY, move |position| {
        ((room_short, timeline_place(position)), root)
    });
    Ok(())
}
