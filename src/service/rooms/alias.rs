//! Names of rooms.
//!
//! <https://spec.matrix.org/v1.18/client-server-api/#room-aliases>

use ruma::{OwnedRoomId, RoomAliasId, RoomOrAliasId};
use wick_core::{Error, Result};
use wick_database::{Read, schema::directory::ROOM_BY_ALIAS};

use super::Rooms;

impl Rooms {
    /// The room with an alias.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if no room of this server has it.
    pub fn resolve(&self, alias: &RoomAliasId) -> Result<OwnedRoomId> {
        let read = self.resources.database.published();
        let row = read
            .get(&ROOM_BY_ALIAS, alias)?
            .ok_or_else(|| Error::not_found("no room has this alias"))?;
        self.graph
            .intern()
            .room_id(&read, row.room)?
            .ok_or_else(|| Error::corrupt("an alias stands for a room without an id"))
    }

    /// The room that an id or an alias names. Whether a room with that id is here is not asked.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if it is an alias that no room of this server has.
    pub fn room_named(&self, name: &RoomOrAliasId) -> Result<OwnedRoomId> {
        match <&RoomAliasId>::try_from(name) {
            Ok(alias) => self.resolve(alias),
            Err(room_id) => Ok(room_id.to_owned()),
        }
    }
}
