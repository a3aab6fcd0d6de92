//! SRV records, and the addresses they lead to.
//!
//! Invariants: the first of the two kinds of record that a host has decides; where it has none, its own addresses do, at
//! the default port.

use std::{
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
};

use wick_core::Random;
use wick_outbound::{Resolve, Resolving, ResolvingEndpoints};

use super::DEFAULT_PORT;
use crate::Network;

/// The most records of a host whose targets are resolved.
const MAX_TARGETS: usize = 4;

/// An SRV record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Those with the least come first.
    pub priority: u16,
    /// How often it is taken among those of the same priority.
    pub weight: u16,
    /// Where it is served.
    pub port: u16,
    /// The host that serves it; empty if the service is not offered.
    pub target: String,
}

/// What [`Services::look_up`] returns.
pub type LookingUp = Pin<Box<dyn Future<Output = io::Result<Vec<Service>>> + Send>>;

/// Looks up SRV records.
pub trait Services: Send + Sync + 'static {
    /// The records of a name such as `_matrix-fed._tcp.example.org`; none if there are none.
    fn look_up(&self, name: &str) -> LookingUp;
}

/// Looks up nothing, so that no record is known.
pub struct NoServices;

impl Services for NoServices {
    fn look_up(&self, _: &str) -> LookingUp {
        Box::pin(async { Ok(Vec::new()) })
    }
}

/// Resolves hosts to what their SRV records say.
pub(crate) struct ServiceResolver {
    network: Network,
    random: Arc<dyn Random>,
}

impl ServiceResolver {
    pub(crate) fn new(network: Network, random: Arc<dyn Random>) -> Self {
        Self { network, random }
    }
}

impl Resolve for ServiceResolver {
    fn resolve(&self, host: &str) -> Resolving {
        self.network.hosts.resolve(host)
    }

    fn endpoints(&self, host: &str) -> ResolvingEndpoints {
        let (network, random) = (self.network.clone(), Arc::clone(&self.random));
        let host = host.to_owned();
        Box::pin(async move {
            match services_of(&*network.services, &host).await {
                Some(services) => targets(&network, in_order(services, &*random)).await,
                None => Ok(at(DEFAULT_PORT, network.hosts.resolve(&host).await?)),
            }
        })
    }
}

/// The records of the first kind that the host has any of.
pub(crate) async fn services_of(services: &dyn Services, host: &str) -> Option<Vec<Service>> {
    for kind in ["_matrix-fed._tcp", "_matrix._tcp"] {
        match services.look_up(&format!("{kind}.{host}")).await {
            Ok(found) if !found.is_empty() => return Some(found),
            Ok(_) => {}
            Err(error) => tracing::debug!(host, kind, %error, "a lookup of srv records failed"),
        }
    }
    None
}

/// The addresses of the records' targets. One that cannot be resolved is left out if another can.
async fn targets(network: &Network, services: Vec<Service>) -> io::Result<Vec<SocketAddr>> {
    let mut found = Vec::new();
    let mut failed = io::Error::other("the srv record declares that there is no server");
    let offered = services.into_iter().filter(|service| !service.target.is_empty());
    for service in offered.take(MAX_TARGETS) {
        match network.hosts.resolve(&service.target).await {
            Ok(addresses) => found.extend(at(service.port, addresses)),
            Err(error) => failed = error,
        }
    }
    if found.is_empty() { Err(failed) } else { Ok(found) }
}

fn at(port: u16, addresses: Vec<IpAddr>) -> Vec<SocketAddr> {
    addresses.into_iter().map(|address| SocketAddr::new(address, port)).collect()
}

/// By priority, and among equals at random by weight (RFC 2782).
fn in_order(mut services: Vec<Service>, random: &dyn Random) -> Vec<Service> {
    services.sort_by_key(|service| service.priority);
    let mut ordered = Vec::with_capacity(services.len());
    while let Some(first) = services.first() {
        let equals = services.iter().take_while(|other| other.priority == first.priority);
        let weights: Vec<u64> = equals.map(|service| u64::from(service.weight) + 1).collect();
        let mut drawn = random.number() % weights.iter().sum::<u64>().max(1);
        let index = weights.iter().position(|weight| match drawn.checked_sub(*weight) {
            Some(left) => {
                drawn = left;
                false
            }
            None => true,
        });
        ordered.push(services.remove(index.unwrap_or_default()));
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Draws these numbers, and then zero.
    struct Drawn(std::sync::Mutex<Vec<u64>>);

    impl Random for Drawn {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(0);
        }

        fn number(&self) -> u64 {
            self.0.lock().unwrap().pop().unwrap_or_default()
        }
    }

    #[test]
    fn records_come_by_priority_and_among_equals_by_weight() {
        let service = |priority, weight, target: &str| Service {
            priority,
            weight,
            port: 1,
            target: target.to_owned(),
        };
        let all = vec![service(2, 0, "last"), service(1, 9, "heavy"), service(1, 0, "light")];
        let order = |drawn: u64| -> Vec<String> {
            let ordered = in_order(all.clone(), &Drawn(vec![drawn].into()));
            ordered.into_iter().map(|service| service.target).collect()
        };
        assert_eq!(order(9), ["heavy", "light", "last"]);
        assert_eq!(order(10), ["light", "heavy", "last"]);
        assert_eq!(order(11), ["heavy", "light", "last"]);
    }
}
