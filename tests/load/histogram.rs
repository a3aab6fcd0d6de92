//! Latencies in logarithmic buckets: constant memory, under one percent of error at any magnitude.
//!
//! Values are microseconds. Those under 128 have a bucket each; above, every power of two is cut in 128.

use std::time::Duration;

const BITS: u32 = 7;
const STEPS: u64 = 1 << BITS;

/// Counts of recorded values.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max: u64,
}

impl Histogram {
    /// Records one latency.
    pub fn record(&mut self, latency: Duration) {
        self.record_us(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
    }

    /// Records one value in microseconds.
    pub fn record_us(&mut self, value: u64) {
        let bucket = bucket_of(value);
        if self.counts.len() <= bucket {
            self.counts.resize(bucket + 1, 0);
        }
        if let Some(count) = self.counts.get_mut(bucket) {
            *count += 1;
        }
        self.total += 1;
        self.max = self.max.max(value);
    }

    /// Adds everything `other` has recorded.
    pub fn merge(&mut self, other: &Self) {
        if self.counts.len() < other.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.total += other.total;
        self.max = self.max.max(other.max);
    }

    /// How many values were recorded.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The largest value, exact, in microseconds.
    #[must_use]
    pub fn max_us(&self) -> u64 {
        self.max
    }

    /// The value (microseconds) that `per_10_000` of the recorded ones do not pass; 9900 is p99. 0 if empty.
    #[must_use]
    pub fn quantile_us(&self, per_10_000: u64) -> u64 {
        let rank = self.total.saturating_mul(per_10_000).div_ceil(10_000).max(1);
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return top_of(bucket).min(self.max);
            }
        }
        self.max
    }
}

fn bucket_of(value: u64) -> usize {
    let magnitude = (u64::BITS - value.leading_zeros()).saturating_sub(BITS + 1);
    // value >> magnitude is under 2 * STEPS, and magnitude under 64: the sum fits any usize.
    usize::try_from(u64::from(magnitude) * STEPS + (value >> magnitude)).unwrap_or(usize::MAX)
}

/// The largest value that falls into `bucket`.
fn top_of(bucket: usize) -> u64 {
    let bucket = u64::try_from(bucket).unwrap_or(u64::MAX);
    let magnitude = (bucket / STEPS).saturating_sub(1);
    let low = bucket - magnitude * STEPS;
    (((u128::from(low) + 1) << magnitude) - 1).try_into().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_falls_into_a_bucket_whose_top_is_within_one_percent() {
        let mut value: u64 = 0;
        while value < u64::MAX / 3 {
            let top = top_of(bucket_of(value));
            assert!(top >= value, "{value} {top}");
            assert!(u128::from(top - value) * 100 <= u128::from(value), "{value} {top}");
            value += value / 37 + 1;
        }
        assert_eq!(top_of(bucket_of(u64::MAX)), u64::MAX);
    }

    #[test]
    fn buckets_follow_each_other_without_gap_or_overlap() {
        for bucket in 1..4000 {
            assert_eq!(bucket_of(top_of(bucket - 1) + 1), bucket);
            assert_eq!(bucket_of(top_of(bucket)), bucket);
        }
    }

    #[test]
    fn quantiles_of_a_small_sample_are_exact() {
        let mut histogram = Histogram::default();
        (1..=100).for_each(|value| histogram.record_us(value));
        assert_eq!(histogram.total(), 100);
        assert_eq!(histogram.quantile_us(5000), 50);
        assert_eq!(histogram.quantile_us(9900), 99);
        assert_eq!(histogram.quantile_us(10_000), 100);
    }

    #[test]
    fn no_quantile_passes_the_largest_value() {
        let mut histogram = Histogram::default();
        histogram.record(Duration::from_micros(1_000_001));
        assert_eq!(histogram.quantile_us(1), 1_000_001);
        assert_eq!(histogram.max_us(), 1_000_001);
    }

    #[test]
    fn an_empty_histogram_answers_zero() {
        assert_eq!(Histogram::default().quantile_us(9900), 0);
    }

    #[test]
    fn merging_is_the_same_as_recording_together() {
        let (mut one, mut two, mut both) =
            (Histogram::default(), Histogram::default(), Histogram::default());
        for value in [3, 900, 70_000, 5_000_000] {
            one.record_us(value);
            two.record_us(value * 7);
            both.record_us(value);
            both.record_us(value * 7);
        }
        one.merge(&two);
        assert_eq!(one.counts, both.counts);
        assert_eq!((one.total(), one.max_us()), (both.total(), both.max_us()));
    }
}
