//! Accounts that scripts make who know the shared secret: each request is signed with it, over a
//! nonce that serves once. The protocol is the one that Synapse's tools speak.

use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use quick_cache::sync::Cache;
use ruma::api::error::ErrorKind;
use sha1::Sha1;
use wick_core::{Error, Monotonic, Result};

use super::{NewAccount, Registered, Users};
use crate::devices::NewDevice;

const KEPT: usize = 1000;
const LIFETIME: Duration = Duration::from_secs(60);

/// Nonces that were given out, with when.
pub(super) struct Nonces(Cache<String, Monotonic>);

impl Nonces {
    pub(super) fn new() -> Self {
        Self(Cache::new(KEPT))
    }
}

/// An account that a script wants.
pub struct SignedAccount {
    /// The nonce it was given.
    pub nonce: String,
    /// What to call the account.
    pub username: String,
    /// Its password.
    pub password: String,
    /// Whether it administers the server.
    pub admin: bool,
    /// What kind of user it is to be, which this server does not care about.
    pub user_type: Option<String>,
    /// HMAC-SHA1 of all that, in hexadecimal.
    pub mac: String,
}

impl Users {
    /// Whether a shared secret is configured.
    #[must_use]
    pub fn has_shared_secret(&self) -> bool {
        self.resources.config.registration.shared_secret.reveal().is_some()
    }

    /// A nonce for one [`Users::register_signed`].
    #[must_use]
    pub fn registration_nonce(&self) -> String {
        let nonce = self.resources.random.token();
        self.nonces.0.insert(nonce.clone(), self.resources.clock.monotonic());
        nonce
    }

    /// Makes an account for who knows the shared secret.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if the signature is wrong, `M_INVALID_PARAM` if the nonce was not given or
    /// serves no more; and as [`Users::register`].
    pub async fn register_signed(&self, signed: SignedAccount) -> Result<Registered> {
        let secret = self.resources.config.registration.shared_secret.reveal();
        let secret = secret.ok_or_else(|| Error::forbidden("there is no shared secret"))?;
        let now = self.resources.clock.monotonic();
        match self.nonces.0.remove(&signed.nonce) {
            Some((_, given)) if now.since(given) <= LIFETIME => {}
            _ => return Err(Error::invalid_param("unknown nonce")),
        }
        if !is_signed(&signed, secret)? {
            return Err(Error::refused_with(403, ErrorKind::Forbidden, "wrong signature"));
        }
        self.register(NewAccount {
            localpart: Some(signed.username),
            password: signed.password,
            admin: signed.admin,
            device: Some(NewDevice::default()),
        })
        .await
    }
}

fn is_signed(signed: &SignedAccount, secret: &str) -> Result<bool> {
    let mut mac = Hmac::<Sha1>::new_from_slice(secret.as_bytes())
        .map_err(|error| Error::internal("shared secret", error.to_string()))?;
    let role = if signed.admin { "admin" } else { "notadmin" };
    let parts = [&*signed.nonce, &signed.username, &signed.password, role];
    for (index, part) in parts.into_iter().chain(signed.user_type.as_deref()).enumerate() {
        if index > 0 {
            mac.update(&[0]);
        }
        mac.update(part.as_bytes());
    }
    Ok(from_hex(&signed.mac).is_some_and(|shown| mac.verify_slice(&shown).is_ok()))
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut bytes = Vec::with_capacity(text.len() / 2);
    for pair in text.as_bytes().chunks(2) {
        let [high, low] = pair else { return None };
        bytes.push(digit(*high)? << 4 | digit(*low)?);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use crate::fixture::Fixture;

    use super::*;

    fn account(nonce: String, mac: String) -> SignedAccount {
        SignedAccount {
            nonce,
            username: "Root".to_owned(),
            password: "password".to_owned(),
            admin: true,
            user_type: None,
            mac,
        }
    }

    fn sign(nonce: &str) -> String {
        let mut mac = Hmac::<Sha1>::new_from_slice(b"complement").unwrap();
        mac.update(format!("{nonce}\0Root\0password\0admin").as_bytes());
        mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[tokio::test]
    async fn a_signed_account_is_made_once_per_nonce() {
        let fixture = Fixture::with(|config| {
            config.registration.shared_secret = "complement".to_owned().into();
        });
        let users = &fixture.users;
        let nonce = users.registration_nonce();
        let made = users.register_signed(account(nonce.clone(), sign(&nonce))).await.unwrap();
        assert_eq!(made.user_id, "@root:localhost");
        assert!(users.get(&made.user_id).unwrap().unwrap().1.admin);
        assert!(users.register_signed(account(nonce.clone(), sign(&nonce))).await.is_err());
        for mac in ["", "0", "zz", &sign("another nonce")] {
            let nonce = users.registration_nonce();
            let error = users.register_signed(account(nonce, mac.to_owned())).await.err().unwrap();
            assert_eq!(error.kind(), Some(&ErrorKind::Forbidden), "{mac}");
        }
        let nonce = users.registration_nonce();
        fixture.clock.advance(Duration::from_secs(61));
        let late = users.register_signed(account(nonce.clone(), sign(&nonce))).await.err().unwrap();
        assert_eq!(late.kind(), Some(&ErrorKind::InvalidParam));
    }
}
