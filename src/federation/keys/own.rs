//! The keys that this server publishes.

use std::{sync::Arc, time::Duration};

use ruma::{
    CanonicalJsonObject, OwnedServerSigningKeyId,
    serde::{Base64, Raw},
    signatures::sign_json,
};
use ruma_federation_api::discovery::{OldVerifyKey, ServerSigningKeys, VerifyKey};
use tokio::task;
use wick_core::{Error, Result, Timestamp};
use wick_database::schema::federation::StoredVerifyKey;

use super::ServerKeys;

/// How long others may use the published keys without asking again.
const VALIDITY: Duration = Duration::from_secs(24 * 3600);

impl ServerKeys {
    /// This server's keys, signed: the response of `/_matrix/key/v2/server`.
    ///
    /// # Errors
    /// None that is expected.
    pub fn published(&self) -> Result<Raw<ServerSigningKeys>> {
        let now = self.resources.clock.now();
        let name = self.resources.config.server.name.clone();
        let mut keys = ServerSigningKeys::new(name, now.after(VALIDITY).matrix());
        let current = self.signing.current();
        let public_key = Base64::new(current.public_key().to_vec());
        keys.verify_keys.insert(id(current.version())?, VerifyKey::new(public_key));
        for old in self.signing.old() {
            let key = OldVerifyKey::new(old.expired.matrix(), Base64::new(old.public_key.to_vec()));
            keys.old_verify_keys.insert(id(&old.version)?, key);
        }
        let object = serde_json::to_value(&keys).and_then(serde_json::from_value);
        self.sign(object.map_err(broken)?)
    }

    /// Makes a new signing key, which signs from now on; the former one is published as an old key. Returns its id.
    ///
    /// # Errors
    /// As [`wick_core::SigningKeys::rotate`].
    pub async fn rotate(&self) -> Result<String> {
        let (signing, store) = (Arc::clone(&self.signing), Arc::clone(&self.store));
        let now = self.resources.clock.now();
        // On a thread of its own, so that it is done whole even if nothing waits for it any more.
        let rotation = task::spawn_blocking(move || signing.rotate(now, &*store));
        let version = rotation.await.map_err(broken)??;
        tracing::info!(version, "the signing key was replaced");
        Ok(format!("ed25519:{version}"))
    }

    /// An object with this server's signature besides those it has.
    pub(super) fn sign(&self, mut object: CanonicalJsonObject) -> Result<Raw<ServerSigningKeys>> {
        let name = &self.resources.config.server.name;
        sign_json(name.as_str(), &*self.signing.current(), &mut object).map_err(broken)?;
        let json = serde_json::to_string(&object).map_err(broken)?;
        Raw::from_json_string(json).map_err(broken)
    }

    /// The key of this server with this id.
    pub(super) fn own_key(&self, wanted: &str) -> Option<StoredVerifyKey> {
        let version = wanted.strip_prefix("ed25519:")?;
        let current = self.signing.current();
        if current.version() == version {
            let key = Base64::new(current.public_key().to_vec());
            return Some(StoredVerifyKey { key, valid_until: Timestamp(u64::MAX), is_old: false });
        }
        let old = self.signing.old().into_iter().find(|old| old.version == version)?;
        let key = Base64::new(old.public_key.to_vec());
        Some(StoredVerifyKey { key, valid_until: old.expired, is_old: true })
    }
}

fn id(version: &str) -> Result<OwnedServerSigningKeyId> {
    OwnedServerSigningKeyId::try_from(format!("ed25519:{version}")).map_err(broken)
}

fn broken(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::internal("this server's keys cannot be published", error)
}
