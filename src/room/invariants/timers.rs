//! Every timer has its event, every running event its timer.

use ruma::events::StateEventType;
use serde::Deserialize;
use wick_core::{Result, ShortEventId, ShortRoomId, TimerId};
use wick_database::{
    Range, Read,
    schema::{
        intern::SHORT_BY_STATE_KEY,
        room::{EVENT_BY_STATE, PLACE_BY_EVENT, REDACTION_BY_EVENT, STORED_BY_EVENT},
        timer::{EXPIRY_BY_EVENT, ExpiryStatus, TIMER_BY_EVENT, TIMER_BY_ID, TimerKind},
    },
};

use super::{Class, Report, delayed};

#[derive(Deserialize)]
struct StateEvent {
    #[serde(rename = "type")]
    event_type: String,
    state_key: Option<String>,
}

pub(super) fn check<R: Read>(report: &mut Report<'_, R>) -> Result<()> {
    for row in report.read.scan(&TIMER_BY_ID, Range::all()) {
        let (timer, row) = row?;
        match row.kind {
            TimerKind::Expire(event) => check_timer(report, timer, event, row.room)?,
            TimerKind::Send => delayed::check_scheduled(report, timer, &row)?,
        }
    }
    for row in report.read.scan(&TIMER_BY_EVENT, Range::all()) {
        let (event, timer) = row?;
        let row = report.read.get(&TIMER_BY_ID, &timer)?;
        let back = row.is_some_and(|row| row.kind == TimerKind::Expire(event));
        let at = format_args!("timer {timer} event {event}");
        report.expect(back, Class::TimerIndexDiffers, at);
    }
    for row in report.read.scan(&EXPIRY_BY_EVENT, Range::all()) {
        let (event, expiry) = row?;
        let at = format!("event {event}");
        let stored = report.read.contains(&STORED_BY_EVENT, &event)?;
        report.expect(stored, Class::StatusWithoutEvent, &at);
        if expiry.status == ExpiryStatus::Running {
            let running = report.read.contains(&TIMER_BY_EVENT, &event)?;
            report.expect(running, Class::StatusDiffers, &at);
        }
    }
    Ok(())
}

fn check_timer<R: Read>(
    report: &mut Report<'_, R>,
    timer: TimerId,
    event: ShortEventId,
    room: ShortRoomId,
) -> Result<()> {
    let read = report.read;
    let at = format!("timer {timer} event {event}");
    let index = read.get(&TIMER_BY_EVENT, &event)?;
    report.expect(index == Some(timer), Class::TimerIndexDiffers, &at);
    let redacted = read.contains(&REDACTION_BY_EVENT, &event)?;
    report.expect(!redacted, Class::TimerOfRedactedEvent, &at);
    let status = read.get(&EXPIRY_BY_EVENT, &event)?.map(|row| row.status);
    report.expect(status == Some(ExpiryStatus::Running), Class::StatusDiffers, &at);

    let stored = read.get(&STORED_BY_EVENT, &event)?;
    let here = read.get(&PLACE_BY_EVENT, &event)?.is_some_and(|place| place.room == room);
    let Some(stored) = stored.filter(|_| here) else {
        report.add(Class::TimerWithoutEvent, &at);
        return Ok(());
    };
    let parsed = serde_json::from_str(&stored.json).ok();
    if let Some(StateEvent { event_type, state_key: Some(state_key) }) = parsed {
        let key = read.get(&SHORT_BY_STATE_KEY, &(StateEventType::from(event_type), state_key))?;
        let current = match key {
            Some(key) => read.get(&EVENT_BY_STATE, &(room, key))?,
            None => None,
        };
        report.expect(current == Some(event), Class::TimerOfReplacedState, &at);
    }
    Ok(())
}
