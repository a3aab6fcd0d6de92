//! The rows of delayed events, written together with those of their timers.
//!
//! Invariant: a delayed event is finalised in a change of its room, whose batch also removes its timer and
//! requires that it was there.

use ruma::events::StateEventType;
use wick_core::{Result, ShortRoomId, ShortUserId, TimerId, Timestamp};
use wick_database::{
    Batch, Interner, Read,
    schema::{
        delayed::{
            DELAYED_BY_STATE, DELAYED_BY_TIMER, DelayedRow, FINALISED_BY_OWNER, FINALISED_BY_TIMER,
            FinalOutcome, FinalisedRow, SCHEDULED_BY_TRANSACTION, ScheduledAnswer,
        },
        timer::{TIMER_BY_ID, TimerRow},
    },
};

/// Schedules an event: its timer, its content and, if it came with one, the transaction it answers.
///
/// # Errors
/// If the database cannot be read.
pub fn schedule(
    batch: &mut Batch,
    intern: &Interner,
    (timer, row): (TimerId, &TimerRow),
    event: &DelayedRow,
) -> Result<()> {
    batch.put_new(&TIMER_BY_ID, &timer, row);
    batch.put_new(&DELAYED_BY_TIMER, &timer, event);
    if let Some(state_key) = &event.state_key {
        let event_type = StateEventType::from(event.event_type.as_str());
        let key = intern.state_key(&event_type, state_key, batch)?;
        batch.put(&DELAYED_BY_STATE, &(row.room, key, timer), &());
    }
    if let Some((device, request)) = &event.transaction {
        let key = (row.owner, device.clone(), request.clone());
        let answer = ScheduledAnswer { timer, nonce: row.nonce };
        batch.put_new(&SCHEDULED_BY_TRANSACTION, &key, &answer);
    }
    Ok(())
}

/// Notes what became of a delayed event. Its timer must go in the same batch.
///
/// # Errors
/// If the database cannot be read.
pub fn finalise(
    batch: &mut Batch,
    intern: &Interner,
    (timer, row): (TimerId, &TimerRow),
    at: Timestamp,
    outcome: FinalOutcome,
) -> Result<()> {
    if let Some(event) = batch.get(&DELAYED_BY_TIMER, &timer)? {
        remove_state_index(batch, intern, timer, row.room, &event)?;
    }
    batch.put(&FINALISED_BY_TIMER, &timer, &FinalisedRow { timer: row.clone(), at, outcome });
    batch.put(&FINALISED_BY_OWNER, &(row.owner, at, timer), &());
    Ok(())
}

/// Removes all that is known of a delayed event but its timer.
///
/// # Errors
/// If the database cannot be read.
pub fn erase(
    batch: &mut Batch,
    intern: &Interner,
    timer: TimerId,
    (owner, room): (ShortUserId, ShortRoomId),
) -> Result<()> {
    if let Some(event) = batch.get(&DELAYED_BY_TIMER, &timer)? {
        remove_state_index(batch, intern, timer, room, &event)?;
        if let Some((device, request)) = event.transaction {
            batch.delete(&SCHEDULED_BY_TRANSACTION, &(owner, device, request));
        }
        batch.delete(&DELAYED_BY_TIMER, &timer);
    }
    if let Some(finalised) = batch.get(&FINALISED_BY_TIMER, &timer)? {
        batch.delete(&FINALISED_BY_TIMER, &timer);
        batch.delete(&FINALISED_BY_OWNER, &(owner, finalised.at, timer));
    }
    Ok(())
}

fn remove_state_index(
    batch: &mut Batch,
    intern: &Interner,
    timer: TimerId,
    room: ShortRoomId,
    event: &DelayedRow,
) -> Result<()> {
    let Some(state_key) = &event.state_key else { return Ok(()) };
    let event_type = StateEventType::from(event.event_type.as_str());
    if let Some(key) = intern.lookup_state_key(batch, &event_type, state_key)? {
        batch.delete(&DELAYED_BY_STATE, &(room, key, timer));
    }
    Ok(())
}
