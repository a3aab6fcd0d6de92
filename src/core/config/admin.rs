//! `[admin]`: the socket that `wick admin` and `wick backup` talk to.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The section `[admin]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    /// Whether the socket is there.
    pub enabled: bool,
    /// Its path; empty: `admin.sock` in the database folder. Processes that may open it act as administrators.
    pub socket: PathBuf,
}

impl Default for Admin {
    fn default() -> Self {
        Self { enabled: true, socket: PathBuf::new() }
    }
}
