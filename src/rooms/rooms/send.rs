//! Sending messages.
//!
//! Invariant: a request with a transaction id that was answered is answered the same, whatever else
//! has become of its content, the room or its sender.
//!
//! <https://spec.matrix.org/v1.18/client-server-api/#sending-events-to-a-room>

use ruma::{
    OwnedRoomId, OwnedTransactionId,
    events::{MessageLikeEventType, TimelineEventType},
};
use serde_json::value::RawValue;
use wick_account::Session;
use wick_core::Result;
use wick_room::{Effects, TransactionKey};
use wick_runtime::Limit;

use super::{Rooms, Sent, append::SendOutcome, event_request::EventRequest, sticky};

/// A message to send.
pub struct SendMessage {
    /// Where.
    pub room_id: OwnedRoomId,
    /// Its type.
    pub event_type: MessageLikeEventType,
    /// Its content.
    pub content: Box<RawValue>,
    /// For how long it is sticky, in milliseconds (MSC4354).
    pub sticky_duration: Option<u64>,
    /// The request's transaction id.
    pub transaction_id: OwnedTransactionId,
}

impl Rooms {
    /// Sends a message.
    ///
    /// # Errors
    /// `M_BAD_JSON` if the content is no canonical JSON, `M_TOO_LARGE`, `M_FORBIDDEN` if the sender is
    /// not in the room or may not, `M_DUPLICATE_ANNOTATION`, `M_LIMIT_EXCEEDED` also if there are too many sticky
    /// events.
    pub async fn send(&self, session: &Session, message: SendMessage) -> Result<Sent> {
        self.resources.limits.ensure(Limit::Messages, &session.user_id)?;
        let SendMessage { room_id, event_type, content, sticky_duration, transaction_id } = message;
        let path = format!("rooms/{room_id}/send/{event_type}");
        let transaction = transaction(session, path, transaction_id.as_str());
        // By its name: as the type of a message, that of a piece of state would be no known one.
        let event_type = TimelineEventType::from(event_type.to_string());
        self.change(&room_id, |room| {
            if let Some(answer) = room.answer_of(&transaction)? {
                return Ok(SendOutcome::again(answer));
            }
            let effects = Effects { transaction: Some(transaction.clone()), ..Effects::default() };
            if sticky_duration.is_some() {
                sticky::ensure_few(&self.resources, room, session.user)?;
            }
            let request = EventRequest::read(event_type.clone(), None, &content)?;
            let request = request.sticky(sticky_duration);
            self.append_requested(room, &session.user_id, request, effects)
        })
        .await
        .map(SendOutcome::into_sent)
    }
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
