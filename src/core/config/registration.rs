//! `[registration]`: how accounts are made.

use serde::{Deserialize, Serialize};

use super::{Period, Secret};

/// The section `[registration]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Registration {
    /// How accounts are made.
    pub mode: Mode,
    /// The registration token where `mode` is `token`.
    pub token: Secret,
    /// With it scripts make accounts, administrators' too, in any `mode`; empty: they cannot.
    pub shared_secret: Secret,
    /// Whether guests may register, whatever `mode` is.
    pub guests: bool,
    /// The most guests at a time.
    pub max_guests: u32,
    /// How long a guest is kept that sends no request.
    pub guest_lifetime: Period,
}

/// How accounts are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Without proof while the server is called `localhost` and can be reached from this machine
    /// alone, not at all otherwise.
    Local,
    /// Without proof.
    Open,
    /// With the registration token.
    Token,
    /// Not at all.
    Closed,
}

impl Default for Registration {
    fn default() -> Self {
        Self {
            mode: Mode::Local,
            token: Secret::default(),
            shared_secret: Secret::default(),
            guests: false,
            max_guests: 10_000,
            guest_lifetime: Period::from_secs(7 * 86_400),
        }
    }
}
