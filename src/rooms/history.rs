//! Reading rooms: single events, pages of the timeline, the context of an event, members.
//!
//! Invariants: what is shown went through [`Viewer`], which knows what its user may see; no request
//! looks at more than `MAX_SCANNED` rows of a timeline.

pub(crate) mod context;
mod event_filter;
mod members;
mod messages;
mod page;
mod peek;
mod relations;
mod threads;
mod timestamp;
pub mod token;

use std::{collections::HashSet, sync::Arc};

use ruma::{EventId, OwnedUserId, RoomId};
use serde_json::value::RawValue;
use wick_account::{Session, account_data::ignored_users};
use wick_core::{Error, Result, ShortRoomId};
use wick_database::Snapshot;
use wick_room::{
    Graph,
    render::Show,
    shared_rooms::joined_rooms,
    visibility::{Reach, Viewer},
};
use wick_runtime::Resources;

pub use self::{
    context::{AskContext, Context},
    event_filter::EventFilter,
    members::{AskMembers, JoinedMember},
    messages::{AskMessages, Messages},
    peek::RoomPreview,
    relations::{AskRelations, Chunk, RECURSION_DEPTH},
    threads::AskThreads,
    timestamp::Nearest,
};
pub use wick_room::{Direction, render::Format};

/// Rows of a timeline that one request looks at; beyond them it answers with what it has.
pub(crate) const MAX_SCANNED: usize = 2000;

/// Events that one request shows.
pub(crate) const MAX_LIMIT: usize = 1000;

/// Reads rooms for users.
#[derive(Clone)]
pub struct History {
    pub(crate) resources: Resources,
    pub(crate) graph: Arc<Graph>,
}

/// One user's read access to a room, with the snapshot that it reads from.
pub(crate) struct Reader<'a> {
    pub(crate) graph: &'a Graph,
    pub(crate) read: &'a Snapshot,
    pub(crate) room: ShortRoomId,
    pub(crate) viewer: Viewer<'a>,
    pub(crate) reach: Reach,
    pub(crate) ignored: Arc<HashSet<OwnedUserId>>,
}

impl History {
    /// The history in `graph`.
    #[must_use]
    pub fn new(resources: Resources, graph: Arc<Graph>) -> Self {
        Self { resources, graph }
    }

    /// One event.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if it is not there or the session's user may not see it.
    pub fn event(
        &self,
        session: &Session,
        room_id: &RoomId,
        event_id: &EventId,
    ) -> Result<Box<RawValue>> {
        let read = self.resources.database.published();
        let room = self.graph.short(&read, room_id)?.ok_or_else(unseen)?;
        let event = self.graph.intern().lookup_event(&read, event_id)?.ok_or_else(unseen)?;
        let mut viewer = self.viewer(&read, room, session)?;
        viewer.show_if_visible(event, Show::CLIENT)?.ok_or_else(unseen)
    }

    /// The rooms that the session's user is in.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn joined_rooms(&self, session: &Session) -> Result<Vec<ruma::OwnedRoomId>> {
        let read = self.resources.database.published();
        joined_rooms(&read, session.user).map(|room| room_id(&self.graph, &read, room?)).collect()
    }

    fn viewer<'a>(
        &'a self,
        read: &'a Snapshot,
        room: ShortRoomId,
        session: &Session,
    ) -> Result<Viewer<'a>> {
        let device = Some(&*session.device_id);
        let viewer = Viewer::new(&self.graph, read, room, &session.user_id, device)?;
        Ok(viewer.ignoring(Arc::new(ignored_users(read, session.user, &session.user_id)?)))
    }

    /// A reader of the room for the session's user.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if the user may not read the room, or it is unknown, which looks the same.
    fn reader<'a>(
        &'a self,
        read: &'a Snapshot,
        session: &Session,
        room_id: &RoomId,
    ) -> Result<Reader<'a>> {
        let room = self.graph.short(read, room_id)?.ok_or_else(not_in_room)?;
        self.reader_of(read, session, room)?.ok_or_else(not_in_room)
    }

    /// The room, if the session's user may read it.
    pub(crate) fn reader_of<'a>(
        &'a self,
        read: &'a Snapshot,
        session: &Session,
        room: ShortRoomId,
    ) -> Result<Option<Reader<'a>>> {
        let mut viewer = self.viewer(read, room, session)?;
        let Some(reach) = viewer.reach()? else { return Ok(None) };
        let ignored = viewer.ignored();
        Ok(Some(Reader { graph: &self.graph, read, room, viewer, reach, ignored }))
    }
}

/// The id of a room that is referred to.
pub(crate) fn room_id(
    graph: &Graph,
    read: &Snapshot,
    room: ShortRoomId,
) -> Result<ruma::OwnedRoomId> {
    graph
        .intern()
        .room_id(read, room)?
        .ok_or_else(|| Error::corrupt(format!("room {room} has no room id")))
}

/// The same whether it is not there or hidden.
fn unseen() -> Error {
    Error::not_found("there is no such event that you may see")
}

/// The same whether the room is unknown or closed.
pub(crate) fn not_in_room() -> Error {
    Error::forbidden("you are not in this room")
}
