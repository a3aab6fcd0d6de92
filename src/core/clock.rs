//! Time as an argument: `main` passes the real clock, tests pass one they move by hand.

mod manual;

use std::{future::Future, ops::Add, pin::Pin, time::Duration};

use ruma::{MilliSecondsSinceUnixEpoch, UInt};
use serde::{Deserialize, Serialize};

pub use self::manual::ManualClock;

/// Wall-clock time in milliseconds since the UNIX epoch. It can jump.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The time `later` after this one.
    #[must_use]
    pub fn after(self, later: Duration) -> Self {
        Self(self.0.saturating_add(millis(later)))
    }

    /// The first time after this one that is a multiple of `step` since the epoch.
    #[must_use]
    pub fn next_multiple_of(self, step: Duration) -> Self {
        let step = millis(step).max(1);
        Self((self.0 / step).saturating_add(1).saturating_mul(step))
    }

    /// The time `earlier` before this one.
    #[must_use]
    pub fn before(self, earlier: Duration) -> Self {
        Self(self.0.saturating_sub(millis(earlier)))
    }

    /// How long after `earlier` this is; zero if it is not.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// The form the Matrix specification uses in events.
    #[must_use]
    pub fn matrix(self) -> MilliSecondsSinceUnixEpoch {
        MilliSecondsSinceUnixEpoch(UInt::new_saturating(self.0))
    }
}

impl From<MilliSecondsSinceUnixEpoch> for Timestamp {
    fn from(time: MilliSecondsSinceUnixEpoch) -> Self {
        Self(time.get().into())
    }
}

/// Time since the clock was made. It never jumps and means nothing to another process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Monotonic(pub Duration);

impl Add<Duration> for Monotonic {
    type Output = Self;

    fn add(self, later: Duration) -> Self {
        Self(self.0.saturating_add(later))
    }
}

impl Monotonic {
    /// How long after `earlier` this is; zero if it is not.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// What [`Clock::sleep_until`] returns.
pub type Sleep = Pin<Box<dyn Future<Output = ()> + Send + 'static>>;

/// The time, and sleeping.
pub trait Clock: Send + Sync + 'static {
    /// The wall clock.
    fn now(&self) -> Timestamp;

    /// The clock that never jumps.
    fn monotonic(&self) -> Monotonic;

    /// Resolves once [`Clock::monotonic`] has reached `deadline`.
    fn sleep_until(&self, deadline: Monotonic) -> Sleep;
}

/// A duration in whole milliseconds, saturating.
#[must_use]
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
