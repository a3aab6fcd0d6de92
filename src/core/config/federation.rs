//! `[federation]`: talking to other servers.

use std::path::PathBuf;

use ruma::{OwnedServerName, ServerName, events::room::server_acl::RoomServerAclEventContent};
use serde::{Deserialize, Serialize};

use super::{Network, Outbound, Period, outbound::not_public};

/// The section `[federation]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Federation {
    /// Whether this server talks to others. If not, it has none of the endpoints that are for servers.
    pub enabled: bool,
    /// The servers to talk to, as in server ACLs: host names without port, where `*` and `?` stand for other characters.
    pub allow: Vec<String>,
    /// The servers not to talk to, written alike. It overrides [`Federation::allow`].
    pub deny: Vec<String>,
    /// Networks that no request to another server goes to.
    pub deny_addresses: Vec<Network>,
    /// A PEM file with certificates of authorities to trust for other servers, besides those of the system; empty for none.
    pub extra_roots: PathBuf,
    /// Servers that are asked for the keys of others which do not publish them themselves at present.
    pub trusted_notaries: Vec<OwnedServerName>,
    /// Whether other servers are sent the display names of users' devices.
    pub device_names: bool,
    /// How many EDUs with messages from device to device are kept for a server that is out of reach.
    pub max_messages: u32,
    /// How many megabytes of them are.
    pub max_messages_megabytes: u32,
    /// How long a request to another server may take with its whole response.
    pub timeout: Period,
    /// The most requests to other servers at the same time.
    pub max_requests: u32,
    /// The most requests to one server at the same time, and of one server.
    pub max_requests_per_server: u32,
}

impl Federation {
    /// Whether this server talks to `server`, apart from whether it talks to any.
    #[must_use]
    pub fn allows(&self, server: &ServerName) -> bool {
        let acl = RoomServerAclEventContent::new(true, self.allow.clone(), self.deny.clone());
        acl.is_allowed(server)
    }

    /// How requests to other servers are made: as by `general`, but with these networks and authorities.
    #[must_use]
    pub fn outbound(&self, general: &Outbound) -> Outbound {
        Outbound {
            deny_addresses: self.deny_addresses.clone(),
            allow_addresses: Vec::new(),
            ca_certificates: self.extra_roots.clone(),
            timeout: self.timeout,
            ..general.clone()
        }
    }
}

impl Default for Federation {
    fn default() -> Self {
        Self {
            enabled: false,
            allow: vec!["*".to_owned()],
            deny: Vec::new(),
            deny_addresses: not_public(),
            extra_roots: PathBuf::new(),
            trusted_notaries: Vec::new(),
            device_names: false,
            max_messages: 10_000,
            max_messages_megabytes: 64,
            timeout: Period::from_secs(60),
            max_requests: 256,
            max_requests_per_server: 32,
        }
    }
}

#[cfg(test)]
mod tests {
    use ruma::server_name;

    use super::*;

    #[test]
    fn a_server_is_allowed_if_it_matches_and_is_not_denied_whatever_its_port() {
        let all = Federation::default();
        assert!(all.allows(server_name!("example.org:8448")));
        let allow = vec!["*.example.org".to_owned()];
        let deny = vec!["evil.example.org".to_owned()];
        let some = Federation { allow, deny, ..all };
        assert!(some.allows(server_name!("hs.example.org:8448")));
        assert!(!some.allows(server_name!("example.com")));
        assert!(!some.allows(server_name!("EVIL.example.org:1")));
    }
}
