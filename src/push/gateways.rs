//! How many requests to push gateways run at the same time.
//!
//! Invariant: a gateway is a host: pushers can name any port of it.

use wick_core::{Result, config};
use wick_outbound::{Admitted, InFlight};

/// The push gateways that requests are made to.
pub(crate) struct Gateways(InFlight);

impl Gateways {
    pub(crate) fn new(config: &config::Push) -> Self {
        Self(InFlight::new(config.max_requests, config.max_requests_per_gateway))
    }

    /// Waits until a request to the gateway with this URL may run.
    pub(crate) async fn admit(&self, url: &str) -> Result<Admitted> {
        self.0.admit(&host(url)).await
    }
}

/// The host of a gateway's URL, without the port. A URL that cannot be read is a host of its own.
fn host(url: &str) -> String {
    wick_outbound::host(url).unwrap_or_else(|| url.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ports_of_one_host_are_one_gateway() {
        for url in [
            "https://one.example/_matrix/push/v1/notify",
            "https://ONE.example:8443/x",
            "http://one.example./x",
        ] {
            assert_eq!(host(url), "one.example", "{url}");
        }
        assert_eq!(host("https://other.example/x"), "other.example");
    }
}
