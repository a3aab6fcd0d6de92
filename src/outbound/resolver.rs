//! From names to addresses, without those that requests may not go to.
//!
//! Invariant: a connection is made to an address that was checked after it was resolved, so a name that
//! resolves to another address each time leads to no denied one.

use std::{
    error,
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
};

use reqwest::dns;

use crate::{Failure, guard::Guard};

/// What [`Resolve::resolve`] returns.
pub type Resolving = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

/// What [`Resolve::endpoints`] returns.
pub type ResolvingEndpoints = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// Resolves host names.
pub trait Resolve: Send + Sync + 'static {
    /// The addresses of a host.
    fn resolve(&self, host: &str) -> Resolving;

    /// Where to connect to for a URL with this host. The port holds for a URL without one; zero is the port of its
    /// scheme.
    fn endpoints(&self, host: &str) -> ResolvingEndpoints {
        let resolving = self.resolve(host);
        Box::pin(async move {
            let addresses = resolving.await?;
            Ok(addresses.into_iter().map(|address| SocketAddr::new(address, 0)).collect())
        })
    }
}

/// Resolves as the system does.
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve(&self, host: &str) -> Resolving {
        let host = host.to_owned();
        Box::pin(async move {
            let found = tokio::net::lookup_host((host, 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }
}

/// Leaves out denied addresses.
pub(crate) struct GuardedResolver {
    pub(crate) resolver: Arc<dyn Resolve>,
    pub(crate) guard: Arc<Guard>,
}

impl dns::Resolve for GuardedResolver {
    fn resolve(&self, name: dns::Name) -> dns::Resolving {
        let guard = Arc::clone(&self.guard);
        let resolving = self.resolver.endpoints(name.as_str());
        Box::pin(async move {
            let resolved = resolving.await.map_err(boxed)?;
            if resolved.is_empty() {
                return Err(boxed(Failure::Unreachable("the host has no address")));
            }
            let allowed: Vec<_> = resolved.into_iter().filter(|to| guard.allows(to.ip())).collect();
            if allowed.is_empty() {
                return Err(boxed(Failure::DeniedAddress));
            }
            Ok(Box::new(allowed.into_iter()) as dns::Addrs)
        })
    }
}

fn boxed(error: impl error::Error + Send + Sync + 'static) -> Box<dyn error::Error + Send + Sync> {
    Box::new(error)
}
