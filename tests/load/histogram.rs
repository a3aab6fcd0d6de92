//! Latencies in microseconds: constant memory, under a thousandth of error at any magnitude.

use std::{fmt, time::Duration};

/// Significant decimal digits that a recorded value keeps.
const DIGITS: u8 = 3;

/// What longer latencies are recorded as: an hour.
const LONGEST: u64 = 3_600_000_000;

/// Counts of recorded values.
#[derive(Clone)]
pub struct Histogram(hdrhistogram::Histogram<u64>);

impl Default for Histogram {
    fn default() -> Self {
        Self(hdrhistogram::Histogram::new(DIGITS).expect("a histogram may have 0 to 5 digits"))
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Histogram").field("total", &self.total()).finish_non_exhaustive()
    }
}

impl Histogram {
    /// Records one latency.
    pub fn record(&mut self, latency: Duration) {
        let value = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).min(LONGEST);
        self.0.record(value).expect("a histogram grows to hold an hour");
    }

    /// Adds everything `other` has recorded.
    pub fn merge(&mut self, other: &Self) {
        self.0 += &other.0;
    }

    /// How many values were recorded.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.len()
    }

    /// The largest value in microseconds.
    #[must_use]
    pub fn max_us(&self) -> u64 {
        self.0.max()
    }

    /// The value in microseconds that this part of the recorded ones does not pass; 0.99 is p99. 0 if empty.
    #[must_use]
    pub fn quantile_us(&self, part: f64) -> u64 {
        self.0.value_at_quantile(part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: impl IntoIterator<Item = u64>) -> Histogram {
        let mut histogram = Histogram::default();
        values.into_iter().for_each(|value| histogram.record(Duration::from_micros(value)));
        histogram
    }

    #[test]
    fn quantiles_of_a_small_sample_are_exact() {
        let histogram = of(1..=100);
        assert_eq!(histogram.total(), 100);
        assert_eq!(histogram.quantile_us(0.5), 50);
        assert_eq!(histogram.quantile_us(0.99), 99);
        assert_eq!(histogram.max_us(), 100);
    }

    #[test]
    fn a_large_value_is_kept_to_a_thousandth_and_an_empty_histogram_has_none() {
        for value in [123_456_789, LONGEST, u64::MAX] {
            let (seen, value) = (of([1, value]).max_us(), value.min(LONGEST));
            assert!(seen.abs_diff(value) <= value / 1000, "{value}: {seen}");
        }
        assert_eq!((Histogram::default().quantile_us(0.99), Histogram::default().max_us()), (0, 0));
    }

    #[test]
    fn merging_is_the_same_as_recording_together() {
        let values = [3, 900, 70_000, 5_000_000];
        let mut one = of(values);
        one.merge(&of(values.map(|value| value * 7)));
        let both = of(values.into_iter().chain(values.map(|value| value * 7)));
        assert!(one.0 == both.0);
    }
}
