//! Accounts that scripts make with the shared secret: each request is signed with it, over a nonce that
//! serves once. The protocol is the one of Synapse's tools.

use std::time::Duration;

use data_encoding::HEXLOWER_PERMISSIVE;
use hmac::{Hmac, KeyInit, Mac};
use ruma::api::error::ErrorKind;
use sha1::Sha1;
use wick_core::{Error, Result};
use wick_database::{Durability, Read, schema::confirmations::EXPIRY_BY_REGISTRATION_NONCE};

use super::{NewAccount, Registered, Users};
use crate::{
    devices::NewDevice,
    proof::{Kind, Proof},
    sessions::hash,
};

/// How long a nonce serves.
const LIFETIME: Duration = Duration::from_secs(60);

/// An account requested by a script.
pub struct SignedAccount {
    /// The nonce it was given.
    pub nonce: String,
    /// What to call the account.
    pub username: String,
    /// Its password.
    pub password: String,
    /// Whether it administers the server.
    pub admin: bool,
    /// Synapse's kind of user: signed, and without effect here.
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
    ///
    /// # Errors
    /// If the database refuses.
    pub async fn registration_nonce(&self) -> Result<String> {
        let nonce = self.resources.random.token();
        let expires = self.resources.clock.now().after(LIFETIME);
        self.resources
            .change_with(Durability::Flushed, |batch| {
                batch.put(&EXPIRY_BY_REGISTRATION_NONCE, &hash(&nonce), &expires);
                Ok(())
            })
            .await?;
        Ok(nonce)
    }

    /// Makes an account for a request that is signed with the shared secret.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if the signature is wrong, `M_INVALID_PARAM` if the nonce was not given or
    /// serves no more; and as [`Users::register`].
    pub async fn register_signed(&self, signed: SignedAccount) -> Result<Registered> {
        let secret = self.resources.config.registration.shared_secret.reveal();
        let secret = secret.ok_or_else(|| Error::forbidden("there is no shared secret"))?;
        let nonce = hash(&signed.nonce);
        let expires =
            self.resources.database.latest().get(&EXPIRY_BY_REGISTRATION_NONCE, &nonce)?;
        if expires.is_none_or(|expires| expires <= self.resources.clock.now()) {
            return Err(Error::invalid_param("unknown nonce"));
        }
        if !is_signed(&signed, secret)? {
            return Err(Error::refused_with(403, ErrorKind::Forbidden, "wrong signature"));
        }
        let new = NewAccount {
            localpart: Some(signed.username),
            password: signed.password,
            admin: signed.admin,
            device: Some(NewDevice::default()),
        };
        self.register(new, &Proof(Kind::Nonce(nonce))).await
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
    let shown = HEXLOWER_PERMISSIVE.decode(signed.mac.as_bytes());
    Ok(shown.is_ok_and(|shown| mac.verify_slice(&shown).is_ok()))
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
        let nonce = users.registration_nonce().await.unwrap();
        let made = users.register_signed(account(nonce.clone(), sign(&nonce))).await.unwrap();
        assert_eq!(made.user_id, "@root:localhost");
        assert!(users.get(&made.user_id).unwrap().unwrap().1.admin);
        assert!(users.register_signed(account(nonce.clone(), sign(&nonce))).await.is_err());
        for mac in ["", "0", "zz", &sign("another nonce")] {
            let nonce = users.registration_nonce().await.unwrap();
            let error = users.register_signed(account(nonce, mac.to_owned())).await.err().unwrap();
            assert_eq!(error.kind(), Some(&ErrorKind::Forbidden), "{mac}");
        }
        let nonce = users.registration_nonce().await.unwrap();
        fixture.clock.advance(Duration::from_secs(61));
        let late = users.register_signed(account(nonce.clone(), sign(&nonce))).await.err().unwrap();
        assert_eq!(late.kind(), Some(&ErrorKind::InvalidParam));
    }
}
