//! What other servers ask of a room's events, answered to those that are in the room and not denied by its ACL.
//!
//! Invariants: events outside of states and auth chains pass [`ServerViewer`]; answers are limited in events, and made on
//! the worker threads, where servers take turns.

mod history;
mod join_state;
mod states;

use std::sync::Arc;

use ruma::{EventId, OwnedServerName, RoomId, ServerName, room_version_rules::RoomVersionRules};
use serde_json::value::RawValue;
use wick_core::{Error, Result, ShortEventId, ShortRoomId, event::pdu::SharedPdu};
use wick_database::{Snapshot, schema::room::Place};
use wick_room::{Graph, visibility::ServerViewer};
use wick_runtime::Resources;

pub use self::{join_state::JoinState, states::StateEvents};

/// Answers other servers.
#[derive(Clone)]
pub struct Answers {
    resources: Resources,
    graph: Arc<Graph>,
}

/// A room of which a server may read.
struct Access {
    graph: Arc<Graph>,
    read: Snapshot,
    room: ShortRoomId,
    rules: RoomVersionRules,
    server: OwnedServerName,
}

impl Answers {
    /// Answers from these rooms.
    #[must_use]
    pub fn new(resources: Resources, graph: Arc<Graph>) -> Self {
        Self { resources, graph }
    }

    /// One event; redacted if the server's users may not see it.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if it is not here, `M_FORBIDDEN` if the server is not in the room or denied by its ACL.
    pub async fn event(&self, server: &ServerName, event: &EventId) -> Result<Box<RawValue>> {
        let event = event.to_owned();
        let known = self.graph.event_by_id(&self.resources.database.published(), &event)?;
        let (_, pdu) = known.ok_or_else(unknown_event)?;
        self.read(server, &pdu.room_id, move |access| {
            let (_, pdu, place) = access.event(&event)?;
            access.viewer().show(&pdu, &place)
        })
        .await
    }

    /// Reads a room on behalf of a server.
    async fn read<T: Send + 'static>(
        &self,
        server: &ServerName,
        room_id: &RoomId,
        job: impl FnOnce(&Access) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (answers, server, room_id) = (self.clone(), server.to_owned(), room_id.to_owned());
        let user = server.clone();
        let read = move || {
            let access = answers.access(server, &room_id)?;
            if !access.is_in_room()? {
                return Err(Error::forbidden("this server is not in the room"));
            }
            job(&access)
        };
        self.resources.workers.run(&user, read).await
    }

    fn access(&self, server: OwnedServerName, room_id: &RoomId) -> Result<Access> {
        let unknown = || Error::not_found("this server does not know that room");
        let read = self.resources.database.published();
        let room = self.graph.short(&read, room_id)?.ok_or_else(unknown)?;
        let head = self.graph.head(&read, room)?.ok_or_else(unknown)?;
        if !self.graph.acl(&read, room)?.allows(&server) {
            return Err(Error::forbidden("the room's server ACL denies this server"));
        }
        let (rules, graph) = (self.graph.rules_of(&head)?, Arc::clone(&self.graph));
        Ok(Access { graph, read, room, rules, server })
    }
}

impl Access {
    fn viewer(&self) -> ServerViewer<'_, Snapshot> {
        ServerViewer::new(&self.graph, &self.read, self.rules.clone(), &self.server)
    }

    fn is_in_room(&self) -> Result<bool> {
        self.graph.has_member_of(&self.read, self.room, &self.server)
    }

    /// An event of the room with the state around it, which is not rejected.
    fn event(&self, id: &EventId) -> Result<(ShortEventId, SharedPdu, Place)> {
        self.find(id)?.ok_or_else(unknown_event)
    }

    fn find(&self, id: &EventId) -> Result<Option<(ShortEventId, SharedPdu, Place)>> {
        let Some((short, pdu)) = self.graph.event_by_id(&self.read, id)? else { return Ok(None) };
        let place = self.graph.place(&self.read, short)?;
        let place = place.filter(|place| place.room == self.room && !place.is_outlier());
        Ok(place.filter(|_| !pdu.rejected).map(|place| (short, pdu, place)))
    }
}

fn unknown_event() -> Error {
    Error::not_found("this server does not have that event")
}
