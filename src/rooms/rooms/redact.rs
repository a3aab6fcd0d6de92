//! Redacting events.
//!
//! <https://spec.matrix.org/v1.18/client-server-api/#redactions>

use ruma::{OwnedEventId, OwnedRoomId, OwnedTransactionId, canonical_json::CanonicalJsonObject};
use wick_account::Session;
use wick_core::Result;
use wick_room::Effects;
use wick_runtime::Limit;

use super::{
    Rooms, Sent,
    append::{SendOutcome, append},
    send::transaction,
};

/// An event to redact.
pub struct Redact {
    /// Where.
    pub room_id: OwnedRoomId,
    /// The event.
    pub event_id: OwnedEventId,
    /// The request's transaction id.
    pub transaction_id: OwnedTransactionId,
    /// The content of the redaction, such as its `reason`.
    pub content: CanonicalJsonObject,
}

impl Rooms {
    /// Redacts an event. One that is not here may be at another server of the room: a user who may redact events of others
    /// redacts it all the same.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if the room has no such event, `M_FORBIDDEN` if it is not the sender's own and
    /// they lack the power.
    pub async fn redact(&self, session: &Session, redact: Redact) -> Result<Sent> {
        self.resources.limits.ensure(Limit::Messages, &session.user_id)?;
        let Redact { room_id, event_id, transaction_id, content } = redact;
        let path = format!("rooms/{room_id}/redact/{event_id}");
        let transaction = transaction(session, path, transaction_id.as_str());
        self.change(&room_id, |room| {
            if let Some(answer) = room.answer_of(&transaction)? {
                return Ok(SendOutcome::again(answer));
            }
            let draft =
                self.redaction(&session.user_id, room, event_id.clone(), content.clone())?;
            let effects = Effects { transaction: Some(transaction.clone()), ..Effects::default() };
            append(room, draft, effects, None)
        })
        .await
        .map(SendOutcome::into_sent)
    }
}
