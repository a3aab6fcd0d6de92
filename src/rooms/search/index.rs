//! What an event adds to the indexes it is found by, in the event's own batch.

use ruma::events::TimelineEventType;
use serde::Deserialize;
use wick_core::{Pdu, Result, ShortEventId, ShortRoomId, words};
use wick_database::{
    Batch, Descending, Interner, Read,
    schema::{
        lookup::{EVENT_BY_TIMESTAMP, EVENT_BY_WORD},
        room::{PLACE_BY_EVENT, REDACTION_BY_EVENT},
    },
};
use wick_room::{Appended, Projection, Redacted, RelatesTo};

/// Keeps the indexes by time, by word and of the children of spaces.
pub(crate) struct Index;

/// The part of a content that is searched.
#[derive(Deserialize)]
struct Content {
    body: Option<serde_json::Value>,
    name: Option<serde_json::Value>,
    topic: Option<serde_json::Value>,
}

/// The searchable text of an event.
pub(crate) fn text(event: &Pdu) -> Option<String> {
    let content = || event.content_as::<Content>().ok();
    let value = match (&event.event_type, &event.state_key) {
        (TimelineEventType::RoomMessage, None) => content()?.body,
        (TimelineEventType::RoomName, Some(_)) => content()?.name,
        (TimelineEventType::RoomTopic, Some(_)) => content()?.topic,
        _ => None,
    };
    value.and_then(|value| value.as_str().map(str::to_owned))
}

impl Projection for Index {
    fn project(&self, event: &Appended, batch: &mut Batch) -> Result<()> {
        let (room, short, at) = (event.room, event.short, event.pdu.origin_server_ts);
        event.placement.put(batch, &EVENT_BY_TIMESTAMP, move |place| ((room, at, place), short));
        if let Some(Redacted { short, pdu, repeated }) = &event.redacted {
            forget_words(room, (*short, pdu), batch)?;
            for (short, pdu) in repeated {
                forget_words(room, (*short, pdu), batch)?;
            }
        }
        // It, or what it repeats, may have been redacted before it came.
        if is_redacted(batch, batch.database().intern(), (short, &event.pdu))? {
            return Ok(());
        }
        let Some(text) = text(&event.pdu) else { return Ok(()) };
        for word in words::distinct(&text) {
            event
                .placement
                .put(batch, &EVENT_BY_WORD, move |place| ((room, word, Descending(place)), short));
        }
        Ok(())
    }
}

/// Whether an event, or the one whose content it repeats, is redacted.
pub(super) fn is_redacted(
    read: &impl Read,
    intern: &Interner,
    (short, pdu): (ShortEventId, &Pdu),
) -> Result<bool> {
    if read.contains(&REDACTION_BY_EVENT, &short)? {
        return Ok(true);
    }
    let repeats = RelatesTo::of(&pdu.content).filter(RelatesTo::repeats);
    let Some(RelatesTo { event_id, .. }) = repeats else { return Ok(false) };
    let parent = intern.lookup_event(read, &event_id)?;
    Ok(parent.map_or(Ok(false), |parent| read.contains(&REDACTION_BY_EVENT, &parent))?)
}

/// Removes the words of an event as it was before a redaction.
fn forget_words(
    room: ShortRoomId,
    (short, pdu): (ShortEventId, &Pdu),
    batch: &mut Batch,
) -> Result<()> {
    let place = batch.get(&PLACE_BY_EVENT, &short)?;
    let Some(place) = place.and_then(|place| place.position) else { return Ok(()) };
    for word in text(pdu).iter().flat_map(|text| words::distinct(text)) {
        batch.delete(&EVENT_BY_WORD, &(room, word, Descending(place)));
    }
    Ok(())
}
