//! How often a token may be used, and how often an address may ask with invalid ones.
//!
//! Invariant: bounded memory: buckets that are full again are forgotten, and there are never more than
//! [`MOST`].

use std::{collections::HashMap, hash::Hash, time::Duration};

use super::config::Rate;

/// The most buckets that are remembered. Beyond that, those that were used the longest ago go.
const MOST: usize = 10_000;

/// One bucket for each `K`. Moments are durations since any fixed point.
pub struct Rates<K> {
    buckets: HashMap<K, Bucket>,
}

struct Bucket {
    left: f64,
    at: Duration,
}

impl<K: Hash + Eq + Clone> Rates<K> {
    /// With no request counted.
    pub fn new() -> Self {
        Self { buckets: HashMap::new() }
    }

    /// Counts a request, or answers how long to wait before the next.
    pub fn ask(&mut self, key: &K, now: Duration, rate: Rate) -> Result<(), Duration> {
        if self.buckets.len() >= MOST {
            self.forget(now, rate);
        }
        let full = f64::from(rate.burst);
        let bucket = self.buckets.entry(key.clone()).or_insert(Bucket { left: full, at: now });
        let since = now.saturating_sub(bucket.at).as_secs_f64();
        bucket.left = since.mul_add(rate.per_second, bucket.left).min(full);
        bucket.at = now;
        if bucket.left >= 1.0 {
            bucket.left -= 1.0;
            return Ok(());
        }
        let missing = (1.0 - bucket.left) / rate.per_second;
        Err(Duration::try_from_secs_f64(missing).unwrap_or(Duration::MAX))
    }

    fn forget(&mut self, now: Duration, rate: Rate) {
        let full = f64::from(rate.burst);
        self.buckets.retain(|_, bucket| {
            let since = now.saturating_sub(bucket.at).as_secs_f64();
            since.mul_add(rate.per_second, bucket.left) < full
        });
        if self.buckets.len() >= MOST {
            let mut used: Vec<_> = self.buckets.values().map(|bucket| bucket.at).collect();
            used.sort_unstable();
            let middle = used.get(MOST / 2).copied().unwrap_or(now);
            self.buckets.retain(|_, bucket| bucket.at > middle);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { per_second: 0.5, burst: 3 };

    #[test]
    fn a_burst_passes_and_then_the_rate_holds() {
        let mut rates = Rates::new();
        for _ in 0..3 {
            assert_eq!(rates.ask(&"a", Duration::ZERO, RATE), Ok(()));
        }
        assert_eq!(rates.ask(&"a", Duration::ZERO, RATE), Err(Duration::from_secs(2)));
        assert_eq!(rates.ask(&"b", Duration::ZERO, RATE), Ok(()), "others have their own");
        assert_eq!(rates.ask(&"a", Duration::from_secs(1), RATE), Err(Duration::from_secs(1)));
        assert_eq!(rates.ask(&"a", Duration::from_secs(2), RATE), Ok(()));
        for _ in 0..3 {
            assert_eq!(rates.ask(&"a", Duration::from_secs(60), RATE), Ok(()));
        }
        assert!(rates.ask(&"a", Duration::from_secs(60), RATE).is_err());
    }

    #[test]
    fn after_the_burst_a_rate_of_zero_lets_nothing_pass() {
        let rate = Rate { per_second: 0.0, burst: 1 };
        let mut rates = Rates::new();
        assert_eq!(rates.ask(&1, Duration::ZERO, rate), Ok(()));
        assert_eq!(rates.ask(&1, Duration::from_secs(9_999), rate), Err(Duration::MAX));
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_newest_stay() {
        let mut rates = Rates::new();
        let at = |key: u64| Duration::from_micros(key);
        for key in 0..30_000 {
            rates.ask(&key, at(key), RATE).unwrap();
        }
        assert!(rates.buckets.len() <= MOST);
        let newest = 29_999;
        rates.ask(&newest, at(newest), RATE).unwrap();
        rates.ask(&newest, at(newest), RATE).unwrap();
        assert!(rates.ask(&newest, at(newest), RATE).is_err());
    }
}
