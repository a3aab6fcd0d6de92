//! Which address a request counts for.
//!
//! Invariant: `X-Forwarded-For` is used only as far as trusted proxies added to it.

use std::net::{IpAddr, Ipv6Addr};

use http::{HeaderMap, header::HeaderName};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The peer of the connection. The listener puts it into each request's extensions.
#[derive(Clone, Copy, Debug)]
pub enum Peer {
    /// A TCP peer with this address.
    Address(IpAddr),
    /// A local process with access to the UNIX socket: a reverse proxy.
    Local,
}

/// The address that a request came from, if it is known.
pub(crate) fn client_address(
    peer: Option<Peer>,
    headers: &HeaderMap,
    trusted: &[IpAddr],
) -> Option<IpAddr> {
    let direct = match peer? {
        Peer::Address(address) if !trusted.contains(&address.to_canonical()) => {
            return Some(address.to_canonical());
        }
        Peer::Address(address) => Some(address.to_canonical()),
        Peer::Local => None,
    };
    // Each proxy adds the address it saw at the right.
    let forwarded = headers
        .get_all(FORWARDED_FOR)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|part| part.trim().parse::<IpAddr>().ok().map(|address| address.to_canonical()));
    let mut claimed = direct;
    for address in forwarded.rev() {
        let Some(address) = address else { break };
        claimed = Some(address);
        if !trusted.contains(&address) {
            break;
        }
    }
    claimed
}

/// The part of an address that one customer has: a whole `/64` of IPv6.
pub(crate) fn limit_key(address: Option<IpAddr>) -> Option<IpAddr> {
    address.map(|address| match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: Peer, forwarded: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append(FORWARDED_FOR, value.parse().unwrap());
        }
        let trusted = ["127.0.0.1".parse().unwrap(), "10.0.0.1".parse().unwrap()];
        client_address(Some(peer), &headers, &trusted).map(|address| address.to_string())
    }

    fn from(address: &str) -> Peer {
        Peer::Address(address.parse().unwrap())
    }

    #[test]
    fn a_stranger_is_not_believed() {
        assert_eq!(client(from("9.9.9.9"), &["1.1.1.1"]).unwrap(), "9.9.9.9");
    }

    #[test]
    fn a_trusted_proxy_is_believed_up_to_the_first_stranger() {
        assert_eq!(client(from("127.0.0.1"), &["6.6.6.6, 1.1.1.1, 10.0.0.1"]).unwrap(), "1.1.1.1");
        assert_eq!(client(from("::ffff:127.0.0.1"), &["6.6.6.6", "1.1.1.1"]).unwrap(), "1.1.1.1");
        assert_eq!(client(from("127.0.0.1"), &["1.1.1.1, nonsense"]).unwrap(), "127.0.0.1");
        assert_eq!(client(from("127.0.0.1"), &[]).unwrap(), "127.0.0.1");
    }

    #[test]
    fn a_unix_socket_is_a_trusted_proxy() {
        assert_eq!(client(Peer::Local, &["1.1.1.1"]).unwrap(), "1.1.1.1");
        assert_eq!(client(Peer::Local, &[]), None);
    }

    #[test]
    fn one_customer_has_a_whole_ipv6_network() {
        let key = |text: &str| limit_key(Some(text.parse().unwrap()));
        assert_eq!(key("2001:db8:1:2:3::4"), key("2001:db8:1:2:ffff::1"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
        assert_ne!(key("1.2.3.4"), key("1.2.3.5"));
    }
}
