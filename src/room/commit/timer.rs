//! A timer that fires: its row goes in the batch of what it says, so that it fires once.

use wick_core::Result;
use wick_database::schema::{
    delayed::FinalOutcome,
    timer::{TIMER_BY_ID, TimerKind},
};

use super::{Entry, delayed, expiry};
use crate::{Assembly, Finish, TimerChange};

pub(super) fn write(room: &mut Assembly<'_>, entry: &Entry) -> Result<()> {
    match &entry.effects.finish {
        Some(finish) => finish_with(room, finish, Some(entry)),
        None => Ok(()),
    }
}

/// Removes a timer that fires, on condition that nobody kept it alive since its row was read. `entry` is
/// the event that it says, if it says one.
pub(crate) fn finish_with(
    room: &mut Assembly<'_>,
    finish: &Finish,
    entry: Option<&Entry>,
) -> Result<()> {
    match (finish.row.kind.clone(), entry) {
        (TimerKind::Expire(event), entry) => {
            remove(room, finish);
            expiry::finished(room, event, finish, entry);
            Ok(())
        }
        (TimerKind::Send, Some(entry)) => {
            delayed::sent(room, finish, entry);
            finish_delayed(room, finish, FinalOutcome::Sent(entry.pdu.event_id.clone()))
        }
        (TimerKind::Send, None) => finish_delayed(room, finish, FinalOutcome::Cancelled),
    }
}

/// The same for a delayed event of which no event comes.
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

fn remove(room: &mut Assembly<'_>, finish: &Finish) {
    room.batch.require(&TIMER_BY_ID, &finish.timer, Some(&finish.row));
    room.batch.delete(&TIMER_BY_ID, &finish.timer);
    room.timers.push(TimerChange::Stopped(finish.timer, finish.row.clone(), finish.outcome));
}
