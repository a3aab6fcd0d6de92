//! What is left to do after a room was made that replaces another one.

use serde::{Deserialize, Serialize};
use wick_core::{ShortRoomId, ShortUserId};

use crate::postcard_value;

/// A replacement room whose replaced room has no tombstone yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replacement {
    /// The new room.
    pub new_room: ShortRoomId,
    /// The user who requested the upgrade.
    pub by: ShortUserId,
}

postcard_value!(Replacement, version = 1);

tables! {
    /// By replaced room: the room that was made to replace it. Written with the new room, deleted with the
    /// tombstone of the old one; read to finish upgrades after a crash; rebuilt from nothing else.
    REPLACEMENT_BY_ROOM: ShortRoomId => Replacement, Small;

    /// By user and room: the room it replaces, whose tags and rules are to be copied. Written with the join,
    /// deleted with the copy; read to finish that after a crash; rebuilt from nothing else.
    PREDECESSOR_BY_MEMBER: (ShortUserId, ShortRoomId) => ShortRoomId, Small;
}
