//! What somebody says in a room: the one way for what clients send, by whichever endpoint it came, now or
//! when a timer is due.

use ruma::{
    OwnedEventId, OwnedUserId, UserId,
    canonical_json::CanonicalJsonObject,
    events::{StateEventType, TimelineEventType},
};
use serde_json::value::RawValue;
use wick_core::{Draft, Error, Result};
use wick_database::schema::room::TransactionAnswer;
use wick_room::{Appended, Assembly, Effects};
use wick_timers::expiry::Prepared;

use super::{Rooms, Sent, content, send::redacts};

/// An event as its sender wants it.
#[derive(Clone)]
pub(crate) struct EventRequest {
    pub(crate) event_type: TimelineEventType,
    /// Of a state event.
    pub(crate) state_key: Option<String>,
    pub(crate) content: CanonicalJsonObject,
}

/// What was said, with the place among its sender's timers that it holds until everything is written.
pub(crate) struct SendOutcome {
    sent: Sent,
    /// Whether an event was made: who says what is the case already is told of the event that says so.
    pub(crate) appended: bool,
    _prepared: Option<Prepared>,
}

impl SendOutcome {
    /// The event.
    pub(crate) fn event_id(&self) -> &OwnedEventId {
        &self.sent.event_id
    }

    pub(super) fn into_sent(self) -> Sent {
        self.sent
    }

    /// What was answered before.
    pub(super) fn again(answer: TransactionAnswer) -> Self {
        let sent = Sent { event_id: answer.event, timer: answer.timer };
        Self { sent, appended: false, _prepared: None }
    }

    /// What is the case already.
    pub(super) fn already(event_id: OwnedEventId) -> Self {
        Self { sent: Sent { event_id, timer: None }, appended: false, _prepared: None }
    }
}

impl EventRequest {
    /// An event whose content comes from a client.
    ///
    /// # Errors
    /// `M_BAD_JSON` if the content is no canonical JSON object.
    pub(crate) fn read(
        event_type: TimelineEventType,
        state_key: Option<String>,
        content: &RawValue,
    ) -> Result<Self> {
        Ok(Self { event_type, state_key, content: content::parse(content)? })
    }

    /// Refuses what nobody can ever send this way.
    ///
    /// # Errors
    /// `M_INVALID_PARAM`, `M_BAD_JSON`.
    pub(crate) fn ensure_possible(&self) -> Result<()> {
        match (&self.event_type, &self.state_key) {
            (TimelineEventType::RoomCreate, _) => {
                Err(Error::invalid_param("a room is created once"))
            }
            // Whether somebody may redact is asked of messages alone.
            (TimelineEventType::RoomRedaction, Some(_)) => {
                Err(Error::invalid_param("a redaction is no state"))
            }
            (TimelineEventType::RoomMember, Some(state_key)) => member(state_key).map(drop),
            _ => Ok(()),
        }
    }

    /// The same, for what is said later, when it is too late to say so.
    ///
    /// # Errors
    /// As [`EventRequest::ensure_possible`].
    pub(crate) fn ensure_possible_later(&self) -> Result<()> {
        self.ensure_possible()?;
        if self.event_type == TimelineEventType::RoomRedaction {
            redacts(&self.content)?;
        }
        Ok(())
    }
}

impl Rooms {
    /// Appends an event as its sender wants it, with `effects` in the same batch.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if the sender may not, and everything else that is wrong with it.
    pub(crate) fn append_requested(
        &self,
        room: &mut Assembly<'_>,
        sender: &UserId,
        request: EventRequest,
        effects: Effects,
    ) -> Result<SendOutcome> {
        request.ensure_possible()?;
        let EventRequest { event_type, state_key, content } = request;
        match (event_type, state_key) {
            (TimelineEventType::RoomMember, Some(state_key)) => {
                self.append_requested_member(room, sender, &member(&state_key)?, content, effects)
            }
            (event_type, Some(state_key)) => {
                let event_type = StateEventType::from(event_type.to_string());
                self.append_state(room, sender, (event_type, state_key, content), effects)
            }
            (event_type, None) => self.append_message(room, sender, (event_type, content), effects),
        }
    }

    /// What becomes of a content before it is sent, and the one place that knows of events that
    /// expire.
    ///
    /// # Errors
    /// If the content asks for something that is not allowed.
    pub(super) fn prepare(
        &self,
        sender: &UserId,
        event_type: &TimelineEventType,
        mut content: CanonicalJsonObject,
    ) -> Result<(CanonicalJsonObject, Option<Prepared>)> {
        let prepared = self.expiry.prepare(sender, event_type, &mut content)?;
        Ok((content, prepared))
    }
}

/// Appends an event.
pub(super) fn append(
    room: &mut Assembly<'_>,
    draft: Draft,
    effects: Effects,
    prepared: Option<Prepared>,
) -> Result<SendOutcome> {
    let arm = prepared.as_ref().map(|prepared| prepared.arm.clone());
    let timer = arm.as_ref().map(|arm| (arm.timer, arm.nonce));
    let Appended { pdu, .. } = room.append(draft, Effects { arm, ..effects })?;
    let sent = Sent { event_id: pdu.event_id.clone(), timer };
    Ok(SendOutcome { sent, appended: true, _prepared: prepared })
}

fn member(state_key: &str) -> Result<OwnedUserId> {
    OwnedUserId::try_from(state_key)
        .map_err(|_| Error::invalid_param("the state key of a member event is a user id"))
}
