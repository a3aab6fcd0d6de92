//! `[expiry]`: events with `m.will_expire`.

use serde::{Deserialize, Serialize};

use super::Rate;

/// The section `[expiry]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Expiry {
    /// Whether new events may expire. Timers that run already run on.
    pub enabled: bool,
    /// The shortest duration, in seconds.
    pub min_duration: u64,
    /// The longest duration, in seconds.
    pub max_duration: u64,
    /// The most timers a user may have running; zero forbids them.
    pub max_running: u32,
    /// Keep-alives of one token.
    pub refresh: Rate,
    /// Tokens nobody has, tried from one address.
    pub invalid_tokens: Rate,
    /// Overdue events that expire per second after a start.
    pub overdue_per_second: u32,
    /// Rooms in which events expire at the same time.
    pub concurrency: u32,
}

impl Default for Expiry {
    fn default() -> Self {
        Self {
            enabled: true,
            min_duration: 1,
            max_duration: 86_400,
            max_running: 100,
            refresh: Rate { per_second: 2.0, burst: 10 },
            invalid_tokens: Rate { per_second: 0.5, burst: 5 },
            overdue_per_second: 500,
            concurrency: 16,
        }
    }
}
