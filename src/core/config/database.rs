//! `[database]`: the data folder, durability and caches.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The section `[database]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Database {
    /// The folder of the database, the keys and the admin socket.
    pub path: PathBuf,
    /// What a commit waits for before it is answered.
    pub durability: Durability,
    /// Memory for cached blocks, in megabytes.
    pub cache_megabytes: u32,
    /// Memory for what is written but not yet sorted into files, in megabytes.
    pub write_buffer_megabytes: u32,
    /// The most files kept open at once.
    pub max_open_files: u32,
}

/// What a commit waits for before it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// The disk: answered data survives a power loss.
    Synced,
    /// The operating system: answered data survives a killed process, not a power loss.
    Flushed,
}

impl Default for Database {
    fn default() -> Self {
        Self {
            path: PathBuf::from("./wick-data"),
            durability: Durability::Synced,
            cache_megabytes: 64,
            write_buffer_megabytes: 64,
            max_open_files: 512,
        }
    }
}

impl Database {
    /// The folder of the database itself, beside which the keys lie.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        Self::store_in(&self.path)
    }

    /// The same in another data folder, such as a backup.
    #[must_use]
    pub fn store_in(folder: &Path) -> PathBuf {
        folder.join("db")
    }
}
