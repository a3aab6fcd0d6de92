//! Whether another server can be reached, step by step, for administrators.
//!
//! Invariant: each step is tried as a request would, so that a step that fails here is why requests fail.

use ruma::{OwnedServerName, ServerName, UserId};
use ruma_federation_api::{
    discovery::get_server_version::v1 as get_server_version,
    query::get_profile_information::v1 as get_profile_information,
};
use wick_core::{Error, RemoteFailure, Result};
use wick_outbound::Bounds;

use crate::{
    Federation,
    federation::request_unsigned,
    names::{DEFAULT_PORT, Route, Service, services_of},
    transport::BackOff,
};

/// What was found out in one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Whether the step succeeded, or could be passed over.
    pub is_good: bool,
    /// What it was and what came of it, in a line.
    pub line: String,
}

/// The findings so far.
#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn good(&mut self, line: impl Into<String>) {
        self.0.push(Finding { is_good: true, line: line.into() });
    }

    fn bad(&mut self, line: impl Into<String>) {
        self.0.push(Finding { is_good: false, line: line.into() });
    }
}

impl Federation {
    /// Resolves the name of a server, connects, verifies its keys and makes a signed request. Ends at the first step that
    /// makes the following ones useless.
    ///
    /// # Errors
    /// If the database cannot be read or written.
    pub async fn diagnose(&self, server: &ServerName) -> Result<Vec<Finding>> {
        let mut findings = Findings::default();
        match self.ensure_allowed(server) {
            Ok(()) => findings.good("the configuration allows to talk to it"),
            Err(error) => {
                findings.bad(message(error)?);
                return Ok(findings.0);
            }
        }
        self.diagnose_name(server, &mut findings).await;
        if self.diagnose_connection(server, &mut findings).await?
            && self.diagnose_keys(server, &mut findings).await?
        {
            self.diagnose_signature(server, &mut findings).await?;
        }
        Ok(findings.0)
    }

    /// Where the name leads.
    async fn diagnose_name(&self, server: &ServerName, findings: &mut Findings) {
        let names = &self.transport.names;
        if let Some(delegation) = names.delegation(server).await {
            let file = format!("https://{server}/.well-known/matrix/server");
            match delegation {
                Ok(to) => findings.good(format!("{file} delegates to {to}")),
                Err(why) => findings.good(format!("{file} delegates to no other name: {why}")),
            }
        }
        let host = match names.route(server).await {
            Route::Port(authority) => {
                let host = authority.rsplit_once(':').map_or(&*authority, |(host, _)| host);
                findings.good(format!("it is reached at {authority}"));
                host.to_owned()
            }
            Route::Service(host) => {
                let found = services_of(&*self.transport.network.services, &host).await;
                findings.good(match &found {
                    Some(found) => format!("srv records of {host}: {}", listed(found)),
                    None => format!("no srv record of {host} is known: port {DEFAULT_PORT}"),
                });
                found.and_then(|found| found.into_iter().next()).map_or(host, |first| first.target)
            }
        };
        if host.starts_with('[') || host.parse::<std::net::IpAddr>().is_ok() {
            return;
        }
        match self.transport.network.hosts.resolve(&host).await {
            Ok(addresses) if addresses.is_empty() => findings.bad(format!("{host} has no address")),
            Ok(addresses) => {
                let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
                findings.good(format!("{host} has the addresses {}", addresses.join(", ")));
            }
            Err(error) => findings.bad(format!("{host} cannot be resolved: {error}")),
        }
    }

    /// Whether there is a connection with a good certificate, and a server at its end.
    async fn diagnose_connection(
        &self,
        server: &ServerName,
        findings: &mut Findings,
    ) -> Result<bool> {
        let bounds = Bounds { bytes: 64 << 10, time: self.transport.timeout() };
        let request = get_server_version::Request::new();
        let transport = &self.transport;
        let answer = request_unsigned(transport, server, request, bounds, BackOff::Ignore).await;
        match answer {
            Ok(response) => {
                let software = response.server.unwrap_or_default();
                let name = software.name.unwrap_or_else(|| "an unnamed server".to_owned());
                let version = software.version.unwrap_or_default();
                findings.good(format!("connected, the certificate is good: {name} {version}"));
                Ok(true)
            }
            Err(error) => {
                let why = message(error)?;
                findings.bad(format!(
                    "no answer from /_matrix/federation/v1/version (port, certificate or proxy?): {why}"
                ));
                Ok(false)
            }
        }
    }

    /// Whether its keys are there and signed.
    async fn diagnose_keys(&self, server: &ServerName, findings: &mut Findings) -> Result<bool> {
        match self.keys.fetch(server).await {
            Ok(verified) => {
                let ids: Vec<_> = verified.ids().collect();
                findings.good(format!("its signing keys are verified: {}", ids.join(", ")));
                if verified.valid_until() < self.keys.resources.clock.now() {
                    findings.bad("its signing keys have expired");
                }
                Ok(true)
            }
            Err(error) => {
                findings.bad(format!("its signing keys cannot be had: {}", message(error)?));
                Ok(false)
            }
        }
    }

    /// Whether it accepts a signed request of this server, for which it has to fetch this server's keys.
    async fn diagnose_signature(&self, server: &ServerName, findings: &mut Findings) -> Result<()> {
        let user_id = UserId::parse(format!("@wick-check:{server}"))
            .map_err(|error| Error::internal("a user id", error))?;
        let request = get_profile_information::Request::new(user_id);
        match self.request(server, request).await {
            Ok(_) => findings.good("it accepts this server's signature"),
            Err(Error::Remote(failure)) if is_about_the_user(&failure) => {
                findings.good("it accepts this server's signature");
            }
            Err(error) => findings.bad(format!(
                "it refuses a signed request (can it reach this server to fetch its keys?): {}",
                message(error)?
            )),
        }
        Ok(())
    }

    /// How requests to servers went, by name, after `after`.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn destinations(
        &self,
        after: Option<&ServerName>,
        limit: usize,
    ) -> Result<Vec<(OwnedServerName, wick_database::schema::federation::DestinationRow)>> {
        self.transport.destinations.list(after, limit)
    }

    /// Ends the back-off of a server. Returns whether there was one.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub async fn reset_destination(&self, server: &ServerName) -> Result<bool> {
        self.transport.destinations.reset(server).await
    }
}

/// Whether the failure is that the user does not exist, or may not be looked up: then the signature was good.
fn is_about_the_user(failure: &RemoteFailure) -> bool {
    matches!(failure.status(), Some(403 | 404))
}

fn listed(services: &[Service]) -> String {
    let listed: Vec<_> =
        services.iter().map(|service| format!("{}:{}", service.target, service.port)).collect();
    listed.join(", ")
}

/// The message of a failure of the other server; other errors do not belong to a step.
fn message(error: Error) -> Result<String> {
    match error {
        Error::Remote(failure) => Ok(failure.message),
        other => Err(other),
    }
}
