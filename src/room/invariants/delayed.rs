//! Every delayed event is scheduled or finalised, and is found by all that leads to it.

use ruma::events::StateEventType;
use wick_core::{Result, TimerId};
use wick_database::{
    Range, Read,
    schema::{
        delayed::{
            DELAYED_BY_STATE, DELAYED_BY_TIMER, FINALISED_BY_OWNER, FINALISED_BY_TIMER,
            SCHEDULED_BY_TRANSACTION,
        },
        intern::SHORT_BY_STATE_KEY,
        timer::{TIMER_BY_ID, TimerKind, TimerRow},
    },
};

use super::{Class, Report};

/// A timer that will send an event.
pub(super) fn check_scheduled<R: Read>(
    report: &mut Report<'_, R>,
    timer: TimerId,
    row: &TimerRow,
) -> Result<()> {
    let read = report.read;
    let at = format!("timer {timer}");
    let event = read.get(&DELAYED_BY_TIMER, &timer)?;
    let finalised = read.contains(&FINALISED_BY_TIMER, &timer)?;
    report.expect(event.is_some() && !finalised, Class::DelayedTimerDiffers, &at);
    let Some(event) = event else { return Ok(()) };
    if let Some(state_key) = event.state_key {
        let tuple = (StateEventType::from(event.event_type), state_key);
        let indexed = match read.get(&SHORT_BY_STATE_KEY, &tuple)? {
            Some(key) => read.contains(&DELAYED_BY_STATE, &(row.room, key, timer))?,
            None => false,
        };
        report.expect(indexed, Class::DelayedStateDiffers, &at);
    }
    Ok(())
}

pub(super) fn check<R: Read>(report: &mut Report<'_, R>) -> Result<()> {
    let read = report.read;
    let scheduled = |timer: &TimerId| -> Result<bool> {
        Ok(read.get(&TIMER_BY_ID, timer)?.is_some_and(|row| row.kind == TimerKind::Send))
    };
    for row in read.scan(&DELAYED_BY_TIMER, Range::all()) {
        let (timer, _) = row?;
        let known = scheduled(&timer)? || read.contains(&FINALISED_BY_TIMER, &timer)?;
        report.expect(known, Class::DelayedEventAdrift, format_args!("timer {timer}"));
    }
    for row in read.scan(&FINALISED_BY_TIMER, Range::all()) {
        let (timer, row) = row?;
        let content = read.contains(&DELAYED_BY_TIMER, &timer)?;
        let listed = read.contains(&FINALISED_BY_OWNER, &(row.timer.owner, row.at, timer))?;
        report.expect(content && listed, Class::DelayedEventAdrift, format_args!("timer {timer}"));
    }
    for row in read.scan(&FINALISED_BY_OWNER, Range::all()) {
        let ((owner, at, timer), ()) = row?;
        let same = read
            .get(&FINALISED_BY_TIMER, &timer)?
            .is_some_and(|row| row.timer.owner == owner && row.at == at);
        report.expect(same, Class::DelayedEventAdrift, format_args!("timer {timer}"));
    }
    for row in read.scan(&DELAYED_BY_STATE, Range::all()) {
        let ((_, _, timer), ()) = row?;
        report.expect(
            scheduled(&timer)?,
            Class::DelayedStateDiffers,
            format_args!("timer {timer}"),
        );
    }
    for row in read.scan(&SCHEDULED_BY_TRANSACTION, Range::all()) {
        let (_, answer) = row?;
        let known = read.contains(&DELAYED_BY_TIMER, &answer.timer)?;
        let at = format_args!("timer {}", answer.timer);
        report.expect(known, Class::ScheduledAnswerDiffers, at);
    }
    Ok(())
}
