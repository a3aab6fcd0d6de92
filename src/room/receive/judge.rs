//! The steps that need the room: what is missing, the auth events, the state before.

use ruma::EventId;
use wick_core::{Result, ShortEventId, StateRoot, event::pdu::SharedPdu};
use wick_database::{
    Read,
    schema::room::{PLACE_BY_EVENT, Place, STORED_BY_EVENT},
};

use super::{Gaps, Incoming, Received, auth};
use crate::{Assembly, resolve};

/// An event whose history is known, with what follows from that history.
pub(super) struct Judged {
    pub(super) pdu: SharedPdu,
    /// Those of the events it was built on that are here.
    pub(super) prev: Vec<ShortEventId>,
    /// Whether all of them are.
    pub(super) is_whole: bool,
    /// The state before it.
    pub(super) before: StateRoot,
    /// Why the auth rules refuse it, if they do.
    pub(super) rejected: Option<String>,
    /// Whether its auth events alone allow it.
    pub(super) is_allowed_by_auth_events: bool,
    /// Whether the current state refuses it.
    pub(super) soft_failed: bool,
}

/// The answer for an event that was received before with the state around it, unless it was rejected: what it
/// was rejected for may be no longer so.
fn known(room: &mut Assembly<'_>, id: &EventId) -> Result<Option<Received>> {
    let Some(short) = room.rooms.intern().lookup_event(&room.batch, id)? else { return Ok(None) };
    let Some(stored) = room.batch.read_for_update(&STORED_BY_EVENT, &short)? else {
        return Ok(None);
    };
    if stored.rejected {
        return Ok(None);
    }
    if stored.room_id != room.room_id {
        let reason = "it is an event of another room".to_owned();
        return Ok(Some(Received::Dropped(id.to_owned(), reason)));
    }
    let place = room.batch.get(&PLACE_BY_EVENT, &short)?;
    let is_known = place.is_some_and(|place| !place.is_outlier());
    Ok(is_known.then(|| Received::Known(id.to_owned())))
}

/// The events it refers to that this server does not have, or of which it does not know the state; the reason
/// if they can never be had.
pub(super) fn gaps(room: &Assembly<'_>, incoming: &Incoming) -> Result<Result<Gaps, String>> {
    let pdu = incoming.event.pdu();
    let mut gaps = Gaps::default();
    for id in &pdu.prev_events {
        match placed(room, id)? {
            // To ask for it would bring the same event again and again.
            Some((_, place)) if place.room != room.room => {
                return Ok(Err("it refers to an event of another room".to_owned()));
            }
            Some(_) => {}
            None if incoming.state.is_some() => {}
            None => gaps.prev.push(id.clone()),
        }
    }
    for id in &pdu.auth_events {
        if stored(room, id)?.is_none() {
            gaps.auth.push(id.clone());
        }
    }
    Ok(Ok(gaps))
}

/// Judges an event by its auth events and by the state before it; what became of it if it was received before, if
/// something is missing, or if it can never be judged.
pub(super) fn judge(
    room: &mut Assembly<'_>,
    incoming: &Incoming,
) -> Result<Result<Judged, Received>> {
    let id = incoming.event.event_id();
    if let Some(known) = known(room, id)? {
        return Ok(Err(known));
    }
    match gaps(room, incoming)? {
        Ok(gaps) if gaps.is_empty() => judge_whole(room, incoming).map(Ok),
        Ok(gaps) => Ok(Err(Received::Missing(gaps))),
        Err(reason) => Ok(Err(Received::Dropped(id.to_owned(), reason))),
    }
}

/// Judges an event of which nothing is missing.
fn judge_whole(room: &mut Assembly<'_>, incoming: &Incoming) -> Result<Judged> {
    let pdu = SharedPdu::clone(incoming.event.pdu());
    let mut prev = Vec::new();
    let mut roots = Vec::new();
    let mut is_whole = true;
    for id in &pdu.prev_events {
        match placed(room, id)? {
            Some((short, place)) => {
                prev.push(short);
                roots.push(place.after);
            }
            None => is_whole = false,
        }
    }
    let before = match incoming.state {
        Some(state) if !is_whole => state,
        _ => resolve::resolve(room.rooms, &mut room.batch, (room.room, &room.rules), &roots)?,
    };
    let chain = auth::Chain { rooms: room.rooms, batch: &room.batch, rules: &room.rules };
    let by_auth_events = chain.judge(&pdu)?;
    let is_allowed_by_auth_events = by_auth_events.is_ok();
    let rejected = match by_auth_events {
        Ok(()) => auth::by_state(room, &pdu, before)?.err(),
        Err(reason) => Some(reason),
    };
    let soft_failed = false;
    Ok(Judged { pdu, prev, is_whole, before, rejected, is_allowed_by_auth_events, soft_failed })
}

/// Whether it is the create event of the room, which is allowed by being that.
pub(super) fn is_create(room: &Assembly<'_>, pdu: &SharedPdu) -> Result<bool> {
    Ok(stored(room, &pdu.event_id)? == Some(room.head.create))
}

pub(super) fn stored(room: &Assembly<'_>, id: &EventId) -> Result<Option<ShortEventId>> {
    let Some(short) = room.rooms.intern().lookup_event(&room.batch, id)? else { return Ok(None) };
    Ok(room.batch.contains(&STORED_BY_EVENT, &short)?.then_some(short))
}

/// An event with its place, if the state around it is known.
fn placed(room: &Assembly<'_>, id: &EventId) -> Result<Option<(ShortEventId, Place)>> {
    let Some(short) = stored(room, id)? else { return Ok(None) };
    let place = room.batch.get(&PLACE_BY_EVENT, &short)?;
    Ok(place.filter(|place| !place.is_outlier()).map(|place| (short, place)))
}
