//! States and auth chains.
//!
//! Invariant: an answer is a list of short ids until it is sent; what they stand for is read in portions then.

use ruma::{EventId, OwnedEventId, RoomId, ServerName};
use serde_json::value::RawValue;
use wick_core::{Error, Result, ShortEventId, StateRoot};

use super::{Access, Answers};
use crate::StateIds;

/// The state of a room before an event.
#[derive(Clone, Debug, Default)]
pub struct StateEvents {
    /// The events of the state.
    pub state: Vec<ShortEventId>,
    /// The events that they rest on.
    pub auth_chain: Vec<ShortEventId>,
}

impl Answers {
    /// `GET /_matrix/federation/v1/state_ids/{roomId}`: the state before an event.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if the event or the state before it is not here, `M_FORBIDDEN` if the server is not in the room or
    /// denied by its ACL.
    pub async fn state_ids(
        &self,
        server: &ServerName,
        room: &RoomId,
        event: &EventId,
    ) -> Result<StateIds> {
        let event = event.to_owned();
        self.read(server, room, move |access| {
            let StateEvents { state, auth_chain } = access.state_before(&event)?;
            Ok(StateIds { state: access.ids(&state)?, auth_chain: access.ids(&auth_chain)? })
        })
        .await
    }

    /// `GET /_matrix/federation/v1/state/{roomId}`: the state before an event.
    ///
    /// # Errors
    /// As [`Answers::state_ids`].
    pub async fn state(
        &self,
        server: &ServerName,
        room: &RoomId,
        event: &EventId,
    ) -> Result<StateEvents> {
        let event = event.to_owned();
        self.read(server, room, move |access| access.state_before(&event)).await
    }

    /// `GET /_matrix/federation/v1/event_auth/{roomId}/{eventId}`: the auth chain of an event.
    ///
    /// # Errors
    /// As [`Answers::state_ids`].
    pub async fn event_auth(
        &self,
        server: &ServerName,
        room: &RoomId,
        event: &EventId,
    ) -> Result<Vec<ShortEventId>> {
        let event = event.to_owned();
        self.read(server, room, move |access| {
            let (event, ..) = access.event(&event)?;
            access.graph.auth_chain(&access.read, [event])
        })
        .await
    }

    /// The events of a portion of an answer to a server.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn portion(
        &self,
        server: &ServerName,
        events: Vec<ShortEventId>,
    ) -> Result<Vec<Box<RawValue>>> {
        let Self { resources, graph } = self.clone();
        // One queue for each portion: none is refused because the server has other requests waiting.
        let (database, turn) = (resources.database, (server.to_owned(), events.first().copied()));
        let load = move || {
            let read = database.published();
            events.into_iter().map(|event| graph.stored_json(&read, event)).collect()
        };
        resources.workers.run(&turn, load).await
    }
}

impl Access {
    fn state_before(&self, event: &EventId) -> Result<StateEvents> {
        let (_, _, place) = self.event(event)?;
        let state = self.state(place.before)?;
        let auth_chain = self.graph.auth_chain(&self.read, state.iter().copied())?;
        Ok(StateEvents { state, auth_chain })
    }

    /// The events of a state.
    pub(super) fn state(&self, root: StateRoot) -> Result<Vec<ShortEventId>> {
        let entries = self.graph.states().collect(&self.read, root)?;
        Ok(entries.into_iter().map(|(_, event)| event).collect())
    }

    fn ids(&self, events: &[ShortEventId]) -> Result<Vec<OwnedEventId>> {
        let id = |event: &ShortEventId| {
            let id = self.graph.intern().event_id(&self.read, *event)?;
            id.ok_or_else(|| Error::corrupt(format!("event {event} has no id")))
        };
        events.iter().map(id).collect()
    }
}
