//! File descriptors: how many the process may have, and how many of them connections may take.
//!
//! Invariant: connections leave the database, the listeners and the log what they need, so that a flood
//! of connections cannot stop writes.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use wick_core::Config;

use crate::Failure;

/// For everything but connections and table files: logs and manifests of the database, files that are
/// being compacted, listeners, the administrator's connections, a backup.
const RESERVED: u64 = 128;

/// With fewer connections than this a server is of no use.
const FEWEST_CONNECTIONS: u64 = 16;

/// Raises the soft limit as far as the configuration has a use for it, and returns how many public
/// connections there may be.
pub(crate) fn for_connections(config: &Config) -> Result<usize, Failure> {
    let wanted = u64::from(config.connections.max);
    let needed = RESERVED.saturating_add(u64::from(config.database.max_open_files));
    let limit = raise(needed.saturating_add(wanted));
    let left = limit.map_or(wanted, |limit| limit.saturating_sub(needed).min(wanted));
    if left < FEWEST_CONNECTIONS {
        return Err(Failure(format!(
            "the limit of {} file descriptors is too low: the database needs {needed}; raise it \
             (ulimit -Hn) or lower database.max_open_files",
            limit.unwrap_or_default()
        )));
    }
    if left < wanted {
        tracing::warn!(
            connections = left,
            configured = wanted,
            descriptors = limit,
            "fewer connections than configured, the limit of file descriptors is too low",
        );
    }
    Ok(usize::try_from(left).unwrap_or(usize::MAX))
}

/// Raises the soft limit to `wanted` if the hard limit allows it, and returns what it is then; `None` is
/// no limit.
fn raise(wanted: u64) -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    let current = limit.current?;
    let wanted = limit.maximum.map_or(wanted, |hard| hard.min(wanted));
    if wanted <= current {
        return Some(current);
    }
    match setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum }) {
        Ok(()) => Some(wanted),
        Err(error) => {
            tracing::warn!(%error, wanted, current, "the limit of file descriptors cannot be raised");
            Some(current)
        }
    }
}
