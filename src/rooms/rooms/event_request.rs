//! Events as clients request them, by whichever endpoint, to be sent now or when a timer is due.

use ruma::{
    OwnedUserId, UserId,
    canonical_json::CanonicalJsonObject,
    events::{StateEventType, TimelineEventType},
};
use serde_json::value::RawValue;
use wick_core::{Error, Result};
use wick_room::{Assembly, Effects};

use super::{Rooms, append::SendOutcome, content};

/// An event as it was requested.
#[derive(Clone)]
pub(crate) struct EventRequest {
    pub(crate) event_type: TimelineEventType,
    /// Of a state event.
    pub(crate) state_key: Option<String>,
    pub(crate) content: CanonicalJsonObject,
    /// For how long a message is to be sticky, in milliseconds (MSC4354).
    pub(crate) sticky_duration: Option<u64>,
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
        let content = content::parse(content)?;
        Ok(Self { event_type, state_key, content, sticky_duration: None })
    }

    /// The same, sticky for so many milliseconds.
    pub(crate) fn sticky(self, sticky_duration: Option<u64>) -> Self {
        Self { sticky_duration, ..self }
    }

    /// Refuses what can never be sent this way.
    ///
    /// # Errors
    /// `M_INVALID_PARAM`, `M_BAD_JSON`.
    pub(crate) fn ensure_possible(&self) -> Result<()> {
        match (&self.event_type, &self.state_key) {
            (TimelineEventType::RoomCreate, _) => {
                Err(Error::invalid_param("a room is created once"))
            }
            // The right to redact is checked for messages alone.
            (TimelineEventType::RoomRedaction, Some(_)) => {
                Err(Error::invalid_param("a redaction is no state"))
            }
            (TimelineEventType::RoomMember, Some(state_key)) => member(state_key).map(drop),
            _ => Ok(()),
        }
    }

    /// The same for an event that is sent later, when it is too late to answer so.
    ///
    /// # Errors
    /// As [`EventRequest::ensure_possible`].
    pub(crate) fn ensure_possible_later(&self) -> Result<()> {
        self.ensure_possible()?;
        if self.event_type == TimelineEventType::RoomRedaction {
            content::redacts(&self.content)?;
        }
        Ok(())
    }
}

impl Rooms {
    /// Appends an event as it was requested, with `effects` in the same batch.
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
        let EventRequest { event_type, state_key, content, sticky_duration } = request;
        match (event_type, state_key) {
            (TimelineEventType::RoomMember, Some(state_key)) => {
                self.append_requested_member(room, sender, &member(&state_key)?, content, effects)
            }
            (event_type, Some(state_key)) => {
                let event_type = StateEventType::from(event_type.to_string());
                self.append_state(room, sender, (event_type, state_key, content), effects)
            }
            (event_type, None) => {
                let message = (event_type, content, sticky_duration);
                self.append_message(room, sender, message, effects)
            }
        }
    }
}

fn member(state_key: &str) -> Result<OwnedUserId> {
    OwnedUserId::try_from(state_key)
        .map_err(|_| Error::invalid_param("the state key of a member event is a user id"))
}
