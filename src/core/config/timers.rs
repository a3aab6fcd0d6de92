//! `[timers]`: what events that expire and events that are sent later have in common.

use serde::{Deserialize, Serialize};

use super::Rate;

/// The section `[timers]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Timers {
    /// What may be done with one refresh token or one delay id.
    pub keep_alive: Rate,
    /// Unknown refresh tokens and delay ids, tried from one address.
    pub invalid: Rate,
    /// Overdue timers that fire per second after a start.
    pub overdue_per_second: u32,
    /// Rooms in which timers fire at the same time.
    pub concurrency: u32,
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            keep_alive: Rate { per_second: 2.0, burst: 10 },
            invalid: Rate { per_second: 0.5, burst: 5 },
            overdue_per_second: 500,
            concurrency: 16,
        }
    }
}
