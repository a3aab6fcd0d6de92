//! What a run found, as a table for people or as JSON.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{Result, histogram::Histogram, process::Usage};

/// How the label of a row ends that goes by `origin_server_ts`.
pub(crate) const MADE: &str = ": made";

/// The whole outcome of a run.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// The scenario's name.
    pub scenario: String,
    /// How it was run: users, connections, rooms …
    pub parameters: BTreeMap<String, String>,
    /// What was measured, in order.
    pub measures: Vec<Measure>,
    /// Single findings in words.
    pub notes: Vec<String>,
}

/// One row: how many, how fast, at what cost.
#[derive(Debug, Serialize, Deserialize)]
pub struct Measure {
    /// What was measured.
    pub label: String,
    /// Successful operations.
    pub count: u64,
    /// Failed operations by kind.
    pub errors: BTreeMap<String, u64>,
    /// How long the measuring took, in seconds.
    pub seconds: f64,
    /// Successful operations per second.
    pub per_second: f64,
    /// Latency or lateness in milliseconds.
    pub latency_ms: Latency,
    /// What the server used meanwhile.
    pub server: Option<Cost>,
}

/// The usual percentiles, in milliseconds.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are enough")]
pub struct Latency {
    pub p50: f64,
    pub p95: f64,
    pub p99: f64,
    pub max: f64,
}

/// What the server used during a measure, and has at its end.
#[derive(Debug, Serialize, Deserialize)]
pub struct Cost {
    /// Processor seconds used meanwhile.
    pub cpu_seconds: f64,
    /// Operations for each of them.
    pub per_cpu_second: f64,
    /// Resident set at the end, in KiB.
    pub rss_kib: u64,
    /// Largest resident set of the process so far, in KiB.
    pub peak_kib: u64,
}

impl Measure {
    /// A row out of what was recorded in `elapsed`.
    #[must_use]
    pub fn new(label: &str, histogram: &Histogram, elapsed: Duration) -> Self {
        let seconds = elapsed.as_secs_f64();
        let count = histogram.total();
        Self {
            label: label.to_owned(),
            count,
            errors: BTreeMap::new(),
            seconds,
            per_second: ratio(count, seconds),
            latency_ms: Latency {
                p50: ms(histogram.quantile_us(0.5)),
                p95: ms(histogram.quantile_us(0.95)),
                p99: ms(histogram.quantile_us(0.99)),
                max: ms(histogram.max_us()),
            },
            server: None,
        }
    }

    /// A row for one thing that took `time`.
    #[must_use]
    pub fn single(label: &str, time: Duration) -> Self {
        let mut histogram = Histogram::default();
        histogram.record(time);
        Self::new(label, &histogram, time)
    }

    /// Adds what the server used between `before` and `after`.
    #[must_use]
    pub fn with_cost(mut self, before: Option<Usage>, after: Option<Usage>) -> Self {
        if let (Some(before), Some(after)) = (before, after) {
            let cpu_seconds = after.cpu_seconds - before.cpu_seconds;
            self.server = Some(Cost {
                cpu_seconds,
                per_cpu_second: ratio(self.count, cpu_seconds),
                rss_kib: after.rss_kib,
                peak_kib: after.peak_kib,
            });
        }
        self
    }

    /// Counts `count` failures of `kind`; none leaves no trace.
    #[must_use]
    pub fn with_errors(mut self, kind: &str, count: u64) -> Self {
        if count > 0 {
            *self.errors.entry(kind.to_owned()).or_default() += count;
        }
        self
    }
}

impl Report {
    /// The report as a line of JSON.
    ///
    /// # Errors
    /// Never in practice: a number that JSON cannot hold.
    pub fn json(&self) -> Result<String> {
        Ok(serde_json::to_string(self)? + "\n")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.scenario)?;
        for (key, value) in &self.parameters {
            write!(out, " {key}={value}")?;
        }
        write!(out, "\n{:<36} {:>9} {:>6} {:>8} {:>10}", "what", "count", "failed", "s", "per s")?;
        write!(out, " {:>9} {:>9} {:>9} {:>9}", "p50 ms", "p95 ms", "p99 ms", "max ms")?;
        writeln!(out, " {:>8} {:>9} {:>8} {:>8}", "cpu s", "per cpu s", "rss MiB", "peak MiB")?;
        self.measures.iter().try_for_each(|measure| measure.fmt(out))?;
        for measure in &self.measures {
            for (kind, count) in &measure.errors {
                writeln!(out, "  {}: {count} × {kind}", measure.label)?;
            }
        }
        self.notes.iter().try_for_each(|note| writeln!(out, "  {note}"))
    }
}

impl fmt::Display for Measure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failed: u64 = self.errors.values().sum();
        write!(out, "{:<36} {:>9} {failed:>6} {:>8.2}", self.label, self.count, self.seconds)?;
        write!(out, " {:>10.1}", self.per_second)?;
        let Latency { p50, p95, p99, max } = self.latency_ms;
        write!(out, " {p50:>9.2} {p95:>9.2} {p99:>9.2} {max:>9.2}")?;
        if let Some(cost) = &self.server {
            write!(out, " {:>8.2} {:>9.0}", cost.cpu_seconds, cost.per_cpu_second)?;
            write!(out, " {:>8.1} {:>8.1}", mib(cost.rss_kib), mib(cost.peak_kib))?;
        }
        writeln!(out)
    }
}

fn ratio(count: u64, by: f64) -> f64 {
    if by > 0.0 { count as f64 / by } else { 0.0 }
}

fn ms(us: u64) -> f64 {
    us as f64 / 1000.0
}

fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_a_row_for_each_measure_and_names_each_failure() {
        let mut histogram = Histogram::default();
        histogram.record(Duration::from_millis(2));
        let before = Usage { cpu_seconds: 1.0, rss_kib: 0, peak_kib: 0 };
        let after = Usage { cpu_seconds: 1.5, rss_kib: 2048, peak_kib: 4096 };
        let measure = Measure::new("send", &histogram, Duration::from_secs(1))
            .with_cost(Some(before), Some(after))
            .with_errors("429 M_LIMIT_EXCEEDED", 3)
            .with_errors("io", 0);
        let report =
            Report { scenario: "send".to_owned(), measures: vec![measure], ..Report::default() };
        let table = report.to_string();
        assert!(table.contains("send: 3 × 429 M_LIMIT_EXCEEDED"), "{table}");
        assert!(!table.contains("× io"), "{table}");
        assert!(table.contains("0.50         2      2.0      4.0"), "{table}");
        assert!(report.json().unwrap().contains(r#""per_second":1.0"#));
    }

    #[test]
    fn a_run_of_no_length_has_no_rate() {
        assert_eq!(Measure::new("x", &Histogram::default(), Duration::ZERO).per_second, 0.0);
    }
}
