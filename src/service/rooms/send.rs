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
use serde::Deserialize;
use serde_json::value::RawValue;
use wick_core::{Draft, Error, Result, TimerId};
use wick_database::{
    Range, Read,
    schema::room::{RELATION_BY_PARENT, TransactionAnswer},
};
use wick_room::{Appended, Assembly, Effects, TransactionKey};

use super::{Rooms, content, ensure_joined};
use crate::{Session, expiry::Prepared};

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
        let transaction = transaction(session, path, transaction_id);
        let content = content::parse(&content);
        let event_type = TimelineEventType::from(event_type);
        self.change(&room_id, |room| {
            if let Some(answer) = room.answer_of(&transaction)? {
                return Ok(Answer::again(answer));
            }
            let content = content?;
            ensure_joined(room, &session.user_id)?;
            if event_type == TimelineEventType::RoomCreate {
                return Err(Error::invalid_param("a room is created once"));
            }
            ensure_relation(self, room, &session.user_id, &event_type, &content)?;
            let (content, prepared) = self.prepare(session, &event_type, content)?;
            if event_type == TimelineEventType::RoomRedaction {
                let draft = self.redaction(session, room, redacts(&content)?, content)?;
                return append(room, draft, Some(transaction), None);
            }
            let sender = session.user_id.clone();
            let draft = Draft::message(room.room_id().to_owned(), sender, event_type, content);
            append(room, draft, Some(transaction), prepared)
        })
        .await
        .map(Answer::into_sent)
    }

    /// What becomes of a content before it is sent, and the one place that knows of events that
    /// expire.
    ///
    /// # Errors
    /// If the content asks for something that is not allowed.
    pub(super) fn prepare(
        &self,
        session: &Session,
        event_type: &TimelineEventType,
        mut content: CanonicalJsonObject,
    ) -> Result<(CanonicalJsonObject, Option<Prepared>)> {
        let prepared = self.expiry.prepare(&session.user_id, event_type, &mut content)?;
        Ok((content, prepared))
    }
}

/// An answer, with the place among its sender's timers that it holds until everything is written.
pub(super) struct Answer {
    sent: Sent,
    _prepared: Option<Prepared>,
}

impl Answer {
    pub(super) fn into_sent(self) -> Sent {
        self.sent
    }

    /// What was answered before.
    pub(super) fn again(answer: TransactionAnswer) -> Self {
        Self { sent: Sent { event_id: answer.event, timer: answer.timer }, _prepared: None }
    }

    /// Of an event that does not expire.
    pub(super) fn lasting(event_id: OwnedEventId) -> Self {
        Self { sent: Sent { event_id, timer: None }, _prepared: None }
    }
}

/// What a redaction that is sent like any event is of.
fn redacts(content: &CanonicalJsonObject) -> Result<OwnedEventId> {
    content::text(content, "redacts")
        .and_then(|event_id| event_id.try_into().ok())
        .ok_or_else(|| Error::bad_json("a redaction names an event in redacts"))
}

/// Appends an event that answers a request.
pub(super) fn append(
    room: &mut Assembly<'_>,
    draft: Draft,
    transaction: Option<TransactionKey>,
    prepared: Option<Prepared>,
) -> Result<Answer> {
    let arm = prepared.as_ref().map(|prepared| prepared.arm.clone());
    let timer = arm.as_ref().map(|arm| (arm.timer, arm.nonce));
    let Appended { pdu, .. } = room.append(draft, Effects { transaction, arm, finish: None })?;
    let sent = Sent { event_id: pdu.event_id.clone(), timer };
    Ok(Answer { sent, _prepared: prepared })
}

/// Which request it is; `path` is without the transaction id, and the same in all API versions.
pub(super) fn transaction(
    session: &Session,
    path: String,
    transaction_id: OwnedTransactionId,
) -> TransactionKey {
    TransactionKey {
        user: session.user,
        device_id: session.device_id.clone(),
        path,
        transaction_id: transaction_id.to_string(),
    }
}

#[derive(Deserialize)]
struct RelatesTo {
    rel_type: String,
    event_id: OwnedEventId,
    key: Option<String>,
}

#[derive(Deserialize)]
struct Related {
    #[serde(rename = "m.relates_to")]
    _relates_to: RelatesTo,
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
    let Some(relation) = content.get("m.relates_to") else { return Ok(()) };
    let relation = serde_json::to_value(relation).and_then(serde_json::from_value::<RelatesTo>);
    // A malformed relation is none.
    let Ok(RelatesTo { rel_type, event_id, key }) = relation else { return Ok(()) };
    let graph = &rooms.graph;
    match rel_type.as_str() {
        "m.annotation" => {
            let batch = room.batch();
            let Some(parent) = graph.intern().lookup_event(batch, &event_id)? else {
                return Ok(());
            };
            let event_type = event_type.to_string();
            for row in batch.scan(&RELATION_BY_PARENT, Range::prefix((parent, &*rel_type))) {
                let (_, row) = row?;
                if row.sender == sender && row.key == key && row.event_type == event_type {
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
            if root.content_as::<Related>().is_ok() {
                let message = "a thread cannot begin at an event that relates to another";
                return Err(Error::refused(ErrorKind::Unknown, message));
            }
            Ok(())
        }
        _ => Ok(()),
    }
}
