//! Credentials for TURN servers, which both sides compute from a shared secret and the time at which they
//! end (the TURN REST API, `draft-uberti-behave-turn-rest-00`). None is stored.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use ruma::UserId;
use sha1::Sha1;
use wick_core::{Error, Result, Timestamp, config};

/// What a client presents to a TURN server.
pub struct TurnCredentials {
    /// The second in which they end, and the user, so that the TURN server can limit each.
    pub username: String,
    /// The HMAC-SHA-1 of the username under the shared secret, in Base64.
    pub password: String,
    /// The servers that accept them.
    pub uris: Vec<String>,
    /// How long they work.
    pub lifetime: Duration,
}

/// Computes credentials for a user at a time, or returns `None` if no TURN server is configured.
///
/// # Errors
/// If the secret cannot be a key.
pub fn credentials(
    turn: &config::Turn,
    user: &UserId,
    now: Timestamp,
) -> Result<Option<TurnCredentials>> {
    let Some(secret) = turn.secret.reveal().filter(|_| !turn.uris.is_empty()) else {
        return Ok(None);
    };
    let lifetime = turn.lifetime.0;
    let username = format!("{}:{user}", now.after(lifetime).0 / 1000);
    let mut mac = Hmac::<Sha1>::new_from_slice(secret.as_bytes())
        .map_err(|error| Error::internal("TURN secret", error.to_string()))?;
    mac.update(username.as_bytes());
    let password = STANDARD.encode(mac.finalize().into_bytes());
    Ok(Some(TurnCredentials { username, password, uris: turn.uris.clone(), lifetime }))
}
