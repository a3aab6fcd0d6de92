//! Sending messages.
//!
//! Invariant: a request with a transaction id that was answered is answered the same, whatever else
//! has become of its content, the room or its sender.
//!
//! <https://spec.matrix.org/v1.18/client-server-api/#sending-events-to-a-room>

use ruma::{
    OwnedEventId, OwnedRoomId, OwnedTransactionId, UserId,
    api::error::ErrorKind,
    canonical_json::CanonicalJsonObject,
    events::{MessageLikeEventType, TimelineEventType},
};
use serde_json::value::RawValue;
use wick_account::Session;
use wick_core::{Draft, Error, Result, TimerId};
use wick_database::{Range, Read, schema::room::RELATION_BY_SENDER};
use wick_room::{Assembly, Effects, RelatesTo, TransactionKey};

use super::{
    Rooms, content, ensure_joined,
    event_request::{EventRequest, SendOutcome, append},
};

/// A message to send.
pub struct SendMessage {
    /// Where.
    pub room_id: OwnedRoomId,
    /// Its type.
    pub event_type: MessageLikeEventType,
    /// What it says.
    pub content: Box<RawValue>,
    /// The request's transaction id.
    pub transaction_id: OwnedTransactionId,
}

/// What a request to send something is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The event.
    pub event_id: OwnedEventId,
    /// The timer that will end it, with its nonce.
    pub timer: Option<(TimerId, u64)>,
}

impl Rooms {
    /// Sends a message.
    ///
    /// # Errors
    /// `M_BAD_JSON` if the content is no canonical JSON, `M_TOO_LARGE`, `M_FORBIDDEN` if the sender is
    /// not in the room or may not, `M_DUPLICATE_ANNOTATION`.
    pub async fn send(&self, session: &Session, message: SendMessage) -> Result<Sent> {
        let SendMessage { room_id, event_type, content, transaction_id } = message;
        let path = format!("rooms/{room_id}/send/{event_type}");
        let transaction = transaction(session, path, transaction_id.as_str());
        // By its name: as the type of a message, that of a piece of state would be no known one.
        let event_type = TimelineEventType::from(event_type.to_string());
        self.change(&room_id, |room| {
            if let Some(answer) = room.answer_of(&transaction)? {
                return Ok(SendOutcome::again(answer));
            }
            let effects = Effects { transaction: Some(transaction.clone()), ..Effects::default() };
            let request = EventRequest::read(event_type.clone(), None, &content)?;
            self.append_requested(room, &session.user_id, request, effects)
        })
        .await
        .map(SendOutcome::into_sent)
    }

    /// Appends an event that is no state.
    pub(super) fn append_message(
        &self,
        room: &mut Assembly<'_>,
        sender: &UserId,
        (event_type, content): (TimelineEventType, CanonicalJsonObject),
        effects: Effects,
    ) -> Result<SendOutcome> {
        ensure_joined(room, sender)?;
        ensure_relation(self, room, sender, &event_type, &content)?;
        let (content, prepared) = self.prepare(sender, &event_type, content)?;
        if event_type == TimelineEventType::RoomRedaction {
            let draft = self.redaction(sender, room, redacts(&content)?, content)?;
            return append(room, draft, effects, None);
        }
        let (room_id, sender) = (room.room_id().to_owned(), sender.to_owned());
        append(room, Draft::message(room_id, sender, event_type, content), effects, prepared)
    }
}

/// What a redaction that is sent like any event is of.
pub(super) fn redacts(content: &CanonicalJsonObject) -> Result<OwnedEventId> {
    content::text(content, "redacts")
        .and_then(|event_id| event_id.try_into().ok())
        .ok_or_else(|| Error::bad_json("a redaction names an event in redacts"))
}

/// Which request it is; `path` is without the transaction id, and the same in all API versions.
pub(crate) fn transaction(session: &Session, path: String, transaction_id: &str) -> TransactionKey {
    TransactionKey {
        user: session.user,
        device_id: session.device_id.clone(),
        path,
        transaction_id: transaction_id.to_owned(),
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
