//! This server's signing keys: the one that signs, and those that signed before it.
//!
//! Invariants: a key that was replaced signs nothing any more; its id is never given to another key. The id of the first key
//! is `ed25519:1`; that of any other has the second from which it counts, so that nothing else has to be stored of it.

use std::{
    io,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use ruma::signatures::Ed25519KeyPair;

use crate::{Error, Result, Timestamp};

/// The signing keys of this server, shared by all code that signs.
pub struct SigningKeys {
    state: RwLock<State>,
}

struct State {
    current: Arc<Ed25519KeyPair>,
    old: Vec<OldKey>,
}

/// Keeps signing keys where the next start of the server finds them.
pub trait KeyStore: Send + Sync + 'static {
    /// Adds a key, which is the current one from then on: a PKCS#8 document and the version of its id.
    ///
    /// # Errors
    /// If it cannot be written; then there is no such key.
    fn add(&self, version: u64, document: &[u8]) -> io::Result<()>;
}

/// The public half of a key that was replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OldKey {
    /// The version in its id, which is `ed25519:` with it.
    pub version: String,
    /// The public key.
    pub public_key: [u8; 32],
    /// When it was replaced.
    pub expired: Timestamp,
}

impl SigningKeys {
    /// `current` signs from now on; `old` did before.
    #[must_use]
    pub fn new(current: Ed25519KeyPair, old: Vec<OldKey>) -> Self {
        Self { state: RwLock::new(State { current: Arc::new(current), old }) }
    }

    /// The key that signs.
    #[must_use]
    pub fn current(&self) -> Arc<Ed25519KeyPair> {
        Arc::clone(&self.state.read().unwrap_or_else(PoisonError::into_inner).current)
    }

    /// The keys that signed before, the oldest first.
    #[must_use]
    pub fn old(&self) -> Vec<OldKey> {
        self.state.read().unwrap_or_else(PoisonError::into_inner).old.clone()
    }

    /// Makes a new key, which signs from now on in place of the current one. Blocks until it is stored. Returns the version
    /// in its id, the second from which the former key counts as expired.
    ///
    /// # Errors
    /// `M_LIMIT_EXCEEDED` if the current key is not older than a second; if the new one cannot be stored, and then the
    /// current one goes on to sign.
    pub fn rotate(&self, now: Timestamp, store: &dyn KeyStore) -> Result<u64> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let version = now.0 / 1000 + 1;
        if state.current.version().parse().is_ok_and(|current: u64| current >= version) {
            return Err(Error::limit_exceeded(Duration::from_secs(2)));
        }
        let document = Ed25519KeyPair::generate();
        let key = Ed25519KeyPair::from_der(&document, version.to_string())
            .map_err(|error| Error::internal("a new signing key", error))?;
        store
            .add(version, &document)
            .map_err(|error| Error::internal("a new signing key cannot be stored", error))?;
        let replaced = OldKey::new(&state.current, version);
        state.old.push(replaced);
        state.current = Arc::new(key);
        Ok(version)
    }
}

impl OldKey {
    /// What is left of a key that one with the version `next` replaced.
    #[must_use]
    pub fn new(key: &Ed25519KeyPair, next: u64) -> Self {
        Self {
            version: key.version().to_owned(),
            public_key: key.public_key(),
            expired: Timestamp(next.saturating_mul(1000)),
        }
    }
}

impl From<Ed25519KeyPair> for SigningKeys {
    fn from(current: Ed25519KeyPair) -> Self {
        Self::new(current, Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Stored(Mutex<Vec<u64>>);

    impl KeyStore for Stored {
        fn add(&self, version: u64, _: &[u8]) -> io::Result<()> {
            if version == 3 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.0.lock().unwrap().push(version);
            Ok(())
        }
    }

    #[test]
    fn a_new_key_signs_once_it_is_stored_and_the_former_one_expires() {
        let first = Ed25519KeyPair::from_der(&Ed25519KeyPair::generate(), "1".to_owned()).unwrap();
        let public_key = first.public_key();
        let (keys, store) = (SigningKeys::from(first), Stored::default());
        keys.rotate(Timestamp(2_500), &store).unwrap_err();
        assert_eq!(keys.current().version(), "1", "it was not stored");
        assert_eq!(keys.rotate(Timestamp(3_500), &store).unwrap(), 4);
        assert_eq!(keys.current().version(), "4");
        let expired = Timestamp(4_000);
        assert_eq!(keys.old(), [OldKey { version: "1".to_owned(), public_key, expired }]);
        assert!(keys.rotate(Timestamp(3_900), &store).is_err(), "two keys would have one id");
        assert_eq!(*store.0.lock().unwrap(), [4]);
    }
}
