//! Passwords: hashed with argon2id at the configured cost, on the threads for heavy work.
//!
//! Invariants: neither a password nor a hash appears in an error. A check costs the same whether or not
//! there is an account, and is counted before it is made ([`Users::check_password`] is the only way to
//! one).

mod memory;

use std::{hash::Hash, net::IpAddr, sync::Arc};

use argon2::{
    Algorithm, Argon2, Block, Params, Version,
    password_hash::phc::{Ident, Output, ParamsString, PasswordHash, Salt},
};
use ruma::{DeviceId, UserId, api::error::ErrorKind};
use subtle::ConstantTimeEq;
use wick_core::{Error, Random, Result, ShortUserId};
use wick_database::schema::users::Account;
use wick_runtime::{Limit, Resources, Workers};

use self::memory::HashingMemory;
use super::Users;

/// Longer ones are refused: they only cost time.
const MAX_PASSWORD_BYTES: usize = 1024;

const HASH_BYTES: usize = 32;

/// Where a password is shown from. Attempts at one account are counted for each origin of its own, so
/// that those of a stranger do not lock its owner out.
#[derive(Clone, Copy, Debug, Hash)]
pub enum Origin<'a> {
    /// A log-in from this address, if it is known.
    Address(Option<IpAddr>),
    /// A device that is logged in.
    Device(&'a DeviceId),
}

impl Users {
    /// The account of a user if `password` is its password. Counts the attempt, by account and origin,
    /// and by address.
    ///
    /// # Errors
    /// `M_LIMIT_EXCEEDED`.
    pub async fn check_password(
        &self,
        user_id: Option<&UserId>,
        password: &str,
        origin: Origin<'_>,
    ) -> Result<Option<(ShortUserId, Account)>> {
        if let Origin::Address(address) = origin {
            self.limits.ensure(Limit::Login, &address)?;
        }
        if let Some(user_id) = user_id {
            self.limits.ensure(Limit::LoginAccount, &(user_id, origin))?;
        }
        let found = match user_id {
            Some(user_id) => self.get(user_id)?,
            None => None,
        };
        let hash = found.as_ref().and_then(|(_, account)| account.password.as_deref());
        let is_right = self.passwords.is_right(&(user_id, origin), password, hash).await?;
        Ok(found.filter(|_| is_right))
    }
}

/// Hashes and checks passwords.
pub(crate) struct Passwords {
    params: Params,
    min_length: usize,
    random: Arc<dyn Random>,
    workers: Arc<Workers>,
    memory: Arc<HashingMemory>,
    /// Is computed where there is no hash to compare with.
    decoy: String,
}

impl Passwords {
    /// # Errors
    /// If the configured cost is not one that argon2 knows.
    pub(crate) fn new(resources: &Resources) -> Result<Self> {
        let config = &resources.config.accounts;
        let params = Params::new(
            config.argon2_memory_kilobytes,
            config.argon2_iterations,
            config.argon2_parallelism,
            None,
        )
        .map_err(|error| Error::internal("password hashing cost", error.to_string()))?;
        let mut noise = [0; 16 + HASH_BYTES];
        resources.random.fill(&mut noise);
        let (salt, output) = noise.split_at(16);
        let decoy = phc(&params, salt, output)?;
        Ok(Self {
            min_length: usize::try_from(config.password_min_length).unwrap_or(usize::MAX),
            random: Arc::clone(&resources.random),
            workers: Arc::clone(&resources.workers),
            memory: Arc::new(HashingMemory::new(params.block_count())),
            decoy,
            params,
        })
    }

    /// The hash of a new password, in PHC form. It waits in the queue of `key`.
    ///
    /// # Errors
    /// `M_WEAK_PASSWORD` if it is too short, `M_INVALID_PARAM` if it is too long;
    /// `M_LIMIT_EXCEEDED` if too many wait.
    pub(crate) async fn hash(&self, key: &impl Hash, password: &str) -> Result<String> {
        if password.chars().count() < self.min_length {
            let message = format!("a password has at least {} characters", self.min_length);
            return Err(Error::refused(ErrorKind::WeakPassword, message));
        }
        if password.len() > MAX_PASSWORD_BYTES {
            return Err(Error::invalid_param("the password is too long"));
        }
        let mut salt = [0; 16];
        self.random.fill(&mut salt);
        let (params, password) = (self.params.clone(), password.to_owned());
        let memory = Arc::clone(&self.memory);
        let job = move || {
            let mut output = [0; HASH_BYTES];
            compute(&params, password.as_bytes(), &salt, &mut output, &memory)?;
            phc(&params, &salt, &output)
        };
        self.workers.run(key, job).await
    }

    /// Whether `password` is the one that `hash` is of; none is of no hash. It waits in the
    /// queue of `key`.
    ///
    /// # Errors
    /// `M_LIMIT_EXCEEDED` if too many wait.
    pub(crate) async fn is_right(
        &self,
        key: &impl Hash,
        password: &str,
        hash: Option<&str>,
    ) -> Result<bool> {
        if password.len() > MAX_PASSWORD_BYTES {
            return Ok(false);
        }
        let is_there = hash.is_some();
        let (password, hash) = (password.to_owned(), hash.unwrap_or(&self.decoy).to_owned());
        let memory = Arc::clone(&self.memory);
        let job = move || Ok(verify(&password, &hash, &memory)? && is_there);
        self.workers.run(key, job).await
    }

    /// Frees the memory that is not in use.
    pub(crate) fn release_memory(&self) {
        self.memory.release();
    }
}

fn verify(password: &str, hash: &str, memory: &HashingMemory) -> Result<bool> {
    let broken = || Error::corrupt("a stored password hash is not in PHC form");
    let hash = PasswordHash::new(hash).map_err(|_| broken())?;
    let (Some(salt), Some(expected)) = (&hash.salt, &hash.hash) else { return Err(broken()) };
    let params = Params::try_from(&hash).map_err(|_| broken())?;
    let mut output = vec![0; expected.len()];
    compute(&params, password.as_bytes(), salt, &mut output, memory)?;
    Ok(output.ct_eq(expected.as_bytes()).into())
}

fn compute(
    params: &Params,
    password: &[u8],
    salt: &[u8],
    output: &mut [u8],
    memory: &HashingMemory,
) -> Result<()> {
    let hasher = Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone());
    memory
        .with(params.block_count(), |blocks: &mut [Block]| {
            hasher.hash_password_into_with_memory(password, salt, output, blocks)
        })
        .map_err(|error| Error::internal("password hashing", error.to_string()))
}

/// A hash in PHC form.
fn phc(params: &Params, salt: &[u8], output: &[u8]) -> Result<String> {
    let failed =
        |error: &dyn std::fmt::Display| Error::internal("password hash", error.to_string());
    let params = ParamsString::try_from(params).map_err(|error| failed(&error))?;
    let hash = PasswordHash {
        algorithm: Ident::new("argon2id").map_err(|error| failed(&error))?,
        version: Some(Version::V0x13.into()),
        params,
        salt: Some(Salt::new(salt).map_err(|error| failed(&error))?),
        hash: Some(Output::new(output).map_err(|error| failed(&error))?),
    };
    Ok(hash.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Fixture;

    fn passwords(fixture: &Fixture) -> &Passwords {
        &fixture.users.passwords
    }

    #[tokio::test]
    async fn a_hash_is_of_its_password_alone() {
        let fixture = Fixture::new();
        let passwords = passwords(&fixture);
        let hash = passwords.hash(&0, "a password").await.unwrap();
        assert!(passwords.is_right(&0, "a password", Some(&hash)).await.unwrap());
        assert!(!passwords.is_right(&0, "another one", Some(&hash)).await.unwrap());
        assert!(!passwords.is_right(&0, "a password", None).await.unwrap());
    }

    #[tokio::test]
    async fn a_hash_that_another_implementation_wrote_is_understood() {
        // `argon2 "somesalt" -id -t 2 -m 16 -p 4` of the reference implementation's test vectors.
        let hash = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$\
                    CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        let fixture = Fixture::new();
        assert!(passwords(&fixture).is_right(&0, "password", Some(hash)).await.unwrap());
    }

    #[tokio::test]
    async fn hashing_keeps_one_buffer_for_each_thread_and_frees_them_when_it_is_told_to() {
        let fixture = Arc::new(Fixture::new());
        let mut checks = tokio::task::JoinSet::new();
        for key in 0..32 {
            let fixture = Arc::clone(&fixture);
            checks
                .spawn(async move { passwords(&fixture).is_right(&key, "a password", None).await });
        }
        for right in checks.join_all().await {
            assert!(!right.unwrap());
        }
        let threads = std::thread::available_parallelism().unwrap().get();
        let memory = &passwords(&fixture).memory;
        assert!((1..=threads).contains(&memory.idle()));
        passwords(&fixture).release_memory();
        assert_eq!(memory.idle(), 0);
    }

    /// What is computed for an account that is not there is what is computed for one that is.
    #[test]
    fn a_check_without_an_account_costs_what_one_with_an_account_costs() {
        let fixture = Fixture::new();
        let passwords = passwords(&fixture);
        let decoy = PasswordHash::new(&passwords.decoy).unwrap();
        let params = Params::try_from(&decoy).unwrap();
        assert_eq!(params.block_count(), passwords.params.block_count());
        assert_eq!(params.t_cost(), passwords.params.t_cost());
        assert_eq!(decoy.hash.unwrap().len(), HASH_BYTES);
    }
}
