//! From a server's name to where it is reached.
//!
//! The steps of the specification, in their order:
//!
//! | name | connects to | certificate and `Host` |
//! |---|---|---|
//! | 1. an address, with or without a port | it, at its port or 8448 | for the address |
//! | 2. a host with a port | the addresses of the host, at that port | for the host |
//! | 3. a host whose `/.well-known/matrix/server` names another | as 1, 2, 4 to 6 for that name | for that host |
//! | 4. a host with a `_matrix-fed._tcp` record | the target and port of the record | for the host |
//! | 5. a host with a `_matrix._tcp` record | the target and port of the record | for the host |
//! | 6. any other host | its addresses, at port 8448 | for the host |
//!
//! Invariant: the certificate is always checked for the delegated name, never for a name that only DNS gives.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#resolving-server-names>

mod dns;
mod services;
mod well_known;

use std::sync::Arc;

use ruma::ServerName;
use wick_core::Clock;
use wick_outbound::Outbound;

pub(crate) use self::services::{ServiceResolver, services_of};
use self::well_known::Delegations;
pub use self::{
    dns::SystemServices,
    services::{LookingUp, NoServices, Service, Services},
};

/// The port of servers whose name leads to no other.
pub(crate) const DEFAULT_PORT: u16 = 8448;

/// Where a server is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// At a host or address with its port.
    Port(String),
    /// At a host, whose port follows from its SRV records.
    Service(String),
}

impl Route {
    /// Where a name leads that is not delegated any further.
    fn of(server: &ServerName) -> Self {
        match server.port() {
            Some(_) => Self::Port(server.to_string()),
            None if server.is_ip_literal() => Self::Port(format!("{server}:{DEFAULT_PORT}")),
            None => Self::Service(server.to_string()),
        }
    }

    /// The URL that paths are appended to.
    pub(crate) fn base_url(&self) -> String {
        let (Self::Port(authority) | Self::Service(authority)) = self;
        format!("https://{authority}")
    }
}

/// Resolves names of servers.
pub(crate) struct Names {
    delegations: Delegations,
}

impl Names {
    pub(crate) fn new(outbound: Arc<Outbound>, clock: Arc<dyn Clock>) -> Self {
        Self { delegations: Delegations::new(outbound, clock) }
    }

    /// Where `server` is reached.
    pub(crate) async fn route(&self, server: &ServerName) -> Route {
        match Route::of(server) {
            Route::Service(host) => match self.delegations.get(&host).await {
                Ok(delegated) => Route::of(&delegated),
                Err(_) => Route::Service(host),
            },
            port => port,
        }
    }

    /// What the name delegates to, or why to nothing; `None` if names like this cannot delegate.
    pub(crate) async fn delegation(
        &self,
        server: &ServerName,
    ) -> Option<Result<ruma::OwnedServerName, String>> {
        match Route::of(server) {
            Route::Service(host) => Some(self.delegations.get(&host).await),
            Route::Port(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use ruma::server_name;

    use super::*;

    #[test]
    fn addresses_and_hosts_with_a_port_lead_to_themselves_and_other_hosts_to_their_services() {
        let of = |name: &str| Route::of(&ServerName::parse(name).unwrap());
        for (name, authority) in [
            ("1.2.3.4", "1.2.3.4:8448"),
            ("1.2.3.4:5", "1.2.3.4:5"),
            ("[2001:db8::1]", "[2001:db8::1]:8448"),
            ("[2001:db8::1]:443", "[2001:db8::1]:443"),
            ("example.org:443", "example.org:443"),
        ] {
            assert_eq!(of(name), Route::Port(authority.to_owned()), "{name}");
        }
        let service = Route::of(server_name!("example.org"));
        assert_eq!(service, Route::Service("example.org".to_owned()));
        assert_eq!(service.base_url(), "https://example.org");
    }
}
