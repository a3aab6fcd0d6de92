//! Use cases of rooms that may be here or at other servers: each goes to the local one where federation is off.

use std::sync::Arc;

use ruma::{
    OwnedRoomId, OwnedServerName, RoomAliasId, RoomId, RoomOrAliasId, ServerName, UInt,
    canonical_json::CanonicalJsonObject,
    directory::{Filter, RoomNetwork},
};
use wick_account::Session;
use wick_core::{Error, Result};
use wick_rooms::rooms::Page;

use crate::Services;

impl Services {
    /// The room that an id or an alias refers to, with servers that are in it: none for an id.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if it is an alias that no room has; a failure of the alias's server.
    pub async fn room_named(
        &self,
        name: &RoomOrAliasId,
    ) -> Result<(OwnedRoomId, Vec<OwnedServerName>)> {
        match <&RoomAliasId>::try_from(name) {
            Ok(alias) => self.resolve_alias(alias).await,
            Err(room_id) => Ok((room_id.to_owned(), Vec::new())),
        }
    }

    /// The room with an alias, with servers that are in it.
    ///
    /// # Errors
    /// As [`Services::room_named`].
    pub async fn resolve_alias(
        &self,
        alias: &RoomAliasId,
    ) -> Result<(OwnedRoomId, Vec<OwnedServerName>)> {
        let own = &self.config.server.name;
        match &self.federated {
            Some(federated) if alias.server_name() != own => federated.rooms.resolve(alias).await,
            _ => Ok((self.rooms.resolve(alias)?, vec![own.clone()])),
        }
    }

    /// Joins a room, over one of the servers of `via` if needed.
    ///
    /// # Errors
    /// As [`RemoteRooms::join`](wick_remote::RemoteRooms::join).
    pub async fn join(
        &self,
        session: &Arc<Session>,
        room_id: &RoomId,
        via: Vec<OwnedServerName>,
        extra: CanonicalJsonObject,
    ) -> Result<()> {
        match &self.federated {
            Some(federated) => federated.rooms.join(session, room_id, via, extra).await,
            None => self.rooms.join(session, room_id, extra).await,
        }
    }

    /// A page of the directory of another server.
    ///
    /// # Errors
    /// `M_NOT_FOUND` where federation is off; as [`RemoteRooms::public_rooms`](wick_remote::RemoteRooms::public_rooms).
    pub async fn public_rooms_of(
        &self,
        server: &ServerName,
        (filter, network): (Filter, RoomNetwork),
        limit: Option<UInt>,
        since: Option<String>,
    ) -> Result<Page> {
        let Some(federated) = &self.federated else {
            return Err(Error::not_found("this server knows no other directory"));
        };
        federated.rooms.public_rooms(server, (filter, network), limit, since).await
    }
}
