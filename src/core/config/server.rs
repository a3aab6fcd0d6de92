//! `[server]`: the name of the server, and the proxies it trusts.

use std::net::IpAddr;

use ruma::{OwnedServerName, owned_server_name};
use serde::{Deserialize, Serialize};

/// The section `[server]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// The name after the colon in user ids and room aliases. Never change it once there are users.
    pub name: OwnedServerName,
    /// The base URL clients are sent to by `/.well-known/matrix/client`; empty: none is announced.
    pub well_known_client: String,
    /// The host, with a port if it has one, that other servers are sent to by `/.well-known/matrix/server`; empty: none is
    /// announced.
    pub well_known_server: String,
    /// Addresses of reverse proxies whose `X-Forwarded-For` is trusted.
    pub trusted_proxies: Vec<IpAddr>,
    /// The largest request body, in kilobytes.
    pub max_body_kilobytes: u32,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            name: owned_server_name!("localhost"),
            well_known_client: String::new(),
            well_known_server: String::new(),
            trusted_proxies: Vec::new(),
            max_body_kilobytes: 1024,
        }
    }
}
