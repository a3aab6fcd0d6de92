//! The end of an event: its terminal event, and its status.

use std::time::Duration;

use ruma::canonical_json::{CanonicalJsonObject, CanonicalJsonValue, to_canonical_value};
use wick_core::{Draft, Error, Result, ShortEventId, clock::millis, event::pdu::SharedPdu};
use wick_database::{
    Batch, Read,
    schema::timer::{TIMER_BY_EVENT, TimerKind},
};
use wick_room::{Assembly, Effects, Finish, Outcome};
use wick_ruma::{ExpireRelation, TerminalContent};

use super::Expiry;
use crate::timers::{Cause, Decided, Fired, Fires};

/// How long the copy of a sticky event is sticky at least, so that it reaches the same clients.
const MIN_STICKY: Duration = Duration::from_secs(60);

impl Fires for Expiry {
    fn fire(&self, room: &mut Assembly<'_>, decided: &Decided) -> Result<Fired> {
        let short = expiring(decided)?;
        if !room.batch().contains(&TIMER_BY_EVENT, &short)? {
            return Ok(Fired::Already);
        }
        let original = self.graph.load_event(room.batch(), short)?;
        // The commit of what replaced it has stopped the timer; this only makes sure.
        if let Some((event_type, state_key)) = original.state_tuple()
            && room.state_event_short(&event_type, &state_key)? != Some(short)
        {
            room.stop_timer(short, Outcome::Superseded)?;
            return Ok(Fired::Already);
        }
        let outcome = match decided.cause {
            Cause::Due(_) => Outcome::Expired,
            Cause::Asked(outcome) => outcome,
        };
        let finish = Finish {
            timer: decided.timer,
            row: decided.row.clone(),
            outcome,
            at: self.resources.clock.now(),
            delay_id: None,
        };
        let draft = terminal_draft(&original, outcome.name())?;
        let sticky = self.graph.sticky_left_of(room.batch(), short)?;
        let sticky_duration = sticky.map(|left| millis(left.max(MIN_STICKY)));
        let draft = Draft { sticky_duration, ..draft };
        let effects = Effects { finish: Some(finish.clone()), ..Effects::default() };
        match room.append(draft, effects) {
            Ok(_) => {}
            // The auth rules decide now, not when it was armed.
            Err(Error::Refused(refusal)) => {
                metrics::counter!("wick_timers_refused_total", "kind" => "expiry").increment(1);
                tracing::info!(event_id = %original.event_id, %refusal, "a terminal event was refused");
                room.finish_without_event(&finish)?;
            }
            Err(error) => return Err(error),
        }
        Ok(Fired::Ended { outcome, event_id: Some(original.event_id.clone()) })
    }

    fn discard(&self, batch: &mut Batch, decided: &Decided) -> Result<()> {
        batch.delete(&TIMER_BY_EVENT, &expiring(decided)?);
        Ok(())
    }
}

fn expiring(decided: &Decided) -> Result<ShortEventId> {
    match decided.row.kind {
        TimerKind::Expire(event) => Ok(event),
        TimerKind::Send => Err(Error::corrupt("a delayed event was to expire")),
    }
}

/// The terminal event: the original's content with the status, related to the original.
fn terminal_draft(original: &SharedPdu, status: &str) -> Result<Draft> {
    let mut content: CanonicalJsonObject = original
        .content_as()
        .map_err(|error| Error::internal("a stored content is not canonical", error))?;
    let terminal = TerminalContent {
        status: status.into(),
        relates_to: ExpireRelation::new(original.event_id.clone()),
    };
    match to_canonical_value(terminal) {
        Ok(CanonicalJsonValue::Object(terminal)) => content.extend(terminal),
        _ => return Err(Error::corrupt("a terminal content is not canonical")),
    }
    Ok(Draft {
        room_id: original.room_id.clone(),
        sender: original.sender.clone(),
        event_type: original.event_type.clone(),
        state_key: original.state_key.clone(),
        content,
        redacts: None,
        sticky_duration: None,
        origin_server_ts: None,
    })
}
