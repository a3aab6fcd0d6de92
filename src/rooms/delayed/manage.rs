//! Restarting, sending and cancelling what is scheduled.

use std::hash::Hash;

use ruma::api::error::ErrorKind;
use wick_account::Session;
use wick_core::{Error, Result, TimerId};
use wick_database::{
    Read,
    schema::{
        delayed::{FINALISED_BY_TIMER, FinalOutcome, FinalisedRow},
        timer::{Feature, TimerRow},
    },
};
use wick_room::Outcome;
use wick_runtime::Limit;
use wick_timers::timers::{Cause, Firing, Shown};

use super::{Delayed, Form};

/// The answer to a delay ID that is unknown or another user's.
pub(super) const UNKNOWN: &str = "there is no such delayed event";

/// What can be done with a delayed event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Its delay begins anew.
    Restart,
    /// It is sent now.
    Send,
    /// It is never sent.
    Cancel,
}

impl Delayed {
    /// Performs an action on a delayed event. `by` is the session, if known: then the event must be theirs.
    /// `from` is where the request came from: only unknown delay IDs count against it.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if it is not known, or is to be restarted and was sent; 409 if what has become of it
    /// contradicts the action; `M_LIMIT_EXCEEDED`; for [`Action::Send`] why it could not be sent, and it
    /// stays scheduled.
    pub async fn manage(
        &self,
        by: Option<&Session>,
        delay_id: &str,
        (form, action): (Form, Action),
        from: &impl Hash,
    ) -> Result<()> {
        let unknown = || self.timers.unknown(from, UNKNOWN);
        let Some(shown) = self.timers.shown(Feature::Delay, delay_id) else {
            return Err(unknown());
        };
        let theirs = |row: &TimerRow| by.is_none_or(|session| session.user == row.owner);
        let running = self.timers.running(&shown)?;
        let is_over = running.is_none();
        if let Some(row) = running {
            if !theirs(&row) {
                return Err(unknown());
            }
            match action {
                Action::Restart => {
                    if self.timers.keep_alive(&shown).await? {
                        return Ok(());
                    }
                }
                Action::Send => self.send(shown.timer, &row).await?,
                Action::Cancel => {
                    self.timers.count_use(shown.timer)?;
                    self.cancel(shown.timer).await?;
                }
            }
        }
        // Finalised by this request, by another one, or sent in between.
        let Some(finalised) = self.finalised(&shown)?.filter(|row| theirs(&row.timer)) else {
            return Err(unknown());
        };
        if is_over {
            self.timers.count_use(shown.timer)?;
        }
        if !self.resources.database.published().contains(&FINALISED_BY_TIMER, &shown.timer)? {
            self.resources.settle().await?;
        }
        agrees(form, action, &finalised.outcome)
    }

    /// What became of the event with this delay id, if it is no longer scheduled.
    fn finalised(&self, shown: &Shown) -> Result<Option<FinalisedRow>> {
        let row = self.timers.latest().get(&FINALISED_BY_TIMER, &shown.timer)?;
        Ok(row.filter(|row| self.timers.is_shown(shown, row.timer.nonce)))
    }

    async fn send(&self, timer: TimerId, row: &TimerRow) -> Result<()> {
        self.timers.count_use(timer)?;
        let owner = self.graph.user_id(&self.timers.latest(), row.owner)?;
        self.limits.ensure(Limit::Messages, &owner)?;
        self.end(timer, Outcome::Sent).await
    }

    /// Ends one that is scheduled without sending it. Does nothing if it is not scheduled any more.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn cancel(&self, timer: TimerId) -> Result<()> {
        self.end(timer, Outcome::Cancelled).await
    }

    /// Sends one now, as if it were due, but leaves it scheduled if it cannot be sent. Does nothing if it is not
    /// scheduled any more. Not limited: a leave that is not sent is a ghost in a call.
    ///
    /// # Errors
    /// Why the room's rules refuse it; if the database fails.
    pub async fn send_now(&self, timer: TimerId) -> Result<()> {
        self.end(timer, Outcome::Sent).await
    }

    async fn end(&self, timer: TimerId, outcome: Outcome) -> Result<()> {
        self.timers.fire(&[Firing { timer, cause: Cause::Asked(outcome) }], self).await
    }
}

/// Whether what has become of an event is what was asked for, so that requests can be repeated.
fn agrees(form: Form, action: Action, outcome: &FinalOutcome) -> Result<()> {
    let conflict = |message: &'static str| {
        let kind = match form {
            Form::Merged => ErrorKind::Unknown,
            // Deployed clients give up their call for good at any other errcode.
            Form::Deployed => ErrorKind::NotFound,
        };
        Err(Error::refused_with(409, kind, message))
    };
    match (action, outcome) {
        (Action::Send, FinalOutcome::Sent(_))
        | (Action::Cancel, FinalOutcome::Cancelled | FinalOutcome::Failed { .. }) => Ok(()),
        // Clients whose keep-alive is too late take this error as the need to schedule a new event.
        (Action::Restart, FinalOutcome::Sent(_)) => Err(Error::not_found(UNKNOWN)),
        (Action::Cancel, FinalOutcome::Sent(_)) => conflict("the event was sent already"),
        (_, FinalOutcome::Cancelled) => conflict("the event was cancelled"),
        (_, FinalOutcome::Failed { .. }) => conflict("the event could not be sent"),
    }
}
