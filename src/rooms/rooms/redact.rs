//! Redacting events.
//!
//! <https://spec.matrix.org/v1.18/client-server-api/#redactions>

use ruma::{
    EventId, OwnedEventId, OwnedRoomId, OwnedTransactionId, UserId,
    canonical_json::CanonicalJsonObject,
    events::{TimelineEventType, room::power_levels::UserPowerLevel},
};
use wick_account::Session;
use wick_core::{Draft, Error, Result};
use wick_room::{Assembly, Effects};

use super::{
    Rooms, Sent, ensure_joined,
    event_request::{SendOutcome, append},
    power_levels,
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
    /// What the redaction says, such as its `reason`.
    pub content: CanonicalJsonObject,
}

impl Rooms {
    /// Redacts an event.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if the room has no such event, `M_FORBIDDEN` if it is not the sender's own and
    /// they lack the power.
    pub async fn redact(&self, session: &Session, redact: Redact) -> Result<Sent> {
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

    /// A redaction that its sender may send.
    pub(super) fn redaction(
        &self,
        sender: &UserId,
        room: &mut Assembly<'_>,
        target: OwnedEventId,
        content: CanonicalJsonObject,
    ) -> Result<Draft> {
        let event_type = TimelineEventType::RoomRedaction;
        ensure_joined(room, sender)?;
        // Refuses what would expire.
        let (content, _) = self.prepare(sender, &event_type, content)?;
        self.ensure_may_redact(room, sender, &target)?;
        let (room_id, sender) = (room.room_id().to_owned(), sender.to_owned());
        let mut draft = Draft::message(room_id, sender, event_type, content);
        draft.redacts = Some(target);
        Ok(draft)
    }

    fn ensure_may_redact(
        &self,
        room: &mut Assembly<'_>,
        sender: &UserId,
        target: &EventId,
    ) -> Result<()> {
        let target = self.graph.event_by_id(room.batch(), target)?.map(|(_, event)| event);
        let Some(target) = target.filter(|target| target.room_id == room.room_id()) else {
            return Err(Error::not_found("the room has no such event"));
        };
        if target.event_type == TimelineEventType::RoomCreate {
            return Err(Error::forbidden("a create event cannot be redacted"));
        }
        if target.sender == sender {
            return Ok(());
        }
        let levels = power_levels(room)?;
        if levels.for_user(sender) >= UserPowerLevel::Int(levels.redact) {
            Ok(())
        } else {
            Err(Error::forbidden("you may not redact events of others"))
        }
    }
}
