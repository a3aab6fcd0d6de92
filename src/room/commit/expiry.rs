//! Expiring events: arms this event's timer, stops the timer of the state event it replaces, sets the
//! status of an event whose timer fires, and records the outcome that a terminal event gives its original.
//!
//! Invariant: a timer row exists exactly while its event runs; the commit that ends the event removes
//! the row in the same batch, so it ends once.

use ruma::events::TimelineEventType;
use wick_core::{Error, Result, ShortEventId, rules};
use wick_database::{
    Read, Topic,
    schema::timer::{
        ENDED_BY_TIMER, EXPIRY_BY_EVENT, EndedRow, ExpiryRow, ExpiryStatus, TIMER_BY_EVENT,
        TIMER_BY_ID, TimerKind,
    },
};
use wick_ruma::{EXPIRE_RELATION, ExpireStatus, TerminalContent};

use super::{Entry, timer};
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
    record_terminal(room, entry)?;
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

/// A terminal event that came from elsewhere sets its original's status, if it is by the same sender,
/// in the same room, of the same type and state key.
fn record_terminal(room: &mut Assembly<'_>, entry: &Entry) -> Result<()> {
    let content = &entry.pdu.content;
    if entry.effects.finish.is_some()
        || !can_expire(&entry.pdu.event_type)
        || !content.get().contains(EXPIRE_RELATION)
    {
        return Ok(());
    }
    let Some(TerminalContent { status, relates_to }) = TerminalContent::from_content(content)
    else {
        return Ok(());
    };
    let status = match status {
        ExpireStatus::Expired => ExpiryStatus::Expired,
        ExpireStatus::Ended => ExpiryStatus::Ended,
        _ => return Ok(()),
    };
    let original = room.rooms.intern().lookup_event(&room.batch, &relates_to.event_id)?;
    let Some(original) = original else { return Ok(()) };
    let Some(pdu) = room.rooms.events.get(&room.batch, original)? else { return Ok(()) };
    let same = pdu.sender == entry.pdu.sender
        && pdu.room_id == entry.pdu.room_id
        && pdu.event_type == entry.pdu.event_type
        && pdu.state_key == entry.pdu.state_key;
    if same {
        let terminal = Some((entry.pdu.event_id.clone(), entry.pdu.origin_server_ts));
        room.batch.put(&EXPIRY_BY_EVENT, &original, &ExpiryRow { status, terminal });
    }
    Ok(())
}
