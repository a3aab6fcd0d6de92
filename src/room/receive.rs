//! Events from elsewhere: checked step by step, in the order of the specification.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#checks-performed-on-receipt-of-a-pdu>
//!
//! Invariants: no step is passed over, because each takes what the one before alone can make; nothing is
//! fetched here (R6), what is not known is [`Received::Missing`]; a rejected or soft-failed event is stored
//! and never becomes a forward extremity.

mod auth;
mod format;
mod signature;
mod soft_fail;
mod store;

use ruma::{
    OwnedEventId, OwnedRoomId, RoomId, RoomVersionId, room_version_rules::RoomVersionRules,
    signatures::PublicKeyMap,
};
use serde_json::value::RawValue;
use wick_core::{Error, Result, ShortEventId, StateRoot, rules};
use wick_database::{
    Read,
    schema::room::{PLACE_BY_EVENT, Place, STORED_BY_EVENT},
};

pub(crate) use self::signature::Verified;
use crate::{Appended, Assembly, Graph, resolve};

/// What became of an event from elsewhere.
#[derive(Clone, Debug)]
pub enum Received {
    /// It is part of the room.
    Accepted(Appended),
    /// Its own history allows it, the room as it is now does not: stored, and neither shown nor built on.
    SoftFailed(OwnedEventId),
    /// The auth rules refuse it, for this reason: stored as rejected.
    Rejected(OwnedEventId, String),
    /// These events have to be received before it can be judged.
    Missing(Vec<OwnedEventId>),
    /// It was received before.
    Known(OwnedEventId),
}

/// An event whose history is known, with what follows from that history.
pub(crate) struct Judged {
    pub(crate) verified: Verified,
    /// The events it was built on.
    pub(crate) prev: Vec<ShortEventId>,
    /// The state before it.
    pub(crate) before: StateRoot,
    /// Why the auth rules refuse it, if they do.
    pub(crate) rejected: Option<String>,
    /// Whether the current state refuses it.
    pub(crate) soft_failed: bool,
}

impl Graph {
    /// Receives one event of a known room. `keys` are the signing keys of the servers that had to sign
    /// it, each of which was valid at the time of the event.
    ///
    /// # Errors
    /// `M_BAD_JSON` if it is no event of this room version, `M_FORBIDDEN` if a signature is wrong: the event
    /// is dropped. `M_NOT_FOUND` if the room is unknown. A database error.
    pub async fn receive(
        &self,
        room_id: &RoomId,
        json: &RawValue,
        keys: &PublicKeyMap,
    ) -> Result<Received> {
        self.transact(room_id, |room| room.receive(json, keys)).await
    }

    /// Makes a room that began elsewhere, from its create event.
    ///
    /// # Errors
    /// As [`Graph::receive`]; `M_UNSUPPORTED_ROOM_VERSION`; `M_FORBIDDEN` if the auth rules refuse the event;
    /// a conflict if the room exists already.
    pub async fn receive_create(
        &self,
        version: RoomVersionId,
        json: &RawValue,
        keys: &PublicKeyMap,
    ) -> Result<OwnedRoomId> {
        let version_rules = rules::version_rules(&version)?;
        let verified = verify(json, None, &version_rules, keys)?;
        let authorized = auth::create(verified, &version, &version_rules)?;
        self.create_received(authorized, version, version_rules).await
    }
}

impl Assembly<'_> {
    /// Receives one event under the room's lock. No more than one in a batch: what is written with a position
    /// cannot be read before it is given.
    ///
    /// # Errors
    /// As [`Graph::receive`].
    fn receive(&mut self, json: &RawValue, keys: &PublicKeyMap) -> Result<Received> {
        let verified = verify(json, Some(&self.room_id), &self.rules, keys)?;
        let event_id = verified.pdu.event_id.clone();
        if stored(self, &event_id)?.is_some() {
            return Ok(Received::Known(event_id));
        }
        let missing = missing(self, &verified)?;
        if !missing.is_empty() {
            return Ok(Received::Missing(missing));
        }
        let judged = judge(self, verified)?;
        if let Some(reason) = judged.rejected.clone() {
            store::refuse(self, judged)?;
            return Ok(Received::Rejected(event_id, reason));
        }
        if judged.soft_failed {
            store::refuse(self, judged)?;
            return Ok(Received::SoftFailed(event_id));
        }
        store::accept(self, judged).map(Received::Accepted)
    }
}

/// The steps that need nothing but the event: format, signatures, content hash.
fn verify(
    json: &RawValue,
    room_id: Option<&RoomId>,
    rules: &RoomVersionRules,
    keys: &PublicKeyMap,
) -> Result<Verified> {
    let object = format::check(json, room_id, rules)?;
    signature::check(object, room_id, rules, keys)
}

/// The steps that need the room: its auth events, the state before it, the current state.
fn judge(room: &mut Assembly<'_>, verified: Verified) -> Result<Judged> {
    let mut prev = Vec::new();
    let mut roots = Vec::new();
    for id in &verified.pdu.prev_events {
        if let Some((short, place)) = placed(room, id)? {
            prev.push(short);
            roots.push(place.after);
        }
    }
    let before = resolve::resolve(room.rooms, &mut room.batch, (room.room, &room.rules), &roots)?;
    let rejected = match auth::by_auth_events(room, &verified.pdu)? {
        Ok(()) => auth::by_state(room, &verified.pdu, before)?.err(),
        Err(reason) => Some(reason),
    };
    let soft_failed = rejected.is_none() && soft_fail::check(room, &verified.pdu)?.is_err();
    Ok(Judged { verified, prev, before, rejected, soft_failed })
}

/// The events it refers to that this server does not have, or of which it does not know the state.
fn missing(room: &Assembly<'_>, verified: &Verified) -> Result<Vec<OwnedEventId>> {
    let mut missing = Vec::new();
    for id in &verified.pdu.prev_events {
        if placed(room, id)?.is_none() {
            missing.push(id.clone());
        }
    }
    for id in &verified.pdu.auth_events {
        if !missing.contains(id) && stored(room, id)?.is_none() {
            missing.push(id.clone());
        }
    }
    Ok(missing)
}

fn stored(room: &Assembly<'_>, id: &OwnedEventId) -> Result<Option<ShortEventId>> {
    let Some(short) = room.rooms.intern().lookup_event(&room.batch, id)? else { return Ok(None) };
    Ok(room.batch.contains(&STORED_BY_EVENT, &short)?.then_some(short))
}

/// An event of this room with its place in it.
fn placed(room: &Assembly<'_>, id: &OwnedEventId) -> Result<Option<(ShortEventId, Place)>> {
    let Some(short) = stored(room, id)? else { return Ok(None) };
    let Some(place) = room.batch.get(&PLACE_BY_EVENT, &short)? else { return Ok(None) };
    if place.room != room.room {
        // To ask for it would bring the same event again and again.
        return Err(dropped("it refers to an event of another room"));
    }
    Ok(Some((short, place)))
}

/// An event that is dropped.
fn dropped(reason: impl std::fmt::Display) -> Error {
    Error::bad_json(format!("the event is malformed: {reason}"))
}
