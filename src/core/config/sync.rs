//! `[sync]`: what one `/sync` may ask for.

use serde::{Deserialize, Serialize};

use super::Period;

/// The section `[sync]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sync {
    /// The longest a request is held open to wait for news.
    pub max_timeout: Period,
    /// Timeline events of a room where the client names no limit.
    pub timeline_limit: u32,
    /// The most timeline events of a room.
    pub max_timeline_limit: u32,
}

impl Default for Sync {
    fn default() -> Self {
        Self { max_timeout: Period::from_secs(60), timeline_limit: 10, max_timeline_limit: 100 }
    }
}
