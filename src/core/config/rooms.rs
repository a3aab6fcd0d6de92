//! `[rooms]`: what users may do with rooms.

use ruma::RoomVersionId;
use serde::{Deserialize, Serialize};

/// The section `[rooms]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rooms {
    /// The version of a new room where the client names none.
    pub default_version: RoomVersionId,
    /// Whether users may create rooms.
    pub allow_creation: bool,
    /// Whether users may list their rooms in the public directory.
    pub allow_publication: bool,
}

impl Default for Rooms {
    fn default() -> Self {
        Self { default_version: RoomVersionId::V12, allow_creation: true, allow_publication: true }
    }
}
