//! `[connections]`: how many there may be, and how long each phase of one may take.

use serde::{Deserialize, Serialize};

use super::Period;

/// The section `[connections]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Connections {
    /// The most connections at once. Fewer if the system grants fewer file descriptors.
    pub max: u32,
    /// The most connections from one address (IPv6: one /64), and at most half of all. Trusted proxies
    /// and UNIX sockets are not limited.
    pub max_per_address: u32,
    /// How long a TLS handshake may take.
    pub handshake_timeout: Period,
    /// How long the head of a request may take; also the time from opening a connection to its first
    /// request.
    pub header_timeout: Period,
    /// How long the body of a request may take.
    pub body_timeout: Period,
    /// How long a connection may stay without a request.
    pub idle_timeout: Period,
    /// How long a client may read nothing of an answer.
    pub write_timeout: Period,
    /// How often an HTTP/2 client is asked whether it is still there.
    pub ping_interval: Period,
    /// How long it may take to answer that.
    pub ping_timeout: Period,
    /// The most requests at once on an HTTP/2 connection.
    pub max_streams: u32,
    /// The most memory for answers that are not read yet, in megabytes. Beyond it, those without
    /// progress for the longest time are dropped.
    pub max_unread_megabytes: u32,
}

impl Default for Connections {
    fn default() -> Self {
        Self {
            max: 10_000,
            max_per_address: 1_000,
            handshake_timeout: Period::from_secs(10),
            header_timeout: Period::from_secs(30),
            body_timeout: Period::from_secs(60),
            idle_timeout: Period::from_secs(75),
            write_timeout: Period::from_secs(30),
            ping_interval: Period::from_secs(30),
            ping_timeout: Period::from_secs(20),
            max_streams: 200,
            max_unread_megabytes: 256,
        }
    }
}
