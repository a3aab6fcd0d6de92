//! Sending what is due. The auth rules decide now, not when it was scheduled.

use serde_json::value::RawValue;
use wick_core::{Error, Refusal, Result};
use wick_database::{
    Batch, Read,
    schema::{
        delayed::{DELAYED_BY_TIMER, FinalOutcome},
        timer::{Feature, TIMER_BY_ID},
        users::ACCOUNT_BY_USER,
    },
};
use wick_room::{Assembly, Effects, Finish, Outcome, delayed};
use wick_timers::timers::{Cause, Decided, Fired, Fires};

use super::Delayed;
use crate::rooms::EventRequest;

impl Fires for Delayed {
    fn fire(&self, room: &mut Assembly<'_>, decided: &Decided) -> Result<Fired> {
        // One before it in the same batch may have taken its place.
        if !room.batch().contains(&TIMER_BY_ID, &decided.timer)? {
            return Ok(Fired::Already);
        }
        let delay_id = self.timers.handle(Feature::Delay, decided.timer, decided.row.nonce);
        let finish = Finish {
            timer: decided.timer,
            row: decided.row.clone(),
            outcome: Outcome::Sent,
            at: self.resources.clock.now(),
            delay_id: Some(delay_id),
        };
        let account = room.batch().get(&ACCOUNT_BY_USER, &decided.row.owner)?;
        if account.is_none_or(|account| account.deactivated.is_some()) {
            // Deactivation erases the delayed events of the account, and may not have come to this one yet.
            room.erase_delayed(&Finish { outcome: Outcome::Cancelled, ..finish })?;
            return Ok(Fired::Ended { outcome: Outcome::Cancelled, event_id: None });
        }
        match decided.cause {
            Cause::Asked(Outcome::Cancelled) => {
                let finish = Finish { outcome: Outcome::Cancelled, ..finish };
                room.finish_delayed(&finish, FinalOutcome::Cancelled)?;
                Ok(Fired::Ended { outcome: Outcome::Cancelled, event_id: None })
            }
            Cause::Asked(_) => self.send_in(room, &finish),
            Cause::Due(_) => match self.send_in(room, &finish) {
                Err(Error::Refused(refusal)) => fail(room, finish, *refusal),
                result => result,
            },
        }
    }

    fn discard(&self, batch: &mut Batch, decided: &Decided) -> Result<()> {
        let belongs_to = (decided.row.owner, decided.row.room);
        delayed::erase(batch, self.graph.intern(), decided.timer, belongs_to)
    }
}

impl Delayed {
    fn send_in(&self, room: &mut Assembly<'_>, finish: &Finish) -> Result<Fired> {
        let Some(event) = room.batch().get(&DELAYED_BY_TIMER, &finish.timer)? else {
            return Err(Error::corrupt("a delayed event has no content"));
        };
        let content = RawValue::from_string(event.content)
            .map_err(|error| Error::internal("a stored content is not JSON", error))?;
        let request = EventRequest::read(event.event_type.into(), event.state_key, &content)?;
        let request = request.sticky(event.sticky_duration);
        let sender = self.graph.user_id(room.batch(), finish.row.owner)?;
        let effects = Effects { finish: Some(finish.clone()), ..Effects::default() };
        let sent = self.rooms.append_requested(room, &sender, request, effects)?;
        let event_id = sent.event_id().clone();
        if !sent.appended {
            room.finish_delayed(finish, FinalOutcome::Sent(event_id.clone()))?;
        }
        Ok(Fired::Ended { outcome: Outcome::Sent, event_id: Some(event_id) })
    }
}

/// Notes for its owner why an event was not sent.
fn fail(room: &mut Assembly<'_>, finish: Finish, refusal: Refusal) -> Result<Fired> {
    metrics::counter!("wick_timers_refused_total", "kind" => "delay").increment(1);
    let outcome = FinalOutcome::Failed {
        errcode: refusal.kind.errcode().to_string(),
        message: refusal.message.into_owned(),
    };
    room.finish_delayed(&Finish { outcome: Outcome::Failed, ..finish }, outcome)?;
    Ok(Fired::Ended { outcome: Outcome::Failed, event_id: None })
}
