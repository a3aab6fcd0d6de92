//! SRV records as the system's name servers have them.

use std::{io, sync::Arc};

use hickory_resolver::{TokioResolver, net::NetError, proto::rr::RData};

use super::services::{LookingUp, Service, Services};

/// Looks SRV records up at the name servers that the system is configured for.
pub struct SystemServices(Arc<TokioResolver>);

impl SystemServices {
    /// Reads the system's configuration.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn new() -> io::Result<Self> {
        let resolver = TokioResolver::builder_tokio().and_then(|builder| builder.build());
        Ok(Self(Arc::new(resolver.map_err(io::Error::other)?)))
    }
}

impl Services for SystemServices {
    fn look_up(&self, name: &str) -> LookingUp {
        // A name that ends in a dot is complete: the system's search domains do not apply.
        let (resolver, name) = (Arc::clone(&self.0), format!("{}.", name.trim_end_matches('.')));
        Box::pin(async move {
            let found = match resolver.srv_lookup(name).await {
                Ok(found) => found,
                Err(error) if is_absence(&error) => return Ok(Vec::new()),
                Err(error) => return Err(io::Error::other(error)),
            };
            let services = found.answers().iter().filter_map(|record| match &record.data {
                RData::SRV(srv) => Some(Service {
                    priority: srv.priority,
                    weight: srv.weight,
                    port: srv.port,
                    target: srv.target.to_utf8().trim_end_matches('.').to_owned(),
                }),
                _ => None,
            });
            Ok(services.collect())
        })
    }
}

fn is_absence(error: &NetError) -> bool {
    error.is_nx_domain() || error.is_no_records_found()
}
