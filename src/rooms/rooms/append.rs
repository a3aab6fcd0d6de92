//! Appending what clients send to a room that is being changed: the content is prepared, the event built.
//!
//! Invariant: no content of a client becomes part of an event but through [`Rooms::prepare`].

mod message;
mod redaction;
mod state;

use ruma::{OwnedEventId, UserId, canonical_json::CanonicalJsonObject, events::TimelineEventType};
use wick_core::{Draft, Result, TimerId};
use wick_database::schema::room::TransactionAnswer;
use wick_room::{Appended, Assembly, Effects};
use wick_timers::expiry::Prepared;

use super::Rooms;

/// What a request to send something is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The event.
    pub event_id: OwnedEventId,
    /// The timer that will end it, with its nonce.
    pub timer: Option<(TimerId, u64)>,
}

/// An event that was sent, with the place among its sender's timers that is held for it until everything is
/// written.
pub(crate) struct SendOutcome {
    sent: Sent,
    /// Whether an event was made: the existing one is returned if nothing would change.
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

    /// The answer that the same request was given before.
    pub(super) fn again(answer: TransactionAnswer) -> Self {
        let sent = Sent { event_id: answer.event, timer: answer.timer };
        Self { sent, appended: false, _prepared: None }
    }

    /// The existing event, if nothing would change.
    pub(super) fn existing(event_id: OwnedEventId) -> Self {
        Self { sent: Sent { event_id, timer: None }, appended: false, _prepared: None }
    }
}

impl Rooms {
    /// A content as it is sent, and the timer to arm if it asks for one. The only place that handles events
    /// that expire.
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
