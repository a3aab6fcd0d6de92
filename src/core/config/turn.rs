//! `[turn]`: the TURN servers that calls between two clients pass through where no direct way exists.

use serde::{Deserialize, Serialize};

use super::{Period, Secret};

/// The section `[turn]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Turn {
    /// The URIs of the TURN servers, `turn:` or `turns:`; empty: there are none.
    pub uris: Vec<String>,
    /// The secret that is shared with the TURN servers (`static-auth-secret` of coturn).
    pub secret: Secret,
    /// How long credentials work.
    pub lifetime: Period,
}

impl Default for Turn {
    fn default() -> Self {
        Self {
            uris: Vec::new(),
            secret: Secret::default(),
            lifetime: Period::from_secs(24 * 60 * 60),
        }
    }
}
