//! What a redaction reaches: the stored content, its relation, its timer.

use ruma::{
    EventId, canonical_json,
    events::room::power_levels::RoomPowerLevels,
    events::{StateEventType, TimelineEventType},
};
use wick_core::{Error, Pdu, Result, event::pdu::SharedPdu};
use wick_database::{
    Range, Read,
    schema::{
        room::{REDACTION_BY_EVENT, REDACTION_OF_MISSING, STORED_BY_EVENT},
        timer::EXPIRY_BY_EVENT,
    },
};

use super::{Entry, expiry, relations, sticky};
use crate::{Assembly, Outcome, assembly::share, membership, stage::Redacted};

/// Returns the event that was redacted.
pub(super) fn write(room: &mut Assembly<'_>, entry: &Entry) -> Result<Option<Redacted>> {
    match &entry.pdu.redacts {
        Some(target) if entry.pdu.event_type == TimelineEventType::RoomRedaction => {
            redact_target(room, entry, target)
        }
        _ => Ok(None),
    }
}

/// An event whose redaction came before it is stored redacted from the beginning.
pub(super) fn apply_earlier(room: &mut Assembly<'_>, entry: &mut Entry) -> Result<()> {
    let known = room.batch.get(&REDACTION_BY_EVENT, &entry.short)?;
    let rows = Range::prefix((entry.short,));
    let waiting = room.batch.scan(&REDACTION_OF_MISSING, rows).keys();
    let waiting = waiting.collect::<Result<Vec<_>, _>>()?;
    for row in &waiting {
        room.batch.delete(&REDACTION_OF_MISSING, row);
    }
    for redaction in known.into_iter().chain(waiting.iter().map(|(_, redaction)| *redaction)) {
        let pdu = room.rooms.events.load(&room.batch, redaction)?;
        if pdu.room_id == entry.pdu.room_id && may_redact(room, &pdu, &entry.pdu)? {
            room.batch.put(&REDACTION_BY_EVENT, &entry.short, &redaction);
            entry.pdu = redacted(room, &entry.pdu)?;
            return Ok(());
        }
    }
    if known.is_some() {
        room.batch.delete(&REDACTION_BY_EVENT, &entry.short);
    }
    Ok(())
}

fn redact_target(
    room: &mut Assembly<'_>,
    entry: &Entry,
    target_id: &EventId,
) -> Result<Option<Redacted>> {
    let target = room.rooms.intern().event(target_id, &mut room.batch)?;
    let Some(mut stored) = room.batch.get(&STORED_BY_EVENT, &target)? else {
        // It takes effect when its target is received, if its sender may redact that.
        room.batch.put(&REDACTION_OF_MISSING, &(target, entry.short), &());
        return Ok(None);
    };
    let already = room.batch.contains(&REDACTION_BY_EVENT, &target)?;
    if stored.room_id != room.room_id || already {
        return Ok(None);
    }
    let pdu = room.rooms.events.load(&room.batch, target)?;
    if !may_redact(room, &entry.pdu, &pdu)? {
        return Ok(None);
    }
    relations::remove(room, target, &pdu)?;
    let repeated = relations::repeated(room, target)?;
    let left = redacted(room, &pdu)?;
    stored.json = left.json.get().to_owned();
    room.batch.put(&STORED_BY_EVENT, &target, &stored);
    room.replaced.push((target, left));
    room.batch.put(&REDACTION_BY_EVENT, &target, &entry.short);
    room.batch.delete(&EXPIRY_BY_EVENT, &target);
    expiry::stop(room, target, Outcome::Redacted)?;
    sticky::end(room, target)?;
    Ok(Some(Redacted { short: target, pdu, repeated }))
}

fn redacted(room: &Assembly<'_>, pdu: &Pdu) -> Result<SharedPdu> {
    let mut object = pdu
        .to_canonical_object()
        .map_err(|error| Error::internal("a stored event is not canonical", error))?;
    canonical_json::redact_in_place(&mut object, &room.rules.redaction, None)
        .map_err(|error| Error::internal("a stored event cannot be redacted", error))?;
    let json = serde_json::value::to_raw_value(&object)
        .map_err(|error| Error::internal("could not serialize a redacted event", error))?;
    let mut redacted =
        Pdu::parse(pdu.event_id.clone(), pdu.room_id.clone(), json, &room.rules.redaction)
            .map_err(|error| Error::internal("a redacted event cannot be parsed", error))?;
    redacted.rejected = pdu.rejected;
    Ok(share(redacted))
}

/// Since version 3 the auth rules let every redaction pass, and it takes effect if its sender has the
/// power or comes from the target's server.
///
/// <https://spec.matrix.org/v1.18/rooms/v12/#handling-redactions>
fn may_redact(room: &Assembly<'_>, redaction: &Pdu, target: &Pdu) -> Result<bool> {
    if redaction.sender.server_name() == target.sender.server_name() {
        return Ok(true);
    }
    let levels: RoomPowerLevels = membership::power_levels(
        &room.rules,
        room.state_event(&StateEventType::RoomCreate, "")?.as_deref(),
        room.state_event(&StateEventType::RoomPowerLevels, "")?.as_deref(),
    )?;
    Ok(levels.for_user(&redaction.sender) >= levels.redact)
}
