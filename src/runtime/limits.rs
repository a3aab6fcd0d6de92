//! Rate limits by user, token or address.
//!
//! Invariant: the clock is the server's own, so that limits can be tested without waiting.

use std::{
    hash::{BuildHasher, Hash, RandomState},
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use governor::{
    InsufficientCapacity, Quota, RateLimiter, clock::Clock as GovernorClock,
    middleware::NoOpMiddleware, state::keyed::DashMapStateStore,
};
use ruma::api::error::{ErrorKind, LimitExceededErrorData};
use wick_core::{Clock, Config, Error, Result, config::Rate};

/// After that many uses of one limit, keys that have rested are forgotten.
const SWEEP_EVERY: u32 = 4096;

/// Something that is rate limited. The key is a user, a token or an address, as the
/// configuration allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Any request with an access token.
    Requests,
    /// Any request without one.
    Anonymous,
    /// A new account.
    Registration,
    /// A log-in attempt, by address.
    Login,
    /// A password that is tried, by account and origin.
    LoginAccount,
    /// A session of user-interactive authentication that is opened, by user.
    Confirmations,
    /// An event that is sent.
    Messages,
    /// A join or a knock.
    Joins,
    /// An invitation.
    Invites,
    /// A display name or avatar, by user.
    Profiles,
    /// A change of presence, by user.
    Presence,
    /// A new room.
    Rooms,
    /// A file that is uploaded, or a media id that is reserved.
    Uploads,
    /// A page that is fetched for a preview, by user.
    Previews,
    /// A request of another server, by server.
    Servers,
    /// What is done with a refresh token or a delay id, by timer.
    KeepAlive,
    /// An unknown refresh token or delay id, by address.
    InvalidHandle,
}

/// All limits with what was used of them.
pub struct Limits {
    hasher: RandomState,
    enabled: bool,
    requests: Limiter,
    anonymous: Limiter,
    registration: Limiter,
    login: Limiter,
    login_account: Limiter,
    confirmations: Limiter,
    messages: Limiter,
    joins: Limiter,
    invites: Limiter,
    profiles: Limiter,
    presence: Limiter,
    rooms: Limiter,
    uploads: Limiter,
    previews: Limiter,
    servers: Limiter,
    keep_alive: Limiter,
    invalid_handle: Limiter,
}

impl Limits {
    /// As configured, with nothing used yet.
    #[must_use]
    pub fn new(config: &Config, clock: &Arc<dyn Clock>) -> Self {
        let limiter = |rate| Limiter::new(rate, clock);
        let limits = &config.limits;
        Self {
            hasher: RandomState::new(),
            enabled: limits.enabled,
            requests: limiter(limits.requests),
            anonymous: limiter(limits.anonymous),
            registration: limiter(limits.registration),
            login: limiter(limits.login),
            login_account: limiter(limits.login_account),
            confirmations: limiter(limits.confirmations),
            messages: limiter(limits.messages),
            joins: limiter(limits.joins),
            invites: limiter(limits.invites),
            profiles: limiter(limits.profiles),
            presence: limiter(limits.presence),
            rooms: limiter(limits.rooms),
            uploads: limiter(limits.uploads),
            previews: limiter(limits.previews),
            servers: limiter(limits.servers),
            keep_alive: limiter(config.timers.keep_alive),
            invalid_handle: limiter(config.timers.invalid),
        }
    }

    /// Counts one use by `key`.
    ///
    /// # Errors
    /// `M_LIMIT_EXCEEDED` with the time to wait; then nothing is counted.
    pub fn ensure(&self, limit: Limit, key: &(impl Hash + ?Sized)) -> Result<()> {
        self.ensure_many(limit, key, NonZeroU32::MIN)
    }

    /// Counts `uses` by `key`, all or none.
    ///
    /// # Errors
    /// `M_LIMIT_EXCEEDED` with the time to wait, without one if so many at once are never allowed; then
    /// nothing is counted.
    pub fn ensure_many(
        &self,
        limit: Limit,
        key: &(impl Hash + ?Sized),
        uses: NonZeroU32,
    ) -> Result<()> {
        let (limiter, always) = match limit {
            Limit::Requests => (&self.requests, false),
            Limit::Anonymous => (&self.anonymous, false),
            Limit::Registration => (&self.registration, false),
            Limit::Login => (&self.login, false),
            Limit::LoginAccount => (&self.login_account, false),
            Limit::Confirmations => (&self.confirmations, false),
            Limit::Messages => (&self.messages, false),
            Limit::Joins => (&self.joins, false),
            Limit::Invites => (&self.invites, false),
            Limit::Profiles => (&self.profiles, false),
            Limit::Presence => (&self.presence, false),
            Limit::Rooms => (&self.rooms, false),
            Limit::Uploads => (&self.uploads, false),
            Limit::Previews => (&self.previews, false),
            Limit::Servers => (&self.servers, false),
            Limit::KeepAlive => (&self.keep_alive, true),
            Limit::InvalidHandle => (&self.invalid_handle, true),
        };
        if self.enabled || always {
            limiter.ensure(self.hasher.hash_one(key), uses)
        } else {
            Ok(())
        }
    }
}

struct Limiter {
    clock: Ticks,
    // Keys are hashed with a secret: a token is not kept, and two that collide share one budget.
    inner: RateLimiter<u64, DashMapStateStore<u64>, Ticks, NoOpMiddleware<Duration>>,
    uses: AtomicU32,
}

impl Limiter {
    fn new(rate: Rate, clock: &Arc<dyn Clock>) -> Self {
        let clock = Ticks(Arc::clone(clock));
        let period = Duration::try_from_secs_f64(rate.per_second.recip())
            .unwrap_or(Duration::MAX)
            .max(Duration::from_nanos(1));
        let burst = NonZeroU32::new(rate.burst).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::with_period(period)
            .unwrap_or_else(|| Quota::per_second(NonZeroU32::MIN))
            .allow_burst(burst);
        let inner = RateLimiter::new(quota, DashMapStateStore::default(), clock.clone());
        Self { clock, inner, uses: AtomicU32::new(0) }
    }

    fn ensure(&self, key: u64, uses: NonZeroU32) -> Result<()> {
        if self.uses.fetch_add(1, Ordering::Relaxed).is_multiple_of(SWEEP_EVERY) {
            self.inner.retain_recent();
        }
        match self.inner.check_key_n(&key, uses) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(until)) => Err(Error::limit_exceeded(until.wait_time_from(self.clock.now()))),
            Err(InsufficientCapacity(most)) => {
                let kind = ErrorKind::LimitExceeded(LimitExceededErrorData::new());
                Err(Error::refused(kind, format!("at most {most} at once are allowed")))
            }
        }
    }
}

#[derive(Clone)]
struct Ticks(Arc<dyn Clock>);

impl GovernorClock for Ticks {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.monotonic().0
    }
}

#[cfg(test)]
mod tests {
    use ruma::api::error::RetryAfter;
    use wick_core::clock::ManualClock;

    use super::*;

    #[test]
    fn after_the_burst_one_waits_as_long_as_one_is_told() {
        let manual = Arc::new(ManualClock::default());
        let clock: Arc<dyn Clock> = manual.clone();
        let mut config = Config::default();
        config.limits.messages = Rate { per_second: 0.5, burst: 3 };
        let limits = Limits::new(&config, &clock);
        for _ in 0..3 {
            limits.ensure(Limit::Messages, &"a").unwrap();
        }
        let error = limits.ensure(Limit::Messages, &"a").unwrap_err();
        let Some(ErrorKind::LimitExceeded(data)) = error.kind() else { panic!("{error}") };
        assert_eq!(data.retry_after, Some(RetryAfter::Delay(Duration::from_secs(2))));
        limits.ensure(Limit::Messages, &"b").unwrap();
        limits.ensure(Limit::Joins, &"a").unwrap();

        manual.advance(Duration::from_millis(1999));
        limits.ensure(Limit::Messages, &"a").unwrap_err();
        manual.advance(Duration::from_millis(1));
        limits.ensure(Limit::Messages, &"a").unwrap();
        limits.ensure(Limit::Messages, &"a").unwrap_err();
    }

    #[test]
    fn many_uses_count_wholly_or_not_at_all() {
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::default());
        let mut config = Config::default();
        config.limits.invites = Rate { per_second: 1.0, burst: 5 };
        let limits = Limits::new(&config, &clock);
        let ensure = |uses: u32| {
            let uses = NonZeroU32::new(uses).unwrap();
            limits.ensure_many(Limit::Invites, &"a", uses).map_err(|error| error.to_string())
        };
        assert!(ensure(6).unwrap_err().contains("at most 5"));
        ensure(3).unwrap();
        assert!(ensure(3).unwrap_err().contains("too many requests"));
        ensure(2).unwrap();
        ensure(1).unwrap_err();
    }

    #[test]
    fn the_switch_leaves_the_limits_of_timers_in_force() {
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::default());
        let mut config = Config::default();
        config.limits.enabled = false;
        config.limits.login.burst = 1;
        config.timers.invalid.burst = 1;
        let limits = Limits::new(&config, &clock);
        for _ in 0..10 {
            limits.ensure(Limit::Login, &1).unwrap();
        }
        limits.ensure(Limit::InvalidHandle, &1).unwrap();
        limits.ensure(Limit::InvalidHandle, &1).unwrap_err();
    }
}
