//! Names of rooms, and lists of rooms, of other servers.

use ruma::{
    OwnedRoomId, OwnedServerName, RoomAliasId, RoomId, ServerName, UInt,
    directory::{Filter, RoomNetwork},
    room::RoomSummary,
};
use ruma_federation_api::{
    directory::get_public_rooms_filtered::v1 as get_public_rooms,
    query::get_room_information::v1 as get_room_information,
    space::get_hierarchy::v1 as get_hierarchy,
};
use wick_account::Session;
use wick_core::{Error, Result};
use wick_rooms::rooms::Page;

use crate::{RemoteRooms, rooms::passed_on};

impl RemoteRooms {
    /// The room with an alias of another server, with servers that are in it.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if the server knows no such room; a failure of the server.
    pub async fn resolve(
        &self,
        alias: &RoomAliasId,
    ) -> Result<(OwnedRoomId, Vec<OwnedServerName>)> {
        let request = get_room_information::Request::new(alias.to_owned());
        let answer = self.federation.request(alias.server_name(), request).await;
        let get_room_information::Response { room_id, mut servers, .. } =
            answer.map_err(passed_on)?;
        if servers.is_empty() {
            servers.push(alias.server_name().to_owned());
        }
        Ok((room_id, servers))
    }

    /// A page of the directory of another server.
    ///
    /// # Errors
    /// What the server refuses; a failure of the server.
    pub async fn public_rooms(
        &self,
        server: &ServerName,
        (filter, network): (Filter, RoomNetwork),
        limit: Option<UInt>,
        since: Option<String>,
    ) -> Result<Page> {
        let mut request = get_public_rooms::Request::new();
        request.limit = limit;
        request.since = since;
        request.filter = filter;
        request.room_network = network;
        let answer = self.federation.request(server, request).await.map_err(passed_on)?;
        let total = answer.total_room_count_estimate.map(u64::from);
        let total = total.and_then(|total| usize::try_from(total).ok());
        Ok(Page {
            total: total.unwrap_or(answer.chunk.len()),
            rooms: answer.chunk,
            next: answer.next_batch,
            previous: answer.prev_batch,
        })
    }

    /// The summary of a room that is not here, of one of its servers.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if none of the servers shows it.
    pub async fn summary(
        &self,
        session: &Session,
        room_id: &RoomId,
        via: Vec<OwnedServerName>,
    ) -> Result<RoomSummary> {
        for server in self.candidates(session.user, room_id, via)? {
            let request = get_hierarchy::Request::new(room_id.to_owned());
            match self.federation.request(&server, request).await {
                Ok(answer) if answer.room.summary.room_id == room_id => {
                    return Ok(answer.room.summary);
                }
                Ok(_) => {}
                Err(error @ Error::Internal(_)) => return Err(error),
                Err(error) => tracing::debug!(%server, %error, "a server does not show a room"),
            }
        }
        Err(Error::not_found("no server that could be asked shows that room"))
    }
}
