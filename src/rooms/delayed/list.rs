//! Delayed events as their owners see them.
//!
//! Invariant: what is returned survives a power loss, as what is returned of rooms does.

use std::{hash::Hash, time::Duration};

use ruma::{MilliSecondsSinceUnixEpoch, UInt, api::error::StandardErrorBody, serde::Raw};
use serde_json::{json, value::RawValue};
use wick_account::Session;
use wick_core::{Error, Result, TimerId, Timestamp};
use wick_database::{
    Read, Snapshot,
    schema::{
        delayed::{DELAYED_BY_TIMER, FINALISED_BY_TIMER, FinalOutcome, FinalisedRow},
        timer::{Feature, TIMER_BY_ID, TimerRow},
    },
};
use wick_ruma::delayed_events::DelayedEvent;

use super::{Delayed, manage::UNKNOWN};

impl Delayed {
    /// The events that the session's user has scheduled, the one that is due next first.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn list(&self, session: &Session) -> Result<Vec<DelayedEvent>> {
        let read = self.resources.database.published();
        let mut rows = Vec::new();
        for timer in self.timers.of_owner(Feature::Delay, session.user) {
            if let Some(row) = self.scheduled(&read, timer)? {
                rows.push((timer, row));
            }
        }
        rows.sort_unstable_by_key(|(timer, row)| (row.deadline, *timer));
        let mut events = Vec::with_capacity(rows.len());
        for (timer, row) in rows {
            events.extend(self.show(&read, timer, &row)?);
        }
        Ok(events)
    }

    /// One event that the session's user has scheduled, whatever has become of it.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if there is none with this delay id, or it is another user's.
    pub fn get(&self, session: &Session, delay_id: &str, from: &impl Hash) -> Result<DelayedEvent> {
        self.find(session, delay_id)?.ok_or_else(|| self.timers.unknown(from, UNKNOWN))
    }

    fn find(&self, session: &Session, delay_id: &str) -> Result<Option<DelayedEvent>> {
        let Some(shown) = self.timers.shown(Feature::Delay, delay_id) else { return Ok(None) };
        let read = self.resources.database.published();
        let is_theirs =
            |row: &TimerRow| row.owner == session.user && self.timers.is_shown(&shown, row.nonce);
        if let Some(row) = self.scheduled(&read, shown.timer)?.filter(is_theirs) {
            return self.show(&read, shown.timer, &row);
        }
        let row = read.get(&FINALISED_BY_TIMER, &shown.timer)?;
        let Some(row) = row.filter(|row| is_theirs(&row.timer)) else { return Ok(None) };
        let FinalisedRow { timer, at, outcome } = row;
        let Some(event) = self.show(&read, shown.timer, &timer)? else { return Ok(None) };
        let mut event = DelayedEvent { finalized_ts: Some(on_the_wire(at)), ..event };
        match outcome {
            FinalOutcome::Sent(event_id) => event.event_id = Some(event_id),
            FinalOutcome::Cancelled => {}
            FinalOutcome::Failed { errcode, message } => {
                event.error = Some(error_body(&errcode, &message)?);
            }
        }
        Ok(Some(event))
    }

    /// The timer of an event that is scheduled, with the deadline of the last restart: that is answered
    /// before it is published.
    fn scheduled(&self, read: &Snapshot, timer: TimerId) -> Result<Option<TimerRow>> {
        let Some(published) = read.get(&TIMER_BY_ID, &timer)? else { return Ok(None) };
        let latest = self.timers.latest().get(&TIMER_BY_ID, &timer)?;
        Ok(Some(latest.unwrap_or(published)))
    }

    fn show(
        &self,
        read: &Snapshot,
        timer: TimerId,
        row: &TimerRow,
    ) -> Result<Option<DelayedEvent>> {
        let Some(event) = read.get(&DELAYED_BY_TIMER, &timer)? else { return Ok(None) };
        let content = RawValue::from_string(event.content)
            .map_err(|error| Error::internal("a stored content is not JSON", error))?;
        let room_id = self.graph.intern().room_id(read, row.room)?;
        Ok(Some(DelayedEvent {
            delay_id: self.timers.handle(Feature::Delay, timer, row.nonce),
            room_id: room_id.ok_or_else(|| Error::corrupt("a timer's room has no id"))?,
            event_type: event.event_type.into(),
            state_key: event.state_key,
            content: Raw::from_json(content),
            delay: Duration::from_millis(row.duration),
            scheduled_at: on_the_wire(Timestamp(row.deadline.0.saturating_sub(row.duration))),
            error: None,
            event_id: None,
            finalized_ts: None,
        }))
    }
}

fn on_the_wire(at: Timestamp) -> MilliSecondsSinceUnixEpoch {
    MilliSecondsSinceUnixEpoch(UInt::new_saturating(at.0))
}

fn error_body(errcode: &str, message: &str) -> Result<StandardErrorBody> {
    serde_json::from_value(json!({ "errcode": errcode, "error": message }))
        .map_err(|error| Error::internal("a stored error cannot be read", error))
}
