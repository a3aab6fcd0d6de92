//! Relations, by parent and by sender; threads, by their newest event.
//!
//! Invariant: a relation is in both indexes or in none; one to an event of another room is in none.

use ruma::UserId;
use wick_core::{Pdu, Result, ShortEventId, event::pdu::SharedPdu};
use wick_database::{
    Range, Read,
    schema::room::{
        PLACE_BY_EVENT, RELATION_BY_PARENT, RELATION_BY_SENDER, RelationRow, THREAD_BY_ACTIVITY,
        THREAD_BY_ROOT, ThreadRow,
    },
};

use super::{Entry, Placement};
use crate::{Assembly, RelatesTo, relation::REPEATING};

/// How many answers that came before the root of their thread are counted.
const MAX_EARLIER: usize = 1000;

/// How many events of each kind that repeats the content of an event its redaction reaches.
const MAX_REPEATED: usize = 100;

pub(super) fn write(room: &mut Assembly<'_>, entry: &Entry) -> Result<()> {
    let Some(RelatesTo { rel_type, event_id, key }) = RelatesTo::of(&entry.pdu.content) else {
        return Ok(());
    };
    let parent = room.rooms.intern().event(&event_id, &mut room.batch)?;
    let is_answer = rel_type == "m.thread";
    let place = if is_answer {
        // A root that comes meanwhile would not see this answer.
        room.batch.read_for_update(&PLACE_BY_EVENT, &parent)?
    } else {
        room.batch.get(&PLACE_BY_EVENT, &parent)?
    };
    if place.as_ref().is_some_and(|place| place.room != room.room) {
        return Ok(());
    }
    if is_answer && place.is_some() {
        write_thread(room, entry, parent)?;
    }
    let sender = room.rooms.intern().user(&entry.pdu.sender, &mut room.batch)?;
    let row = RelationRow {
        child: entry.short,
        event_type: entry.pdu.event_type.to_string(),
        sender: entry.pdu.sender.clone(),
        key,
    };
    let (same, kind) = (row.clone(), rel_type.clone());
    let (placement, batch) = (entry.placement, &mut room.batch);
    placement.put(batch, &RELATION_BY_PARENT, move |place| ((parent, rel_type, place), row));
    placement.put(batch, &RELATION_BY_SENDER, move |place| ((parent, sender, kind, place), same));
    Ok(())
}

fn write_thread(room: &mut Assembly<'_>, entry: &Entry, root: ShortEventId) -> Result<()> {
    let key = (room.room, root);
    let known = room.batch.get(&THREAD_BY_ROOT, &key)?;
    let count = known.as_ref().map_or(1, |thread| thread.count.saturating_add(1));
    if let (Placement::History(place), Some(thread)) = (entry.placement, &known)
        && place < thread.latest_position
    {
        // An older event of a thread with newer ones.
        room.batch.put(&THREAD_BY_ROOT, &key, &ThreadRow { count, ..thread.clone() });
        return Ok(());
    }
    if let Some(thread) = known {
        room.batch.delete(&THREAD_BY_ACTIVITY, &(room.room, thread.latest_position));
    }
    let (room_short, latest) = (room.room, entry.short);
    let (placement, batch) = (entry.placement, &mut room.batch);
    placement.put(batch, &THREAD_BY_ROOT, move |place| {
        (key, ThreadRow { latest_position: place, latest, count })
    });
    placement.put(batch, &THREAD_BY_ACTIVITY, move |place| ((room_short, place), root));
    Ok(())
}

/// The thread of an event whose answers came before it.
pub(super) fn apply_earlier(room: &mut Assembly<'_>, entry: &Entry) -> Result<()> {
    let (root, room_short) = (entry.short, room.room);
    if room.batch.contains(&THREAD_BY_ROOT, &(room_short, root))? {
        return Ok(());
    }
    let (mut newest, mut count) = (None, 0_u64);
    let answers = Range::prefix((root, "m.thread".to_owned()));
    for row in room.batch.scan_back(&RELATION_BY_PARENT, answers).take(MAX_EARLIER) {
        let ((.., place), row) = row?;
        // Events of other rooms can name it, too.
        let at = room.batch.get(&PLACE_BY_EVENT, &row.child)?;
        if at.is_some_and(|at| at.room == room_short) {
            newest = newest.or(Some((place, row.child)));
            count = count.saturating_add(1);
        }
    }
    let Some((latest_position, latest)) = newest else { return Ok(()) };
    room.batch.put_resolved(&THREAD_BY_ROOT, move |positions| {
        let latest_position = positions.of_place(latest_position);
        ((room_short, root), ThreadRow { latest_position, latest, count })
    });
    room.batch.put_resolved(&THREAD_BY_ACTIVITY, move |positions| {
        ((room_short, positions.of_place(latest_position)), root)
    });
    Ok(())
}

/// The newest events that repeat the content of an event, each with its short id.
pub(super) fn repeated(
    room: &Assembly<'_>,
    target: ShortEventId,
) -> Result<Vec<(ShortEventId, SharedPdu)>> {
    let mut repeated = Vec::new();
    for rel_type in REPEATING {
        let rows = Range::prefix((target, rel_type.to_owned()));
        for row in room.batch.scan_back(&RELATION_BY_PARENT, rows).take(MAX_REPEATED) {
            let (_, RelationRow { child, .. }) = row?;
            repeated.push((child, room.rooms.events.load(&room.batch, child)?));
        }
    }
    Ok(repeated)
}

/// Removes the relation of an event that is redacted: it relates to nothing any more.
pub(super) fn remove(room: &mut Assembly<'_>, target: ShortEventId, pdu: &Pdu) -> Result<()> {
    let Some(relation) = RelatesTo::of(&pdu.content) else { return Ok(()) };
    let parent = room.rooms.intern().lookup_event(&room.batch, &relation.event_id)?;
    let place = room.batch.get(&PLACE_BY_EVENT, &target)?.and_then(|place| place.position);
    let (Some(parent), Some(position)) = (parent, place) else { return Ok(()) };
    let (rel_type, sender): (_, &UserId) = (relation.rel_type, &pdu.sender);
    room.batch.delete(&RELATION_BY_PARENT, &(parent, &*rel_type, position));
    if let Some(sender) = room.rooms.intern().lookup_user(&room.batch, sender)? {
        room.batch.delete(&RELATION_BY_SENDER, &(parent, sender, &*rel_type, position));
    }
    if rel_type == "m.thread" {
        remove_from_thread(room, target, parent)?;
    }
    Ok(())
}

fn remove_from_thread(
    room: &mut Assembly<'_>,
    target: ShortEventId,
    root: ShortEventId,
) -> Result<()> {
    let key = (room.room, root);
    let Some(mut thread) = room.batch.get(&THREAD_BY_ROOT, &key)? else { return Ok(()) };
    thread.count = thread.count.saturating_sub(1);
    if thread.latest == target {
        room.batch.delete(&THREAD_BY_ACTIVITY, &(room.room, thread.latest_position));
        let rows = Range::prefix((root, "m.thread".to_owned()));
        let Some(((.., place), row)) = room.batch.last(&RELATION_BY_PARENT, rows)? else {
            room.batch.delete(&THREAD_BY_ROOT, &key);
            return Ok(());
        };
        (thread.latest_position, thread.latest) = (place, row.child);
        let room_short = room.room;
        room.batch.put_resolved(&THREAD_BY_ACTIVITY, move |positions| {
            ((room_short, positions.of_place(place)), root)
        });
    }
    room.batch.put_resolved(&THREAD_BY_ROOT, move |positions| {
        thread.latest_position = positions.of_place(thread.latest_position);
        (key, thread)
    });
    Ok(())
}
