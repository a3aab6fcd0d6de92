//! A timer that fires: its row is deleted in the batch of what it sends, so that it fires once.

use wick_core::{Error, Result, TimerId};
use wick_database::schema::{
    delayed::FinalOutcome,
    timer::{TIMER_BY_ID, TimerKind, TimerRow},
};

use super::{Entry, delayed, expiry};
use crate::{Assembly, Finish, Outcome, TimerChange};

pub(super) fn write(room: &mut Assembly<'_>, entry: &Entry) -> Result<()> {
    let Some(finish) = &entry.effects.finish else { return Ok(()) };
    match finish.row.kind {
        TimerKind::Expire(event) => {
            remove(room, finish);
            expiry::finished(room, event, finish, Some(entry));
            Ok(())
        }
        TimerKind::Send => {
            delayed::sent(room, finish, entry);
            finish_delayed(room, finish, FinalOutcome::Sent(entry.pdu.event_id.clone()))
        }
    }
}

/// Ends the timer of an event that expires without a terminal event.
pub(crate) fn finish_silently(room: &mut Assembly<'_>, finish: &Finish) -> Result<()> {
    let TimerKind::Expire(event) = finish.row.kind else {
        return Err(Error::corrupt("a delayed event was to expire"));
    };
    remove(room, finish);
    expiry::finished(room, event, finish, None);
    Ok(())
}

/// Ends a delayed event, and notes what became of it.
pub(crate) fn finish_delayed(
    room: &mut Assembly<'_>,
    finish: &Finish,
    outcome: FinalOutcome,
) -> Result<()> {
    remove(room, finish);
    let intern = room.rooms.intern();
    crate::delayed::finalise(
        &mut room.batch,
        intern,
        (finish.timer, &finish.row),
        finish.at,
        outcome,
    )
}

/// Ends a delayed event of which nothing is to be known any more.
pub(crate) fn erase_delayed(room: &mut Assembly<'_>, finish: &Finish) -> Result<()> {
    remove(room, finish);
    let belongs_to = (finish.row.owner, finish.row.room);
    crate::delayed::erase(&mut room.batch, room.rooms.intern(), finish.timer, belongs_to)
}

/// Removes a timer that stops without firing. `None` if it does not run.
pub(super) fn stop(
    room: &mut Assembly<'_>,
    timer: TimerId,
    outcome: Outcome,
) -> Result<Option<TimerRow>> {
    let Some(row) = room.batch.read_for_update(&TIMER_BY_ID, &timer)? else { return Ok(None) };
    room.batch.delete(&TIMER_BY_ID, &timer);
    room.timers.push(TimerChange::Stopped(timer, row.clone(), outcome));
    Ok(Some(row))
}

/// Removes a timer that fires, on condition that it was not kept alive since its row was read.
fn remove(room: &mut Assembly<'_>, finish: &Finish) {
    room.batch.require(&TIMER_BY_ID, &finish.timer, Some(&finish.row));
    room.batch.delete(&TIMER_BY_ID, &finish.timer);
    room.timers.push(TimerChange::Stopped(finish.timer, finish.row.clone(), finish.outcome));
}
