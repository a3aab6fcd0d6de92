//! Expiring events: arming, keeping alive, ending. The contract is in the manual's page
//! "Expiring events".
//!
//! Invariant: an event that expires has a timer exactly as long as it runs.

mod fire;
mod sweep;

use std::{hash::Hash, sync::Arc, time::Duration};

use ruma::{
    UserId,
    canonical_json::{CanonicalJsonObject, CanonicalJsonValue},
    events::TimelineEventType,
};
use wick_core::{Error, Result, ShortUserId, TimerId, config};
use wick_database::{
    Read,
    schema::timer::{ENDED_BY_TIMER, Feature},
};
use wick_room::{Arm, Graph, Outcome, can_expire};
use wick_ruma::{ExpireRefreshToken, WILL_EXPIRE};
use wick_runtime::Resources;

use crate::{
    Timers,
    timers::{Cause, Firing, Reservation, Shown},
};

/// How long the same `end` again is answered like the first.
const END_REPEAT: Duration = Duration::from_secs(5 * 60);

/// The answer to a token without a timer, which is always the same.
const UNKNOWN: &str = "no event is waiting for this token";

/// Events that expire.
pub struct Expiry {
    resources: Resources,
    graph: Arc<Graph>,
    timers: Arc<Timers>,
}

/// A timer that an event is about to arm. While it exists it counts against its owner's limit.
pub struct Prepared {
    /// Goes into the event's [`Effects`](wick_room::Effects).
    pub arm: Arm,
    _reservation: Reservation,
}

impl Expiry {
    /// On the server's timers.
    #[must_use]
    pub fn new(resources: Resources, graph: Arc<Graph>, timers: Arc<Timers>) -> Self {
        Self { resources, graph, timers }
    }

    /// Takes the duration out of a content that is about to be sent and puts `running` in its place.
    /// `None` if the content has no duration.
    ///
    /// # Errors
    /// Rules 1, 2, 3, 5 and 6 of the contract.
    pub fn prepare(
        &self,
        owner: &UserId,
        event_type: &TimelineEventType,
        content: &mut CanonicalJsonObject,
    ) -> Result<Option<Prepared>> {
        let Some(value) = content.get(WILL_EXPIRE) else { return Ok(None) };
        let duration = self.duration(value, event_type)?;
        let quota = (Feature::Expiry, self.short_of(owner)?);
        let (arm, reservation) =
            self.timers.prepare(quota, self.settings().max_running, duration)?;
        content.insert(WILL_EXPIRE.to_owned(), CanonicalJsonValue::String("running".to_owned()));
        Ok(Some(Prepared { arm, _reservation: reservation }))
    }

    /// The refresh token of a timer, for the response to the request that armed it.
    #[must_use]
    pub fn token(&self, timer: TimerId, nonce: u64) -> ExpireRefreshToken {
        ExpireRefreshToken::new(self.timers.handle(Feature::Expiry, timer, nonce))
    }

    /// Begins a timer's duration anew. Returns once that survives a killed process.
    ///
    /// # Errors
    /// `M_NOT_FOUND` for any token without a running timer, `M_LIMIT_EXCEEDED`. `from` is where the
    /// request came from: only tokens without a running timer count against it.
    pub async fn refresh(&self, token: &ExpireRefreshToken, from: &impl Hash) -> Result<()> {
        match self.shown(token) {
            Some(shown) if self.timers.keep_alive(&shown).await? => Ok(()),
            _ => Err(self.timers.unknown(from, UNKNOWN)),
        }
    }

    /// Ends a timer now: its terminal event is in the room when this returns.
    ///
    /// # Errors
    /// `M_NOT_FOUND` for any token without a running timer, except that of one that was ended less
    /// than five minutes ago; `M_LIMIT_EXCEEDED`.
    pub async fn end(&self, token: &ExpireRefreshToken, from: &impl Hash) -> Result<()> {
        let unknown = || self.timers.unknown(from, UNKNOWN);
        let Some(shown) = self.shown(token) else { return Err(unknown()) };
        if self.timers.running(&shown)?.is_some() {
            self.timers.count_use(shown.timer)?;
            self.finish(shown.timer, Outcome::Ended).await?;
        }
        // Ended by this request, by another one, or by its deadline in between.
        if !self.was_ended(&self.timers.latest(), &shown)? {
            return Err(unknown());
        }
        if !self.was_ended(&self.resources.database.published(), &shown)? {
            self.resources.settle().await?;
        }
        Ok(())
    }

    /// Ends a timer as if its owner had.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn end_by_id(&self, timer: TimerId) -> Result<()> {
        self.finish(timer, Outcome::Ended).await
    }

    /// Ends all timers of a deactivated account, as expired.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn expire_all_of(&self, user: &UserId) -> Result<()> {
        let Some(owner) = self.graph.intern().lookup_user(&self.timers.latest(), user)? else {
            return Ok(());
        };
        for timer in self.timers.of_owner(Feature::Expiry, owner) {
            match self.finish(timer, Outcome::Expired).await {
                // It runs on, and ends without a terminal event once its sender is gone.
                Err(error) if !error.is_internal() => {
                    tracing::info!(%error, %timer, "a terminal event cannot be sent for now");
                }
                ended => ended?,
            }
        }
        Ok(())
    }

    /// The value in `/capabilities`.
    #[must_use]
    pub fn settings(&self) -> &config::Expiry {
        &self.resources.config.expiry
    }

    fn duration(
        &self,
        value: &CanonicalJsonValue,
        event_type: &TimelineEventType,
    ) -> Result<Duration> {
        let seconds = match value {
            CanonicalJsonValue::Integer(seconds) => u64::try_from(i64::from(*seconds)).ok(),
            _ => None,
        };
        let Some(seconds) = seconds.filter(|seconds| *seconds > 0) else {
            return Err(Error::bad_json(format!(
                "{WILL_EXPIRE} must be a positive whole number of seconds"
            )));
        };
        let settings = self.settings();
        if !settings.enabled || settings.max_running == 0 {
            return Err(Error::forbidden("this server does not let events expire"));
        }
        if !can_expire(event_type) {
            return Err(Error::invalid_param(format!(
                "an event of type {event_type} cannot expire"
            )));
        }
        if seconds < settings.min_duration {
            return Err(Error::invalid_param(format!(
                "{WILL_EXPIRE} must be at least {} seconds",
                settings.min_duration
            )));
        }
        if seconds > settings.max_duration {
            return Err(Error::invalid_param(format!(
                "{WILL_EXPIRE} must be at most {} seconds",
                settings.max_duration
            )));
        }
        Ok(Duration::from_secs(seconds))
    }

    fn short_of(&self, user: &UserId) -> Result<ShortUserId> {
        self.graph
            .intern()
            .lookup_user(&self.timers.latest(), user)?
            .ok_or_else(|| Error::corrupt("a sender has no short id"))
    }

    fn shown(&self, token: &ExpireRefreshToken) -> Option<Shown> {
        self.timers.shown(Feature::Expiry, token.as_str())
    }

    /// Ends one timer now, whatever its deadline. Does nothing if it has ended.
    async fn finish(&self, timer: TimerId, outcome: Outcome) -> Result<()> {
        self.timers.fire(&[Firing { timer, cause: Cause::Asked(outcome) }], self).await
    }

    fn was_ended(&self, read: &impl Read, shown: &Shown) -> Result<bool> {
        let Some(ended) = read.get(&ENDED_BY_TIMER, &shown.timer)? else {
            return Ok(false);
        };
        let recent = self.resources.clock.now().since(ended.at) <= END_REPEAT;
        Ok(recent && self.timers.is_shown(shown, ended.nonce))
    }
}
