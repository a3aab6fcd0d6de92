//! The key files beside the database: what signs events, and what tokens are derived from.
//!
//! Invariants: a key is made once, while the database is empty, and never overwritten; its file is for this
//! user alone; a key file that is missing beside data or cannot be read stops the start: with a new
//! signing key this would be another server, with a new timer key all refresh tokens would be void.

use std::{fs, io, path::Path};

use ruma::signatures::Ed25519KeyPair;
use wick_core::Random;
use wick_service::Keys;

use crate::{Failure, data_folder::write_new, random::SystemRandom};

/// The key that signs events: Ed25519, PKCS#8 DER.
pub(crate) const SIGNING_KEY: &str = "signing.key";
/// The key that the tokens of expiring events are derived from: 32 bytes.
pub(crate) const TIMER_KEY: &str = "timer.key";

/// The version in the name of the signing key, `ed25519:1`.
const VERSION: &str = "1";

/// Whether there is something in the database that keys belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Database {
    /// Nothing was ever written.
    Empty,
    /// It is in use.
    Used,
}

/// Reads the keys in `folder`, and makes those that are not there if the database is empty.
pub(crate) fn load(folder: &Path, database: Database) -> Result<Keys, Failure> {
    let signing =
        read_or_make(&folder.join(SIGNING_KEY), database, || Ed25519KeyPair::generate().to_vec())?;
    let signing = Ed25519KeyPair::from_der(&signing, VERSION.to_owned())
        .map_err(|error| Failure::because(format_args!("{SIGNING_KEY} is no key"), error))?;
    let timer = read_or_make(&folder.join(TIMER_KEY), database, || {
        let mut key = vec![0; 32];
        SystemRandom.fill(&mut key);
        key
    })?;
    let timer = timer
        .try_into()
        .map_err(|_| Failure(format!("{TIMER_KEY} is no key: it must have 32 bytes")))?;
    Ok(Keys { signing, timer })
}

fn read_or_make(
    path: &Path,
    database: Database,
    make: impl FnOnce() -> Vec<u8>,
) -> Result<Vec<u8>, Failure> {
    match fs::read(path) {
        Ok(key) => Ok(key),
        Err(error) if error.kind() == io::ErrorKind::NotFound && database == Database::Used => {
            Err(Failure(format!(
                "the key file {} is missing beside a database in use: restore it from a backup",
                path.display()
            )))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = make();
            write_new(path, &key).map_err(|error| {
                Failure::because(format_args!("{} cannot be written", path.display()), error)
            })?;
            tracing::info!(path = %path.display(), "made a key");
            Ok(key)
        }
        Err(error) => {
            Err(Failure::because(format_args!("{} cannot be read", path.display()), error))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn keys_are_made_once_and_for_this_user_alone() {
        let folder = tempfile::tempdir().unwrap();
        let first = load(folder.path(), Database::Empty).unwrap();
        let second = load(folder.path(), Database::Used).unwrap();
        assert_eq!(first.signing.public_key(), second.signing.public_key());
        assert_eq!(first.timer, second.timer);
        assert_ne!(first.timer, [0; 32]);
        for name in [SIGNING_KEY, TIMER_KEY] {
            let mode = fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }

    #[test]
    fn a_broken_key_is_told_and_kept() {
        for name in [SIGNING_KEY, TIMER_KEY] {
            let folder = tempfile::tempdir().unwrap();
            load(folder.path(), Database::Empty).unwrap();
            fs::write(folder.path().join(name), "broken").unwrap();
            let Err(failure) = load(folder.path(), Database::Empty) else {
                panic!("{name} was taken")
            };
            assert!(failure.0.starts_with(name), "{failure}");
            assert_eq!(fs::read(folder.path().join(name)).unwrap(), b"broken");
        }
    }
    #[test]
    fn a_key_that_is_missing_beside_data_is_not_made_anew() {
        for name in [SIGNING_KEY, TIMER_KEY] {
            let folder = tempfile::tempdir().unwrap();
            load(folder.path(), Database::Empty).unwrap();
            let path = folder.path().join(name);
            fs::remove_file(&path).unwrap();
            let Err(failure) = load(folder.path(), Database::Used) else { panic!("{name}") };
            assert!(failure.0.contains(&*path.to_string_lossy()), "{failure}");
            assert!(!path.exists());
        }
    }
}
