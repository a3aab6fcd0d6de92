//! States and auth chains.

use std::collections::HashSet;

use ruma::{EventId, OwnedEventId, RoomId, ServerName};
use wick_core::{Result, StateRoot, event::pdu::SharedPdu};

use super::{Access, Answers};
use crate::{StateEvents, StateIds};

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
        let ids = |events: Vec<SharedPdu>| {
            events.into_iter().map(|event| event.event_id.clone()).collect()
        };
        let (state, auth_chain) = self.events_before(server, room, event).await?;
        Ok(StateIds { state: ids(state), auth_chain: ids(auth_chain) })
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
        let (state, auth_chain) = self.events_before(server, room, event).await?;
        Ok(to_json(&state, &auth_chain))
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
    ) -> Result<Vec<Box<serde_json::value::RawValue>>> {
        let event = event.to_owned();
        self.read(server, room, move |access| {
            let (_, pdu, _) = access.event(&event)?;
            let chain = access.auth_chain(pdu.auth_events.iter().cloned())?;
            Ok(chain.into_iter().map(|event| event.json.clone()).collect())
        })
        .await
    }

    async fn events_before(
        &self,
        server: &ServerName,
        room: &RoomId,
        event: &EventId,
    ) -> Result<(Vec<SharedPdu>, Vec<SharedPdu>)> {
        let event = event.to_owned();
        self.read(server, room, move |access| {
            let (_, _, place) = access.event(&event)?;
            access.state(place.before)
        })
        .await
    }
}

fn to_json(state: &[SharedPdu], auth_chain: &[SharedPdu]) -> StateEvents {
    let json = |events: &[SharedPdu]| events.iter().map(|event| event.json.clone()).collect();
    StateEvents { state: json(state), auth_chain: json(auth_chain) }
}

impl Access {
    /// The events of a state, and what they rest on.
    pub(super) fn state(&self, root: StateRoot) -> Result<(Vec<SharedPdu>, Vec<SharedPdu>)> {
        let entries = self.graph.states().collect(&self.read, root)?;
        let state = entries.into_iter().map(|(_, event)| self.graph.load_event(&self.read, event));
        let state = state.collect::<Result<Vec<_>>>()?;
        let chain =
            self.auth_chain(state.iter().flat_map(|event| event.auth_events.iter().cloned()))?;
        Ok((state, chain))
    }

    /// These events and all that they rest on.
    pub(super) fn auth_chain(
        &self,
        from: impl Iterator<Item = OwnedEventId>,
    ) -> Result<Vec<SharedPdu>> {
        let mut open: Vec<_> = from.collect();
        let mut seen: HashSet<OwnedEventId> = HashSet::new();
        let mut chain = Vec::new();
        while let Some(id) = open.pop() {
            if !seen.insert(id.clone()) {
                continue;
            }
            let Some((_, event)) = self.graph.event_by_id(&self.read, &id)? else { continue };
            open.extend(event.auth_events.iter().cloned());
            chain.push(event);
        }
        Ok(chain)
    }
}
