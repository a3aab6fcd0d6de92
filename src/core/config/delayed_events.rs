//! `[delayed_events]`: events that are sent later (MSC4140).

use serde::{Deserialize, Serialize};

use super::Period;

/// The section `[delayed_events]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DelayedEvents {
    /// Whether events may be scheduled. Those that are scheduled already are sent all the same.
    pub enabled: bool,
    /// The longest delay.
    pub max_delay: Period,
    /// The most events a user may have scheduled; zero forbids them.
    pub max_scheduled: u32,
    /// Whether restarting, sending and cancelling needs the owner's access token. Without it the
    /// delay id is enough.
    pub require_auth: bool,
    /// Whether a state event of another user ends the delayed events that would set the same state.
    pub cancel_superseded: bool,
}

impl Default for DelayedEvents {
    fn default() -> Self {
        Self {
            enabled: true,
            max_delay: Period::from_secs(86_400),
            max_scheduled: 100,
            require_auth: false,
            cancel_superseded: false,
        }
    }
}
