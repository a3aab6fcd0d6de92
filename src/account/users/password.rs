//! Passwords: argon2id on threads of their own, so that hashing never holds up other requests, and
//! at most a few at a time, so that log-ins cannot use up the memory.
//!
//! Invariant: neither a password nor a hash appears in an error.

use std::{sync::Arc, thread};

use argon2::{
    Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version,
    password_hash::{Error as HashError, phc::PasswordHash},
};
use ruma::api::error::ErrorKind;
use tokio::{sync::Semaphore, task};
use wick_core::{Error, Random, Result, config};

/// Longer ones are refused: they only cost time.
const MAX_PASSWORD_BYTES: usize = 1024;

/// Hashes and checks passwords.
pub(crate) struct Passwords {
    hasher: Argon2<'static>,
    min_length: usize,
    random: Arc<dyn Random>,
    turns: Arc<Semaphore>,
}

impl Passwords {
    /// # Errors
    /// If the configured cost is not one that argon2 knows.
    pub(crate) fn new(config: &config::Accounts, random: Arc<dyn Random>) -> Result<Self> {
        let params = Params::new(
            config.argon2_memory_kilobytes,
            config.argon2_iterations,
            config.argon2_parallelism,
            None,
        )
        .map_err(|error| Error::internal("password hashing cost", error.to_string()))?;
        let threads = thread::available_parallelism().map_or(1, usize::from);
        Ok(Self {
            hasher: Argon2::new(Algorithm::Argon2id, Version::V0x13, params),
            min_length: usize::try_from(config.password_min_length).unwrap_or(usize::MAX),
            random,
            turns: Arc::new(Semaphore::new(threads.clamp(1, 4))),
        })
    }

    /// The hash of a new password, in PHC form.
    ///
    /// # Errors
    /// `M_WEAK_PASSWORD` if it is too short, `M_INVALID_PARAM` if it is absurdly long.
    pub(crate) async fn hash(&self, password: &str) -> Result<String> {
        if password.chars().count() < self.min_length {
            let message = format!("a password has at least {} characters", self.min_length);
            return Err(Error::refused(ErrorKind::WeakPassword, message));
        }
        if password.len() > MAX_PASSWORD_BYTES {
            return Err(Error::invalid_param("the password is too long"));
        }
        let mut salt = [0; 16];
        self.random.fill(&mut salt);
        let (hasher, password) = (self.hasher.clone(), password.to_owned());
        self.in_turn(move || {
            let hash: PasswordHash = hasher
                .hash_password_with_salt(password.as_bytes(), &salt)
                .map_err(|error| Error::internal("password hashing", error.to_string()))?;
            Ok(hash.to_string())
        })
        .await
    }

    /// Whether `password` is the one that `hash` is of.
    pub(crate) async fn is_right(&self, password: &str, hash: &str) -> Result<bool> {
        if password.len() > MAX_PASSWORD_BYTES {
            return Ok(false);
        }
        let (hasher, password, hash) = (self.hasher.clone(), password.to_owned(), hash.to_owned());
        self.in_turn(move || {
            let hash = PasswordHash::new(&hash)
                .map_err(|_| Error::corrupt("a stored password hash is not in PHC form"))?;
            match hasher.verify_password(password.as_bytes(), &hash) {
                Ok(()) => Ok(true),
                Err(HashError::PasswordInvalid) => Ok(false),
                Err(error) => Err(Error::internal("password check", error.to_string())),
            }
        })
        .await
    }

    async fn in_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let turn = Arc::clone(&self.turns)
            .acquire_owned()
            .await
            .map_err(|error| Error::internal("password turns", error))?;
        // The turn goes along: it ends with the work even if the client does not wait for it.
        task::spawn_blocking(move || {
            let result = work();
            drop(turn);
            result
        })
        .await
        .map_err(|error| Error::internal("password thread", error))?
    }
}
