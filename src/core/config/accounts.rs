//! `[accounts]`: passwords, sessions, and how much one user may store.

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
    /// The lifetime of an access token that came with a refresh token. One without does not expire.
    pub access_token_lifetime: Period,
    /// The most devices of one user. Beyond it the one that was not used for the longest time is logged out.
    pub max_devices: u32,
    /// The most account data of one user, in kilobytes.
    pub max_account_data_kilobytes: u32,
    /// The most pieces of account data of one user, in all rooms together.
    pub max_account_data: u32,
    /// The most filters of one user. Beyond it the oldest goes.
    pub max_filters: u32,
    /// The most pushers of one user.
    pub max_pushers: u32,
    /// The most push rules of one user, besides the server's.
    pub max_push_rules: u32,
}

impl Default for Accounts {
    fn default() -> Self {
        Self {
            password_min_length: 8,
            argon2_memory_kilobytes: 19_456,
            argon2_iterations: 2,
            argon2_parallelism: 1,
            access_token_lifetime: Period::from_secs(3600),
            max_devices: 1000,
            max_account_data_kilobytes: 10_240,
            max_account_data: 20_000,
            max_filters: 256,
            max_pushers: 50,
            max_push_rules: 1000,
        }
    }
}
