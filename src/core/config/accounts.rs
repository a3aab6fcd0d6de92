//! `[accounts]`: passwords and sessions.

use serde::{Deserialize, Serialize};

use super::Period;

/// The section `[accounts]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Accounts {
    /// The fewest characters of a new password.
    pub password_min_length: u32,
    /// Memory to hash a password with, in kilobytes.
    pub argon2_memory_kilobytes: u32,
    /// Passes over that memory.
    pub argon2_iterations: u32,
    /// Lanes of that memory.
    pub argon2_parallelism: u32,
    /// How long an access token lives that came with a refresh token. One without does not expire.
    pub access_token_lifetime: Period,
}

impl Default for Accounts {
    fn default() -> Self {
        Self {
            password_min_length: 8,
            argon2_memory_kilobytes: 19_456,
            argon2_iterations: 2,
            argon2_parallelism: 1,
            access_token_lifetime: Period::from_secs(3600),
        }
    }
}
