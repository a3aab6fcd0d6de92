//! Devices of local users and the tokens they log in with.
//!
//! Invariant: a token has a row here exactly as long as its device's row names its hash. Only hashes
//! are stored: the database does not hold what a token is.

use ruma::{OwnedDeviceId, OwnedUserId};
use serde::{Deserialize, Serialize};
use wick_core::{ShortUserId, Timestamp};

use crate::postcard_value;

/// The SHA-256 of an access or refresh token.
pub type TokenHash = [u8; 32];

/// A device with the tokens that speak for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Its display name.
    pub display_name: Option<String>,
    /// When it logged in first.
    pub created: Timestamp,
    /// The tokens in use.
    pub tokens: TokenPair,
    /// The tokens that `tokens` replaced at a refresh, until `tokens` are used for the first time.
    pub previous: Option<TokenPair>,
}

/// Hashes of an access token and of the refresh token that came with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenPair {
    /// The access token.
    pub access: TokenHash,
    /// The refresh token, if the client wanted one.
    pub refresh: Option<TokenHash>,
}

/// What a token is good for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// The user it speaks for.
    pub user: ShortUserId,
    /// The same user as a user id.
    pub user_id: OwnedUserId,
    /// The device it speaks for.
    pub device_id: OwnedDeviceId,
    /// Which of the two kinds it is.
    pub kind: TokenKind,
}

/// Access or refresh.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TokenKind {
    /// Authenticates requests.
    Access {
        /// From when on it does not.
        expires: Option<Timestamp>,
        /// Made by a refresh and not used yet: its first use ends the tokens it replaces.
        unused: bool,
    },
    /// Is exchanged for a new pair of tokens.
    Refresh,
}

/// When and from where a device was last seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// When, within a few minutes.
    pub at: Timestamp,
    /// From which address, if it is known.
    pub address: Option<String>,
}

postcard_value!(Device, version = 1);
postcard_value!(Token, version = 1);
postcard_value!(Seen, version = 1);

tables! {
    /// The devices of local users. Written at log-in, refresh and log-out; read by the device list and
    /// by everything that addresses devices; rebuilt from nothing else; wakes the user, so that a sync that
    /// waits with a revoked token ends.
    DEVICE_BY_ID: (ShortUserId, OwnedDeviceId) => Device, Random, wakes_user;

    /// Access and refresh tokens. Written with their device; read at every request; rebuilt from
    /// nothing else.
    TOKEN_BY_HASH: TokenHash => Token, Random;

    /// When devices were last seen. Written now and then by requests; read by the device list; may be
    /// lost.
    SEEN_BY_DEVICE: (ShortUserId, OwnedDeviceId) => Seen, Random;
}
