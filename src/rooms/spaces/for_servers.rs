//! A space as another server sees it: the room and its children, without theirs.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1hierarchyroomid>

use ruma::{
    OwnedRoomId, RoomId, ServerName,
    room::{JoinRuleSummary, RoomSummary},
};
use serde_json::value::RawValue;
use wick_core::{Error, Result, ShortRoomId};
use wick_database::{Snapshot, schema::room::Membership};

use super::{Spaces, is_open};
use crate::rooms::summary;

/// Children that are shown at most.
const MAX_CHILDREN: usize = 100;

/// Invited members that are looked at.
const MAX_INVITED: usize = 1000;

/// A room with its children.
pub struct ServerHierarchy {
    /// The room.
    pub room: RoomSummary,
    /// Its `m.space.child` events.
    pub children_state: Vec<Box<RawValue>>,
    /// Those children that the server may know of.
    pub children: Vec<RoomSummary>,
    /// Those children that are here and that it may not know of.
    pub inaccessible: Vec<OwnedRoomId>,
}

impl Spaces {
    /// A room with its children, as a server may know of them.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if the room is unknown or the server may not know of it.
    pub async fn hierarchy_for_server(
        &self,
        server: &ServerName,
        room_id: &RoomId,
        suggested_only: bool,
    ) -> Result<ServerHierarchy> {
        let (graph, resources) = (self.graph.clone(), self.resources.clone());
        let spaces = Self { resources, graph };
        let (owner, room_id) = (server.to_owned(), room_id.to_owned());
        let read = move || spaces.read_for_server(&owner, &room_id, suggested_only);
        self.resources.workers.run(&server, read).await
    }

    fn read_for_server(
        &self,
        server: &ServerName,
        room_id: &RoomId,
        suggested_only: bool,
    ) -> Result<ServerHierarchy> {
        let unknown = || Error::not_found("there is no such room that the server may see");
        let read = self.resources.database.published();
        let root = self.graph.short(&read, room_id)?.ok_or_else(unknown)?;
        let room = self.visible_to_server(&read, server, root)?.ok_or_else(unknown)?;
        let (mut children, mut inaccessible) = (Vec::new(), Vec::new());
        let of_room = self.children(&read, root, &room, suggested_only)?;
        for child in of_room.iter().take(MAX_CHILDREN) {
            let Some(short) = self.graph.short(&read, &child.room_id)? else { continue };
            if !self.graph.has_local_member(&read, short)? {
                continue;
            }
            match self.visible_to_server(&read, server, short)? {
                Some(summary) => children.push(summary),
                None => inaccessible.push(child.room_id.clone()),
            }
        }
        let children_state = of_room.into_iter().map(|child| child.stripped).collect();
        Ok(ServerHierarchy { room, children_state, children, inaccessible })
    }

    /// The summary of a room, if a user of the server may know of it.
    fn visible_to_server(
        &self,
        read: &Snapshot,
        server: &ServerName,
        room: ShortRoomId,
    ) -> Result<Option<RoomSummary>> {
        let Some(summary) = summary(&self.graph, read, room)? else { return Ok(None) };
        if is_open(&summary)
            || self.graph.has_member_of(read, room, server)?
            || self.has_invited(read, room, server)?
        {
            return Ok(Some(summary));
        }
        if let JoinRuleSummary::Restricted(rule) = &summary.join_rule {
            for allowed in &rule.allowed_room_ids {
                if let Some(allowed) = self.graph.short(read, allowed)?
                    && self.graph.has_member_of(read, allowed, server)?
                {
                    return Ok(Some(summary));
                }
            }
        }
        Ok(None)
    }

    fn has_invited(&self, read: &Snapshot, room: ShortRoomId, server: &ServerName) -> Result<bool> {
        for member in self.graph.members(read, room, Membership::Invite).take(MAX_INVITED) {
            if self.graph.user_id(read, member?.0)?.server_name() == server {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
