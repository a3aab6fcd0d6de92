//! Waits between attempts at what fails.

use std::time::Duration;

/// A wait that doubles with each failure, up to a bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackOff {
    first: Duration,
    longest: Duration,
}

impl BackOff {
    /// Waits of `first` after the first failure and `longest` at most.
    #[must_use]
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest }
    }

    /// The wait after a failure that follows on `earlier` others.
    #[must_use]
    pub fn after(self, earlier: u32) -> Duration {
        self.first.saturating_mul(2_u32.saturating_pow(earlier)).min(self.longest)
    }

    /// The wait after the first failure.
    #[must_use]
    pub const fn first(self) -> Duration {
        self.first
    }

    /// The wait after many failures.
    #[must_use]
    pub const fn longest(self) -> Duration {
        self.longest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_bound() {
        let back_off = BackOff::new(Duration::from_secs(3), Duration::from_secs(20));
        let waits = [0, 1, 2, 3, u32::MAX].map(|earlier| back_off.after(earlier));
        assert_eq!(waits, [3, 6, 12, 20, 20].map(Duration::from_secs));
    }
}
