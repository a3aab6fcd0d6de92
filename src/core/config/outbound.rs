//! `[outbound]`: requests that the server makes to addresses which users and other servers name.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Network, Period};

/// The section `[outbound]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Outbound {
    /// Networks that no request goes to. An IPv6 address that holds an IPv4 address counts as both.
    pub deny_addresses: Vec<Network>,
    /// Networks that requests may go to although they are in [`Outbound::deny_addresses`].
    pub allow_addresses: Vec<Network>,
    /// A PEM file with certificates of authorities to trust besides those of the system; empty for none.
    pub ca_certificates: PathBuf,
    /// How long resolving a name and connecting may take.
    pub connect_timeout: Period,
    /// How long a short request may take with its whole response.
    pub timeout: Period,
}

/// What is not the public Internet.
///
/// <https://www.iana.org/assignments/iana-ipv4-special-registry>,
/// <https://www.iana.org/assignments/iana-ipv6-special-registry>
const NOT_PUBLIC: [&str; 26] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "::/128",
    "::1/128",
    "64:ff9b:1::/48",
    "100::/64",
    "2001::/23",
    "2001:db8::/32",
    "3fff::/20",
    "fc00::/7",
    "fe80::/10",
    "fec0::/10",
    "ff00::/8",
];

/// The networks that are not the public Internet.
pub(super) fn not_public() -> Vec<Network> {
    NOT_PUBLIC.iter().filter_map(|network| network.parse().ok()).collect()
}

impl Default for Outbound {
    fn default() -> Self {
        Self {
            deny_addresses: not_public(),
            allow_addresses: Vec::new(),
            ca_certificates: PathBuf::new(),
            connect_timeout: Period::from_secs(10),
            timeout: Period::from_secs(30),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_network_that_is_not_public_is_denied_by_default() {
        assert_eq!(Outbound::default().deny_addresses.len(), NOT_PUBLIC.len());
    }
}
