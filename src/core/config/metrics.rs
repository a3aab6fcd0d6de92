//! `[metrics]`: numbers for Prometheus.

use std::net::{Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

/// The section `[metrics]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Metrics {
    /// Whether `/metrics` is served.
    pub enabled: bool,
    /// Where it is served. Keep it from the public.
    pub listen: SocketAddr,
}

impl Default for Metrics {
    fn default() -> Self {
        Self { enabled: true, listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 9008)) }
    }
}
