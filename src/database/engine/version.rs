//! Which RocksDB is loaded: it can be a shared library, and files that one version has written may not be
//! readable for another.
//!
//! Invariant: no file of the database is touched before the version is known to be the right one.

use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use rocksdb::{DB, Env, InfoLogger, LogLevel, Options};

use crate::{Error, Result};

/// The version whose header the bindings are made from.
const BUILT_FOR: &str = "11.8.1";

/// How RocksDB's log begins.
const FIRST_LINE: &str = "RocksDB version: ";

/// Refuses another version than the one this was built for.
pub(super) fn check() -> Result<()> {
    static LOADED: LazyLock<Result<Option<String>>> = LazyLock::new(loaded);
    compare(LOADED.as_ref().map_err(Clone::clone)?.as_deref())
}

fn compare(loaded: Option<&str>) -> Result<()> {
    match loaded {
        Some(BUILT_FOR) => Ok(()),
        other => Err(Error::engine(format!(
            "the RocksDB library is version {}, but this server was built for {BUILT_FOR}",
            other.unwrap_or("unknown"),
        ))),
    }
}

/// The version by the engine's own log, for its C interface has no function that returns it. It is logged
/// when a database is opened, here one in memory that does not exist.
fn loaded() -> Result<Option<String>> {
    let found = Arc::new(Mutex::new(None));
    let heard = Arc::clone(&found);
    let mut settings = Options::default();
    settings.set_env(&Env::mem_env().map_err(Error::engine)?);
    settings.set_info_logger(InfoLogger::new_callback_logger(LogLevel::Header, move |_, line| {
        if let Some(version) = line.trim().strip_prefix(FIRST_LINE) {
            *heard.lock().unwrap_or_else(PoisonError::into_inner) = Some(version.to_owned());
        }
    }));
    drop(DB::open(&settings, "/version"));
    let found = found.lock().unwrap_or_else(PoisonError::into_inner).take();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loaded_engine_tells_its_version() {
        assert_eq!(loaded().unwrap().as_deref(), Some(BUILT_FOR));
        check().unwrap();
    }

    #[test]
    fn another_version_is_refused() {
        for other in [Some("11.8.10"), Some("11.7.1"), None] {
            let refused = compare(other).unwrap_err().to_string();
            assert!(refused.contains("built for 11.8.1"), "{refused}");
        }
    }
}
