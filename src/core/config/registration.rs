//! `[registration]`: who may make an account.

use serde::{Deserialize, Serialize};

use super::Secret;

/// The section `[registration]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Registration {
    /// Who may make an account.
    pub mode: Mode,
    /// What has to be known where `mode` is `token`.
    pub token: Secret,
    /// With it scripts make accounts, administrators' too, whatever `mode` says; empty: they cannot.
    pub shared_secret: Secret,
}

/// Who may make an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Everybody while the server is called `localhost` and can be reached from this machine
    /// alone, nobody otherwise.
    Local,
    /// Everybody who can reach the server.
    Open,
    /// Whoever knows the token.
    Token,
    /// Nobody.
    Closed,
}

impl Default for Registration {
    fn default() -> Self {
        Self { mode: Mode::Local, token: Secret::default(), shared_secret: Secret::default() }
    }
}
