//! The metrics of the commit path. Install the recorder before opening the database.

use std::time::{Duration, Instant};

use metrics::{Counter, Histogram, counter, describe_counter, describe_histogram, histogram};

/// Handles, looked up once.
pub(crate) struct Metrics {
    pub(crate) commits: Counter,
    pub(crate) failures: Counter,
    pub(crate) write_seconds: Histogram,
    pub(crate) sync_seconds: Histogram,
    pub(crate) group_size: Histogram,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        describe_counter!("wick_database_commits_total", "batches written");
        describe_counter!("wick_database_commit_failures_total", "batches that failed");
        describe_histogram!(
            "wick_database_write_seconds",
            "time to write a batch, with the wait for the commit lock"
        );
        describe_histogram!("wick_database_sync_seconds", "time to make the log durable");
        describe_histogram!("wick_database_group_size", "commits that shared one sync");
        Self {
            commits: counter!("wick_database_commits_total"),
            failures: counter!("wick_database_commit_failures_total"),
            write_seconds: histogram!("wick_database_write_seconds"),
            sync_seconds: histogram!("wick_database_sync_seconds"),
            group_size: histogram!("wick_database_group_size"),
        }
    }
}

/// Measures how long something takes.
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    #[expect(clippy::disallowed_methods, reason = "it measures and decides nothing")]
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}
