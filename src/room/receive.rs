//! Events from elsewhere: checked step by step, in the order of the specification.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#checks-performed-on-receipt-of-a-pdu>
//!
//! Invariants: no step is passed over, because each takes what the one before alone can make; nothing is
//! fetched here (R6), what is not known is [`Received::Missing`]; an event is stored only after its whole auth
//! chain; a rejected or soft-failed event is stored and never becomes a forward extremity.

mod auth;
mod format;
mod history;
mod judge;
mod order;
mod outliers;
mod snapshot;
mod store;
mod verified;

use ruma::{OwnedEventId, OwnedRoomId, RoomId, RoomVersionId, signatures::PublicKeyMap};
use serde_json::value::RawValue;
use wick_core::{Error, Result, StateRoot, rules};
use wick_database::Pending;

pub use self::{
    order::{by_auth_events, by_prev_events, topological_order},
    snapshot::Snapshot,
    verified::{Formatted, Verified},
};
use crate::{
    Appended, Assembly, Graph,
    graph::Attempt,
    policy::{PolicyChecks, Verdict},
};

/// An event to receive, with what is known about it.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// The event.
    pub event: Verified,
    /// The state before it as another server has it, by [`Graph::state_of`]. Needed if not all of its prev events
    /// can be had, and used in that case alone. If it refuses what the event's auth events allow, the event stays
    /// [`Received::Missing`].
    pub state: Option<StateRoot>,
}

impl From<Verified> for Incoming {
    fn from(event: Verified) -> Self {
        Self { event, state: None }
    }
}

/// What became of an event from elsewhere.
#[derive(Clone, Debug)]
pub enum Received {
    /// It is part of the room.
    Accepted(Appended),
    /// It is stored outside of the timeline, because the state around it is not known.
    Outlier(OwnedEventId),
    /// Its own history allows it, the room as it is now or its policy server does not: stored, and neither shown nor built on.
    SoftFailed(OwnedEventId),
    /// The auth rules refuse it, for this reason: stored as rejected.
    Rejected(OwnedEventId, String),
    /// It cannot be judged yet.
    Missing(Gaps),
    /// It cannot be judged before the room's policy server answers: not stored.
    Later(OwnedEventId),
    /// It was received before.
    Known(OwnedEventId),
    /// It can never be part of the room, for this reason: not stored.
    Dropped(OwnedEventId, String),
}

/// The events that have to be received before another one can be judged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gaps {
    /// Those of its prev events that are not here, or the state around which is not known.
    pub prev: Vec<OwnedEventId>,
    /// Those of its auth events that are not here.
    pub auth: Vec<OwnedEventId>,
}

impl Gaps {
    /// Whether nothing is missing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.prev.is_empty() && self.auth.is_empty()
    }
}

impl Graph {
    /// Receives events of a room that is here, in this order and in one batch. The caller bounds how many.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if the room is not here. A database error.
    pub async fn receive(&self, room_id: &RoomId, events: &[Incoming]) -> Result<Vec<Received>> {
        self.receive_if(room_id, events, |_| Ok(())).await
    }

    /// As [`Graph::receive`], unless `condition` fails in the room as it is then.
    ///
    /// # Errors
    /// As [`Graph::receive`]; those of `condition`.
    pub async fn receive_if(
        &self,
        room_id: &RoomId,
        events: &[Incoming],
        mut condition: impl FnMut(&mut Assembly<'_>) -> Result<()>,
    ) -> Result<Vec<Received>> {
        let receive = |room: &mut Assembly<'_>| {
            condition(room)?;
            room.receive_all(events)
        };
        self.transact(room_id, receive).await
    }

    /// As [`Graph::receive`], on the calling thread and without the room's lock; for large resolutions. `None`
    /// if the room has changed meanwhile, or a policy server is to be asked: then nothing was written, and [`Graph::receive`]
    /// finds what was resolved.
    ///
    /// # Errors
    /// As [`Graph::receive`].
    pub fn try_receive(
        &self,
        room_id: &RoomId,
        events: &[Incoming],
    ) -> Result<Option<(Vec<Received>, Pending)>> {
        let mut checks = PolicyChecks::default();
        let receive = &mut |room: &mut Assembly<'_>| room.receive_all(events);
        Ok(match self.attempt(room_id, 1, &mut checks, receive)? {
            Attempt::Written(received, pending) => Some((received, pending)),
            Attempt::Conflict | Attempt::Unsigned => None,
        })
    }

    /// Makes a room that began elsewhere, from its create event.
    ///
    /// # Errors
    /// `M_BAD_JSON` if it is no event of this room version, `M_FORBIDDEN` if its signature is wrong or the auth
    /// rules refuse it; `M_UNSUPPORTED_ROOM_VERSION`; a conflict if the room is here already.
    pub async fn receive_create(
        &self,
        version: RoomVersionId,
        json: &RawValue,
        keys: &PublicKeyMap,
    ) -> Result<OwnedRoomId> {
        let version_rules = rules::version_rules(&version)?;
        let verified = Verified::check(json, None, &version_rules, keys)?;
        let authorized = auth::create(verified, &version, &version_rules)?;
        self.create_received(authorized, version, version_rules).await
    }
}

impl Assembly<'_> {
    fn receive_all(&mut self, events: &[Incoming]) -> Result<Vec<Received>> {
        events.iter().map(|event| self.receive(event)).collect()
    }

    /// Receives one event.
    ///
    /// # Errors
    /// If the database fails. What is wrong with the event is part of the answer, so that the others of the batch
    /// can be received.
    fn receive(&mut self, incoming: &Incoming) -> Result<Received> {
        let event_id = incoming.event.event_id().to_owned();
        let mut judged = match judge::judge(self, incoming)? {
            Ok(judged) => judged,
            Err(received) => return Ok(received),
        };
        if let Some(reason) = judged.rejected.clone() {
            // Another server's word alone is no reason to refuse it, and all that follows on it, for good.
            if !judged.is_whole
                && judged.is_allowed_by_auth_events
                && let Ok(gaps) = judge::gaps(self, &Incoming::from(incoming.event.clone()))?
            {
                return Ok(Received::Missing(gaps));
            }
            store::reject(self, judged)?;
            return Ok(Received::Rejected(event_id, reason));
        }
        // With a gap before it, the room as it is here may be long out of date.
        let current = match judged.is_whole {
            true => self.head.state,
            false => store::current_state(self, &[], judged.before)?,
        };
        judged.soft_failed = auth::by_state(self, &judged.pdu, current)?.is_err();
        if !judged.soft_failed {
            match self.verdict(&judged.pdu)? {
                Verdict::Recommended(pdu) => judged.pdu = pdu,
                Verdict::Refused(_) => judged.soft_failed = true,
                Verdict::Unavailable(_) => return Ok(Received::Later(event_id)),
                Verdict::Unknown => {}
            }
        }
        if judged.soft_failed {
            store::refuse(self, judged)?;
            return Ok(Received::SoftFailed(event_id));
        }
        store::accept(self, judged, None).map(Received::Accepted)
    }
}

/// An event that is dropped.
fn dropped(reason: impl std::fmt::Display) -> Error {
    Error::bad_json(format!("the event is malformed: {reason}"))
}
