//! Expiring events: arms this event's timer, stops the timer of the state event it replaces, sets the
//! status of an event whose timer fires, and records the outcome that a terminal event gives its original, whichever of
//! the two came first.
//!
//! Invariant: a timer row exists exactly while its event runs; the commit that ends the event removes
//! the row in the same batch, so it ends once.

use ruma::{OwnedEventId, events::TimelineEventType};
use wick_core::{Error, Pdu, Result, ShortEventId, rules};
use wick_database::{
    Range, Read, Topic,
    schema::{
        room::RELATION_BY_PARENT,
        timer::{
            ENDED_BY_TIMER, EXPIRY_BY_EVENT, EndedRow, ExpiryRow, ExpiryStatus, TIMER_BY_EVENT,
            TIMER_BY_ID, TimerKind,
        },
    },
};
use wick_ruma::{EXPIRE_RELATION, ExpireStatus, TerminalContent, WILL_EXPIRE};

use super::{Entry, Placement, timer};
use crate::{Assembly, Finish, Outcome, TimerChange};

/// Types of events that a server must not repeat by itself, and that so cannot expire.
const NEVER: &[TimelineEventType] = &[
    TimelineEventType::RoomCreate,
    TimelineEventType::RoomMember,
    TimelineEventType::RoomPowerLevels,
    TimelineEventType::RoomJoinRules,
    TimelineEventType::RoomHistoryVisibility,
    TimelineEventType::RoomServerAcl,
    TimelineEventType::RoomEncryption,
    TimelineEventType::RoomTombstone,
    TimelineEventType::RoomRedaction,
];

/// Whether events of a type can expire. An event that relates to another one as its end cannot either.
#[must_use]
pub fn can_expire(event_type: &TimelineEventType) -> bool {
    !NEVER.contains(event_type)
}

pub(super) fn write(room: &mut Assembly<'_>, entry: &Entry) -> Result<()> {
    for change in &entry.changes {
        if let Some(old) = change.old {
            stop(room, old, Outcome::Superseded)?;
        }
    }
    arm(room, entry)
}

fn arm(room: &mut Assembly<'_>, entry: &Entry) -> Result<()> {
    let Some(arm) = &entry.effects.arm else { return Ok(()) };
    check_copy_fits(entry)?;
    let owner = room.rooms.intern().user(&entry.pdu.sender, &mut room.batch)?;
    let row = arm.row(TimerKind::Expire(entry.short), owner, room.room);
    room.batch.put_new(&TIMER_BY_ID, &arm.timer, &row);
    room.batch.put(&TIMER_BY_EVENT, &entry.short, &arm.timer);
    let running = ExpiryRow { status: ExpiryStatus::Running, terminal: None };
    room.batch.put(&EXPIRY_BY_EVENT, &entry.short, &running);
    room.timers.push(TimerChange::Armed(arm.timer, row));
    Ok(())
}

/// What the terminal event can have more than the original besides the relation: twenty
/// `prev_events` in place of one, more auth events, a greater depth.
const COPY_GROWTH_BYTES: usize = 1_300;

/// An event whose copy could not be sent is refused now, while the request can be answered with the error.
fn check_copy_fits(entry: &Entry) -> Result<()> {
    let relation = r#""m.relates_to":{"event_id":"","rel_type":""},"#.len()
        + EXPIRE_RELATION.len()
        + entry.pdu.event_id.as_str().len();
    if entry.pdu.json.get().len() + relation + COPY_GROWTH_BYTES > rules::MAX_EVENT_BYTES {
        return Err(Error::too_large("the terminal event would be larger than 65535 bytes"));
    }
    Ok(())
}

/// Stops the timer of `event`, if it still has one, without a terminal event.
pub(crate) fn stop(room: &mut Assembly<'_>, event: ShortEventId, outcome: Outcome) -> Result<()> {
    let Some(timer) = room.batch.get(&TIMER_BY_EVENT, &event)? else { return Ok(()) };
    room.batch.delete(&TIMER_BY_EVENT, &event);
    timer::stop(room, timer, outcome)?;
    // There will be no terminal event, so the status must not stay `running`.
    room.batch.delete(&EXPIRY_BY_EVENT, &event);
    note_change(room);
    Ok(())
}

/// Gives the change of a status a position in its room: there can be no event that has one, and what is
/// shown of an event is kept as long as nothing happens in its room.
fn note_change(room: &mut Assembly<'_>) {
    room.batch.reserve_position();
    room.batch.wake(Topic::Room(room.room));
}

/// Sets the status of `event`, whose timer fires.
pub(super) fn finished(
    room: &mut Assembly<'_>,
    event: ShortEventId,
    finish: &Finish,
    terminal: Option<&Entry>,
) {
    room.batch.delete(&TIMER_BY_EVENT, &event);
    let status = if finish.outcome == Outcome::Ended {
        let ended = EndedRow { at: finish.at, nonce: finish.row.nonce };
        room.batch.put(&ENDED_BY_TIMER, &finish.timer, &ended);
        ExpiryStatus::Ended
    } else {
        ExpiryStatus::Expired
    };
    let terminal = terminal.map(|entry| (entry.pdu.event_id.clone(), entry.pdu.origin_server_ts));
    room.batch.put(&EXPIRY_BY_EVENT, &event, &ExpiryRow { status, terminal });
    note_change(room);
}

/// How many terminal events of one event are looked at: an honest server sends one.
const MAX_ENDS: usize = 10;

/// A terminal event that came from elsewhere sets its original's status, if it is by the same sender,
/// in the same room, of the same type and state key. The first one counts.
pub(super) fn record_end(room: &mut Assembly<'_>, entry: &Entry) -> Result<()> {
    if entry.effects.finish.is_some() {
        return Ok(());
    }
    let Some((original, status)) = end_of(&entry.pdu) else { return Ok(()) };
    let original = room.rooms.intern().lookup_event(&room.batch, &original)?;
    let Some(original) = original else { return Ok(()) };
    let Some(pdu) = room.rooms.events.get(&room.batch, original)? else { return Ok(()) };
    let known = room.batch.get(&EXPIRY_BY_EVENT, &original)?;
    let is_over = known.is_some_and(|row| row.status != ExpiryStatus::Running);
    if !is_over && may_end(&entry.pdu, &pdu) {
        set_status(room, original, status, &entry.pdu);
        if matches!(entry.placement, Placement::History(_)) {
            note_change(room);
        }
    }
    Ok(())
}

/// Sets the status of a received event whose terminal event came before it.
pub(super) fn apply_earlier(room: &mut Assembly<'_>, entry: &Entry) -> Result<()> {
    if !expires(&entry.pdu) {
        return Ok(());
    }
    let rows = Range::prefix((entry.short, EXPIRE_RELATION.to_owned()));
    let ends = room.batch.scan(&RELATION_BY_PARENT, rows).take(MAX_ENDS);
    let ends = ends.collect::<Result<Vec<_>, _>>()?;
    for (_, relation) in ends {
        let end = room.rooms.events.load(&room.batch, relation.child)?;
        if let Some((_, status)) = end_of(&end).filter(|_| may_end(&end, &entry.pdu)) {
            set_status(room, entry.short, status, &end);
            return Ok(());
        }
    }
    Ok(())
}

/// The original of a terminal event, and its status.
fn end_of(end: &Pdu) -> Option<(OwnedEventId, ExpiryStatus)> {
    if !can_expire(&end.event_type) || !end.content.get().contains(EXPIRE_RELATION) {
        return None;
    }
    let TerminalContent { status, relates_to } = TerminalContent::from_content(&end.content)?;
    let status = match status {
        ExpireStatus::Expired => ExpiryStatus::Expired,
        ExpireStatus::Ended => ExpiryStatus::Ended,
        _ => return None,
    };
    Some((relates_to.event_id, status))
}

/// Whether an event has a duration, which it has not any more once it is redacted.
fn expires(pdu: &Pdu) -> bool {
    can_expire(&pdu.event_type) && pdu.content.get().contains(WILL_EXPIRE)
}

fn may_end(end: &Pdu, original: &Pdu) -> bool {
    expires(original)
        && original.sender == end.sender
        && original.room_id == end.room_id
        && original.event_type == end.event_type
        && original.state_key == end.state_key
}

fn set_status(room: &mut Assembly<'_>, original: ShortEventId, status: ExpiryStatus, end: &Pdu) {
    let terminal = Some((end.event_id.clone(), end.origin_server_ts));
    room.batch.put(&EXPIRY_BY_EVENT, &original, &ExpiryRow { status, terminal });
}
