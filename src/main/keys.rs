//! The key files beside the database: what signs events, and what tokens are derived from.
//!
//! The first signing key is `signing.key`. One that replaced it is `signing.SECONDS.key`, named after the second (UNIX time)
//! from which the key before it counts as expired; the last one signs.
//!
//! Invariants: a key is made while the database is empty or on demand, and never overwritten; its file is for this
//! user alone; a key file that is missing beside data or cannot be read stops the start: with a new
//! signing key this would be another server, with a new timer key all refresh tokens would be void.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use ruma::signatures::Ed25519KeyPair;
use wick_core::{
    Random, SigningKeys,
    signing::{KeyStore, OldKey},
};
use wick_service::Keys;

use crate::{Failure, data_folder::write_new, random::SystemRandom};

/// The key that signs events: Ed25519, PKCS#8 DER.
pub(crate) const SIGNING_KEY: &str = "signing.key";
/// The key that the tokens of expiring events are derived from: 32 bytes.
pub(crate) const TIMER_KEY: &str = "timer.key";

/// The version in the id of the first signing key, `ed25519:1`.
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
    let first = key_pair(SIGNING_KEY, &signing, VERSION)?;
    let signing = Arc::new(with_replacements(folder, first)?);
    let timer = read_or_make(&folder.join(TIMER_KEY), database, || {
        let mut key = vec![0; 32];
        SystemRandom.fill(&mut key);
        key
    })?;
    let timer = timer
        .try_into()
        .map_err(|_| Failure(format!("{TIMER_KEY} is no key: it must have 32 bytes")))?;
    let store = Arc::new(Folder(folder.to_owned()));
    Ok(Keys { signing, store, timer })
}

/// The names of the files of all keys in `folder`.
pub(crate) fn names(folder: &Path) -> Result<Vec<String>, Failure> {
    let replacements = replacements(folder)?.into_iter().map(replacement);
    Ok([SIGNING_KEY, TIMER_KEY].map(str::to_owned).into_iter().chain(replacements).collect())
}

/// The keys that sign and signed, of which `first` is the oldest.
fn with_replacements(folder: &Path, first: Ed25519KeyPair) -> Result<SigningKeys, Failure> {
    let (mut current, mut old) = (first, Vec::new());
    for version in replacements(folder)? {
        let name = replacement(version);
        let document = fs::read(folder.join(&name))
            .map_err(|error| Failure::because(format_args!("{name} cannot be read"), error))?;
        let next = key_pair(&name, &document, &version.to_string())?;
        old.push(OldKey::new(&current, version));
        current = next;
    }
    Ok(SigningKeys::new(current, old))
}

/// The versions of the keys that replaced the first one, the oldest first.
fn replacements(folder: &Path) -> Result<Vec<u64>, Failure> {
    let unreadable = |error: io::Error| {
        Failure::because(format_args!("{} cannot be read", folder.display()), error)
    };
    let mut versions = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name();
        let version = name.to_str().and_then(|name| {
            let version = name.strip_prefix("signing.")?.strip_suffix(".key")?;
            version.parse().ok()
        });
        versions.extend(version.filter(|version| Some(&*replacement(*version)) == name.to_str()));
    }
    versions.sort_unstable();
    Ok(versions)
}

fn replacement(version: u64) -> String {
    format!("signing.{version}.key")
}

fn key_pair(name: &str, document: &[u8], version: &str) -> Result<Ed25519KeyPair, Failure> {
    Ed25519KeyPair::from_der(document, version.to_owned())
        .map_err(|error| Failure::because(format_args!("{name} is no key"), error))
}

/// The folder of the keys.
struct Folder(PathBuf);

impl KeyStore for Folder {
    fn add(&self, version: u64, document: &[u8]) -> io::Result<()> {
        let path = self.0.join(replacement(version));
        if path.try_exists()? {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        write_new(&path, document)
    }
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

    use wick_core::Timestamp;

    use super::*;

    #[test]
    fn keys_are_made_once_and_for_this_user_alone() {
        let folder = tempfile::tempdir().unwrap();
        let first = load(folder.path(), Database::Empty).unwrap();
        let second = load(folder.path(), Database::Used).unwrap();
        assert_eq!(first.signing.current().public_key(), second.signing.current().public_key());
        assert_eq!(first.timer, second.timer);
        assert_ne!(first.timer, [0; 32]);
        for name in [SIGNING_KEY, TIMER_KEY] {
            let mode = fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }

    #[test]
    fn a_key_that_was_replaced_is_an_old_one_after_the_next_start_too() {
        let folder = tempfile::tempdir().unwrap();
        let keys = load(folder.path(), Database::Empty).unwrap();
        let first = keys.signing.current().public_key();
        assert_eq!(keys.signing.rotate(Timestamp(7_000), &*keys.store).unwrap(), 8);
        assert_eq!(keys.signing.rotate(Timestamp(10_000), &*keys.store).unwrap(), 11);
        let last = keys.signing.current().public_key();
        fs::write(folder.path().join("signing.007.key"), "not one of ours").unwrap();
        let again = load(folder.path(), Database::Used).unwrap();
        let current = again.signing.current();
        assert_eq!((current.version(), current.public_key()), ("11", last));
        let old = again.signing.old();
        assert_eq!(old, keys.signing.old());
        assert_eq!((old[0].public_key, old[0].expired), (first, Timestamp(8_000)));
        let path = folder.path().join("signing.11.key");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let expected = [SIGNING_KEY, TIMER_KEY, "signing.8.key", "signing.11.key"];
        assert_eq!(names(folder.path()).unwrap(), expected);
        assert!(again.store.add(11, b"another").is_err(), "no key is overwritten");
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
