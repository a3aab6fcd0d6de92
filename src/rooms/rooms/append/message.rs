//! Appending messages.

use ruma::{
    UserId, api::error::ErrorKind, canonical_json::CanonicalJsonObject, events::TimelineEventType,
};
use wick_core::{Draft, Error, Result};
use wick_database::{Range, Read, schema::room::RELATION_BY_SENDER};
use wick_room::{Assembly, Effects, RelatesTo};

use super::{SendOutcome, append};
use crate::rooms::{Rooms, content, ensure_joined};

impl Rooms {
    /// Appends an event that is no state.
    pub(in crate::rooms) fn append_message(
        &self,
        room: &mut Assembly<'_>,
        sender: &UserId,
        (event_type, content, sticky_duration): (
            TimelineEventType,
            CanonicalJsonObject,
            Option<u64>,
        ),
        effects: Effects,
    ) -> Result<SendOutcome> {
        ensure_joined(room, sender)?;
        ensure_relation(self, room, sender, &event_type, &content)?;
        let (content, prepared) = self.prepare(sender, &event_type, content)?;
        if event_type == TimelineEventType::RoomRedaction {
            let draft = self.redaction(sender, room, content::redacts(&content)?, content)?;
            return append(room, Draft { sticky_duration, ..draft }, effects, None);
        }
        let (room_id, sender) = (room.room_id().to_owned(), sender.to_owned());
        let draft = Draft::message(room_id, sender, event_type, content);
        append(room, Draft { sticky_duration, ..draft }, effects, prepared)
    }
}

/// One annotation of a kind per user, and no thread that begins at an event that relates to another.
///
/// <https://spec.matrix.org/v1.18/client-server-api/#avoiding-duplicate-annotations>
fn ensure_relation(
    rooms: &Rooms,
    room: &mut Assembly<'_>,
    sender: &UserId,
    event_type: &TimelineEventType,
    content: &CanonicalJsonObject,
) -> Result<()> {
    let Some(RelatesTo { rel_type, event_id, key }) = RelatesTo::of_object(content) else {
        return Ok(());
    };
    let graph = &rooms.graph;
    match rel_type.as_str() {
        "m.annotation" => {
            let batch = room.batch();
            let parent = graph.intern().lookup_event(batch, &event_id)?;
            let sender = graph.intern().lookup_user(batch, sender)?;
            let (Some(parent), Some(sender)) = (parent, sender) else { return Ok(()) };
            let event_type = event_type.to_string();
            let own = Range::prefix((parent, sender, &*rel_type));
            for row in batch.scan(&RELATION_BY_SENDER, own) {
                let (_, row) = row?;
                if row.key == key && row.event_type == event_type {
                    let message = "you have already reacted like that";
                    return Err(Error::refused(ErrorKind::DuplicateAnnotation, message));
                }
            }
            Ok(())
        }
        "m.thread" => {
            let Some((_, root)) = graph.event_by_id(room.batch(), &event_id)? else {
                return Ok(());
            };
            if RelatesTo::of(&root.content).is_some() {
                let message = "a thread cannot begin at an event that relates to another";
                return Err(Error::refused(ErrorKind::Unknown, message));
            }
            Ok(())
        }
        _ => Ok(()),
    }
}
