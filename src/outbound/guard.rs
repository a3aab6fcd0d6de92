//! Which addresses requests may go to.
//!
//! Invariant: an IPv6 address that holds an IPv4 address is allowed only if both are.

use std::net::{IpAddr, Ipv4Addr};

use reqwest::Url;
use wick_core::config::{self, Network};

use crate::Failure;

/// The networks that are denied, and exceptions.
pub(crate) struct Guard {
    denied: Vec<Network>,
    allowed: Vec<Network>,
}

impl Guard {
    pub(crate) fn new(config: &config::Outbound) -> Self {
        Self { denied: config.deny_addresses.clone(), allowed: config.allow_addresses.clone() }
    }

    /// Whether requests may go to an address.
    pub(crate) fn allows(&self, address: IpAddr) -> bool {
        let is_in = |networks: &[Network], address| {
            networks.iter().any(|network| network.contains(address))
        };
        let is_allowed = |address| is_in(&self.allowed, address) || !is_in(&self.denied, address);
        is_allowed(address) && embedded(address).is_none_or(|inner| is_allowed(inner.into()))
    }

    /// Refuses a URL whose host is a denied address. Names are checked when they are resolved.
    pub(crate) fn check(&self, url: &Url) -> Result<(), Failure> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Failure::InvalidUrl);
        }
        let host = url.host_str().ok_or(Failure::InvalidUrl)?;
        // The parser of URLs has brought every spelling of an address into the usual one.
        match host.trim_start_matches('[').trim_end_matches(']').parse() {
            Ok(address) if !self.allows(address) => Err(Failure::DeniedAddress),
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

/// The IPv4 address that packets to an IPv6 address may end at.
fn embedded(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(address) = address else { return None };
    let [a, b, c, d, e, f, g, h] = address.segments();
    let [.., one, two, three, four] = address.octets();
    let last = Ipv4Addr::new(one, two, three, four);
    match [a, b, c, d, e, f] {
        // Mapped (RFC 4291), translated (RFC 2765), NAT64 (RFC 6052).
        [0, 0, 0, 0, 0, 0xffff] | [0, 0, 0, 0, 0xffff, 0] | [0x64, 0xff9b, 0, 0, 0, 0] => {
            Some(last)
        }
        // Compatible (RFC 4291), which neither `::` nor `::1` is.
        [0, 0, 0, 0, 0, 0] => (g != 0 || h > 1).then_some(last),
        // 6to4 (RFC 3056).
        [0x2002, high, low, ..] => {
            let [[one, two], [three, four]] = [high, low].map(u16::to_be_bytes);
            Some(Ipv4Addr::new(one, two, three, four))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by_default() -> Guard {
        Guard::new(&config::Outbound::default())
    }

    #[test]
    fn addresses_that_are_not_public_are_denied_in_every_form() {
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "10.255.255.255",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.1.2.3",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "::ffff:0:10.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::1",
            "2002:0a00:0001::",
            "2002:7f00:1::1",
            "2001::1",
            "2001:db8::1",
            "100::1",
            "fc00::1",
            "fdff:ffff::1",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!by_default().allows(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn public_addresses_are_allowed() {
        for address in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.167.255.255",
            "192.169.0.0",
            "223.255.255.255",
            "2606:4700:4700::1111",
            "2a00:1450:4001::1",
            "::ffff:1.1.1.1",
            "64:ff9b::1.1.1.1",
            "2002:0101:0101::1",
        ] {
            assert!(by_default().allows(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn every_spelling_of_a_denied_address_in_a_url_is_refused() {
        for host in [
            "127.0.0.1",
            "127.1",
            "0x7f.1",
            "0x7f000001",
            "0177.0.0.1",
            "017700000001",
            "2130706433",
            "127.0.0.1.",
            "%31%32%37.0.0.1",
            "１２７.0.0.1",
            "0",
            "0.0.0.0",
            "user:password@10.0.0.1",
            "[::1]",
            "[::]",
            "[::ffff:7f00:1]",
            "[0:0:0:0:0:ffff:127.0.0.1]",
            "[fe80::1]",
        ] {
            let url = Url::parse(&format!("https://{host}:8443/path")).unwrap();
            assert_eq!(by_default().check(&url), Err(Failure::DeniedAddress), "{host}");
        }
    }

    #[test]
    fn other_schemes_and_urls_without_a_host_are_refused() {
        for url in ["ftp://example.org/", "file:///etc/passwd", "data:,text", "unix:/run/socket"] {
            let url = Url::parse(url).unwrap();
            assert_eq!(by_default().check(&url), Err(Failure::InvalidUrl), "{url}");
        }
    }

    #[test]
    fn an_exception_is_allowed_and_its_neighbours_are_not() {
        let allow_addresses = vec!["10.1.0.0/16".parse().unwrap()];
        let config = config::Outbound { allow_addresses, ..config::Outbound::default() };
        let guard = Guard::new(&config);
        for (address, expected) in [
            ("10.1.2.3", true),
            ("::ffff:10.1.2.3", true),
            ("10.2.0.1", false),
            ("::ffff:10.2.0.1", false),
        ] {
            assert_eq!(guard.allows(address.parse().unwrap()), expected, "{address}");
        }
    }

    #[test]
    fn without_denied_networks_everything_is_allowed() {
        let config = config::Outbound { deny_addresses: Vec::new(), ..config::Outbound::default() };
        for address in ["127.0.0.1", "::1", "10.0.0.1", "::ffff:10.0.0.1"] {
            assert!(Guard::new(&config).allows(address.parse().unwrap()), "{address}");
        }
    }
}
