//! Expiring events: arming, keeping alive, ending. The contract is in the manual's page
//! "Expiring events"; the numbers in comments are the rules of its table.
//!
//! Invariants: a timer is what its row says; an answered refresh is in the row; a token is the right
//! to refresh and to end, and is in no log, error or metric.

mod admin;
mod fire;
mod task;
mod token;

use std::{hash::Hash, sync::Arc, time::Duration};

use ruma::{
    UserId,
    canonical_json::{CanonicalJsonObject, CanonicalJsonValue},
    events::TimelineEventType,
};
use wick_core::{Error, Result, ShortUserId, TimerId, config};
use wick_database::{
    Durability, Read,
    schema::timer::{ENDED_BY_TIMER, TIMER_BY_ID, TimerRow},
};
use wick_room::{Arm, Outcome, Rooms as Graph, TimerChange};
use wick_ruma::ExpireRefreshToken;

use crate::{Limit, Limits, Resources, Timers};

pub use self::admin::RunningTimer;
use self::token::{Shown, Tokens};

/// The content key.
const KEY: &str = "m.will_expire";

/// How long the same `end` again is answered like the first (rule 11).
const END_REPEAT: Duration = Duration::from_secs(5 * 60);

/// How often a refresh is tried anew because another one came between.
const REFRESH_ATTEMPTS: usize = 16;

/// Types that a server must not repeat by itself (rule 3).
const NEVER: &[TimelineEventType] = &[
    TimelineEventType::RoomCreate,
    TimelineEventType::RoomMember,
    TimelineEventType::RoomPowerLevels,
    TimelineEventType::RoomJoinRules,
    TimelineEventType::RoomHistoryVisibility,
    TimelineEventType::RoomServerAcl,
    TimelineEventType::RoomEncryption,
    TimelineEventType::RoomTombstone,
    TimelineEventType::RoomRedaction,
];

/// Events that expire.
pub struct Expiry {
    resources: Resources,
    graph: Arc<Graph>,
    timers: Arc<Timers>,
    limits: Arc<Limits>,
    tokens: Tokens,
}

/// A timer that an event is about to arm. While it lives it counts against its owner's limit.
pub struct Prepared {
    /// What the event's [`Effects`](wick_room::Effects) want.
    pub arm: Arm,
    owner: ShortUserId,
    timers: Arc<Timers>,
}

impl Drop for Prepared {
    fn drop(&mut self) {
        self.timers.release(self.owner);
    }
}

impl Expiry {
    /// On a graph whose hook is [`listener`].
    #[must_use]
    pub fn new(
        resources: Resources,
        graph: Arc<Graph>,
        timers: Arc<Timers>,
        limits: Arc<Limits>,
        secret: [u8; 32],
    ) -> Self {
        Self { resources, graph, timers, limits, tokens: Tokens::new(secret) }
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
        let Some(value) = content.get(KEY) else { return Ok(None) };
        let duration = self.duration(value, event_type)?;
        let owner = self.short_of(owner)?;
        self.reserve(owner)?;
        let arm = Arm {
            timer: self.graph.next_timer(),
            nonce: self.resources.random.number(),
            duration: wick_core::clock::millis(duration),
            deadline: self.resources.clock.now().after(duration),
        };
        content.insert(KEY.to_owned(), CanonicalJsonValue::String("running".to_owned()));
        Ok(Some(Prepared { arm, owner, timers: Arc::clone(&self.timers) }))
    }

    /// The refresh token of a timer, for the answer to the one who armed it.
    #[must_use]
    pub fn token(&self, timer: TimerId, nonce: u64) -> ExpireRefreshToken {
        self.tokens.of(timer, nonce)
    }

    /// Begins a timer's duration anew. Returns once that survives a killed process (rule 9).
    ///
    /// # Errors
    /// `M_NOT_FOUND` for any token without a running timer, `M_LIMIT_EXCEEDED`. `from` is where the
    /// request came from: only tokens that nobody has count against it.
    pub async fn refresh(&self, token: &ExpireRefreshToken, from: &impl Hash) -> Result<()> {
        let began = self.resources.clock.monotonic();
        let now = self.resources.clock.now();
        let Some(shown) = token::parse(token) else { return Err(self.invalid(from)) };
        let mut limited = false;
        for _ in 0..REFRESH_ATTEMPTS {
            let Some(row) = self.running(&shown)? else { return Err(self.invalid(from)) };
            if !limited {
                self.limits.ensure(Limit::ExpiryRefresh, &shown.timer)?;
                limited = true;
            }
            let duration = Duration::from_millis(row.duration);
            // In memory first: whoever fires reads the row first and looks here after it, so it
            // either sees this or finds that the row has changed.
            self.timers.put_off(shown.timer, began + duration);
            // Never the row it was, even if the wall clock went back: a firing that was decided on that
            // one must not get through.
            let later = row.deadline.after(Duration::from_millis(1));
            let refreshed = TimerRow { deadline: now.after(duration).max(later), ..row.clone() };
            let mut batch = self.resources.database.batch();
            batch.require(&TIMER_BY_ID, &shown.timer, Some(&row));
            batch.put(&TIMER_BY_ID, &shown.timer, &refreshed);
            match self.resources.database.commit(batch, Durability::Flushed).await {
                Ok(_) => {
                    metrics::counter!("wick_expiry_refreshed_total").increment(1);
                    let took = self.resources.clock.monotonic().since(began);
                    metrics::histogram!("wick_expiry_refresh_seconds").record(took.as_secs_f64());
                    return Ok(());
                }
                Err(error) if error.is_conflict() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::corrupt("a refresh found the timer changed again and again"))
    }

    /// Ends a timer now: its terminal event is in the room when this returns.
    ///
    /// # Errors
    /// `M_NOT_FOUND` for any token without a running timer, except that of one that was ended less
    /// than five minutes ago; `M_LIMIT_EXCEEDED`.
    pub async fn end(&self, token: &ExpireRefreshToken, from: &impl Hash) -> Result<()> {
        let Some(shown) = token::parse(token) else { return Err(self.invalid(from)) };
        if self.running(&shown)?.is_some() {
            self.limits.ensure(Limit::ExpiryRefresh, &shown.timer)?;
            self.finish(shown.timer, Outcome::Ended).await?;
        }
        // Whoever ended it, somebody did, or its deadline passed in between.
        if !self.was_ended(&self.latest(), &shown)? {
            return Err(self.invalid(from));
        }
        let database = &self.resources.database;
        if !self.was_ended(&database.published(), &shown)? {
            // By a request that is not answered itself yet, because it is not durable.
            database.commit(database.batch(), Durability::Synced).await?;
        }
        Ok(())
    }

    /// Ends all timers of an account that goes away, as expired (rule 16).
    ///
    /// # Errors
    /// If the database fails.
    pub async fn expire_all_of(&self, user: &UserId) -> Result<()> {
        let Some(owner) = self.graph.intern().lookup_user(&self.latest(), user)? else {
            return Ok(());
        };
        for timer in self.timers.of_owner(owner) {
            self.finish(timer, Outcome::Expired).await?;
        }
        Ok(())
    }

    /// What `/capabilities` says.
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
            return Err(Error::bad_json(
                "m.will_expire must be a positive whole number of seconds",
            ));
        };
        let settings = self.settings();
        if !settings.enabled || settings.max_running == 0 {
            return Err(Error::forbidden("this server does not let events expire"));
        }
        if NEVER.contains(event_type) {
            return Err(Error::invalid_param(format!(
                "an event of type {event_type} cannot expire"
            )));
        }
        if seconds < settings.min_duration {
            return Err(Error::invalid_param(format!(
                "m.will_expire must be at least {} seconds",
                settings.min_duration
            )));
        }
        if seconds > settings.max_duration {
            return Err(Error::invalid_param(format!(
                "m.will_expire must be at most {} seconds",
                settings.max_duration
            )));
        }
        Ok(Duration::from_secs(seconds))
    }

    fn reserve(&self, owner: ShortUserId) -> Result<()> {
        let most = usize::try_from(self.settings().max_running).unwrap_or(usize::MAX);
        self.timers.reserve(owner, most).map_err(|full| {
            let now = self.resources.clock.monotonic();
            let wait = full.next_due.map_or(Duration::ZERO, |due| due.since(now));
            Error::limit_exceeded(wait.max(Duration::from_millis(1)))
        })
    }

    fn short_of(&self, user: &UserId) -> Result<ShortUserId> {
        self.graph
            .intern()
            .lookup_user(&self.latest(), user)?
            .ok_or_else(|| Error::corrupt("a sender has no short id"))
    }

    /// The timer's row, if the token is its.
    fn running(&self, shown: &Shown) -> Result<Option<TimerRow>> {
        let row = self.latest().get(&TIMER_BY_ID, &shown.timer)?;
        Ok(row.filter(|row| self.tokens.check(shown, row.nonce)))
    }

    fn was_ended(&self, read: &impl Read, shown: &Shown) -> Result<bool> {
        let Some(ended) = read.get(&ENDED_BY_TIMER, &shown.timer)? else {
            return Ok(false);
        };
        let recent = self.resources.clock.now().since(ended.at) <= END_REPEAT;
        Ok(recent && self.tokens.check(shown, ended.nonce))
    }

    /// The answer to a token without a timer, which is always the same (rule 10), or that there were
    /// too many of them (rule 26).
    fn invalid(&self, from: &impl Hash) -> Error {
        match self.limits.ensure(Limit::ExpiryInvalid, from) {
            Ok(()) => Error::not_found("no event is waiting for this token"),
            Err(limited) => limited,
        }
    }

    fn latest(&self) -> wick_database::Latest {
        self.resources.database.latest()
    }
}

/// Keeps `timers` as the graph's commits say.
#[must_use]
pub fn listener(resources: &Resources, timers: Arc<Timers>) -> wick_room::TimerListener {
    let clock = Arc::clone(&resources.clock);
    Box::new(move |changes| {
        for change in changes {
            match change {
                TimerChange::Armed(timer, row) => {
                    let due = clock.monotonic() + row.deadline.since(clock.now());
                    timers.armed(*timer, row.owner, due);
                    metrics::counter!("wick_expiry_armed_total").increment(1);
                }
                TimerChange::Stopped(timer, _, outcome) => {
                    timers.stopped(*timer);
                    metrics::counter!("wick_expiry_stopped_total", "outcome" => name_of(*outcome))
                        .increment(1);
                }
            }
        }
        metrics::gauge!("wick_expiry_running").set(gauge(timers.len()));
    })
}

fn gauge(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::MAX, f64::from)
}

fn name_of(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Expired => "expired",
        Outcome::Ended => "ended",
        Outcome::Superseded => "superseded",
        Outcome::Redacted => "redacted",
    }
}
