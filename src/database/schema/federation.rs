//! What is known of other servers: their signing keys, and how requests to them went.
//!
//! Invariant: a verify key, once stored, is never replaced by another key with the same id.

use ruma::{OwnedServerName, serde::Base64};
use serde::{Deserialize, Serialize};
use wick_core::Timestamp;

use crate::postcard_value;

/// The keys of a server as it published them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedKeys {
    /// The response of its `/_matrix/key/v2/server`, verified.
    pub json: String,
    /// When it was fetched.
    pub fetched: Timestamp,
    /// Until when it is valid, as the server declares.
    pub valid_until: Timestamp,
}

/// One key of a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredVerifyKey {
    /// The public key.
    pub key: Base64,
    /// Events up to this time may be signed with it.
    pub valid_until: Timestamp,
    /// Whether the server has replaced it: no request is signed with it any more.
    pub is_old: bool,
}

/// How requests to a server went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DestinationRow {
    /// When a request was last answered, to within some minutes.
    pub last_success: Option<Timestamp>,
    /// How many requests in a row found no answer since.
    pub failures: u32,
    /// Until when no request is made; zero if there is no back-off.
    pub retry_at: Timestamp,
    /// Why the last one failed.
    pub failure: Option<String>,
}

postcard_value!(PublishedKeys, version = 1);
postcard_value!(StoredVerifyKey, version = 1);
postcard_value!(DestinationRow, version = 1);

tables! {
    /// The newest keys that a server published. Written when they are fetched; read for notary requests; can be
    /// fetched again.
    PUBLISHED_KEYS_BY_SERVER: OwnedServerName => PublishedKeys, Random;

    /// Every key of a server that was ever seen, by its id. Written with [`PUBLISHED_KEYS_BY_SERVER`]; read when a
    /// signature is verified; old keys cannot be fetched from a server that is gone.
    VERIFY_KEY_BY_ID: (OwnedServerName, String) => StoredVerifyKey, Random;

    /// How requests to each server went. Written when that changes; read before requests and by administrators; where a
    /// row is missing, none has failed.
    DESTINATION_BY_SERVER: OwnedServerName => DestinationRow, Small;
}
