//! Names of rooms on this server, and which rooms are listed in public.

use ruma::{OwnedRoomAliasId, OwnedUserId};
use serde::{Deserialize, Serialize};
use wick_core::{ShortRoomId, Timestamp};

use crate::postcard_value;

/// What a room alias of this server stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alias {
    /// The room.
    pub room: ShortRoomId,
    /// The user who created it, and so may delete it.
    pub creator: OwnedUserId,
    /// When.
    pub created: Timestamp,
}

postcard_value!(Alias, version = 1);

tables! {
    /// The room that an alias of this server stands for. Written by its creator and by those with
    /// power in the room; read to join by alias; rebuilt from nothing else.
    ROOM_BY_ALIAS: OwnedRoomAliasId => Alias, Random;

    /// The aliases of a room. Written together with `room_by_alias`; rebuilt from it.
    ALIAS_BY_ROOM: (ShortRoomId, OwnedRoomAliasId) => (), Random;

    /// The rooms that are listed in the public directory. Written when a room is made or upgraded and
    /// by those with power in it; read to list them; rebuilt from nothing else.
    LISTED_BY_ROOM: ShortRoomId => (), Small;
}
