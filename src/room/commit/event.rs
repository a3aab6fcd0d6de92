//! The event itself and its place in the timeline.

use wick_core::Result;
use wick_database::schema::{
    room::{
        EVENT_BY_POSITION, PLACE_BY_EVENT, Place, ROOT_BY_POSITION, STORED_BY_EVENT, StoredEvent,
        TransactionEcho,
    },
    stream::{EVENT_BY_STREAM, StreamEntry},
};

use super::{Entry, Placement};
use crate::Assembly;

pub(super) fn write(room: &mut Assembly<'_>, entry: &Entry) -> Result<()> {
    let pdu = &entry.pdu;
    let stored = StoredEvent {
        event_id: pdu.event_id.clone(),
        room_id: pdu.room_id.clone(),
        rejected: pdu.rejected,
        json: pdu.json.get().to_owned(),
    };
    room.batch.put(&STORED_BY_EVENT, &entry.short, &stored);

    let transaction = entry.effects.transaction.as_ref().map(|key| TransactionEcho {
        device_id: key.device_id.to_string(),
        transaction_id: key.transaction_id.clone(),
    });
    let mut place = Place {
        room: room.room,
        position: None,
        before: entry.before,
        after: entry.after,
        soft_failed: false,
        transaction,
    };
    let (short, room_short) = (entry.short, room.room);
    let (placement, batch) = (entry.placement, &mut room.batch);
    placement.put(batch, &PLACE_BY_EVENT, move |at| {
        place.position = Some(at);
        (short, place)
    });
    placement.put(batch, &EVENT_BY_POSITION, move |at| ((room_short, at), short));
    match placement {
        Placement::End(slot) => {
            let entry = StreamEntry { room: room_short, event: short };
            batch.put_at(slot, &EVENT_BY_STREAM, move |position| (position, entry));
        }
        Placement::History(at) => batch.put(&ROOT_BY_POSITION, &(room_short, at), &entry.after),
    }
    Ok(())
}
