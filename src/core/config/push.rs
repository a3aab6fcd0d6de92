//! `[push]`: notifications sent to push gateways.

use serde::{Deserialize, Serialize};

/// The section `[push]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Push {
    /// What the unread count of a notification counts.
    pub count: Counted,
    /// Whether the URL of a push gateway may begin with `http://`.
    pub allow_http: bool,
    /// The most requests to push gateways at the same time.
    pub max_requests: u32,
    /// The most requests to one push gateway at the same time.
    pub max_requests_per_gateway: u32,
}

/// What is counted as unread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Counted {
    /// Rooms with something unread that notifies.
    Rooms,
    /// Unread messages that notify.
    Messages,
}

impl Default for Push {
    fn default() -> Self {
        Self {
            count: Counted::Rooms,
            allow_http: false,
            max_requests: 256,
            max_requests_per_gateway: 32,
        }
    }
}
