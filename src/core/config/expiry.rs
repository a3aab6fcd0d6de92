//! `[expiry]`: events with `m.will_expire`.

use serde::{Deserialize, Serialize};

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
}

impl Default for Expiry {
    fn default() -> Self {
        Self { enabled: true, min_duration: 1, max_duration: 86_400, max_running: 100 }
    }
}
