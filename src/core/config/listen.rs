//! `[listen]`: where clients reach the server.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use serde::{Deserialize, Serialize};

/// The section `[listen]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Listen {
    /// Addresses for plain HTTP.
    pub tcp: Vec<SocketAddr>,
    /// Paths of UNIX sockets for plain HTTP, for a reverse proxy on the same machine.
    pub unix: Vec<PathBuf>,
    /// Addresses for HTTPS.
    pub tls: Vec<SocketAddr>,
    /// The certificate chain for HTTPS, PEM.
    pub tls_certificate: PathBuf,
    /// The private key for HTTPS, PEM.
    pub tls_key: PathBuf,
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            tcp: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 8008))],
            unix: Vec::new(),
            tls: Vec::new(),
            tls_certificate: PathBuf::new(),
            tls_key: PathBuf::new(),
        }
    }
}

impl Listen {
    /// Whether only this machine can connect.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.tcp.iter().chain(&self.tls).all(|address| address.ip().is_loopback())
    }
}
