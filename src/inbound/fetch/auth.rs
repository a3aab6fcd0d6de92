//! The auth chain of an event. It is complete or the event waits: an event is stored only after its auth events.

use std::collections::HashSet;

use ruma::{OwnedEventId, OwnedServerName};
use serde::Deserialize;
use serde_json::value::RawValue;
use wick_core::Result;
use wick_room::Verified;

use super::Fetch;
use crate::{Peer, events::is_stored};

/// How many auth events are fetched one by one.
const MAX_SINGLE: usize = 50;

impl<P: Peer> Fetch<'_, P> {
    /// Fetches the auth chain of an event; whether its auth events are all here afterwards.
    pub(super) async fn auth_events(
        &mut self,
        event: &Verified,
        missing: &[OwnedEventId],
    ) -> Result<bool> {
        for server in self.servers.clone() {
            let (room, id) = (self.room_id.clone(), event.event_id().to_owned());
            let peer = &self.inbound.peer;
            if let Some(chain) = self.ask(peer.auth_chain(&server, room, id)).await {
                self.store_outliers(chain).await?;
            }
            if self.are_stored(missing)? {
                return Ok(true);
            }
            self.events_one_by_one(&server, missing).await?;
            if self.are_stored(missing)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether the auth events of an event are all here, if need be after they were fetched.
    pub(crate) async fn has_auth_events(&mut self, event: &Verified) -> Result<bool> {
        let auth_events = &event.pdu().auth_events;
        Ok(self.are_stored(auth_events)? || self.auth_events(event, auth_events).await?)
    }

    /// Fetches events and what they rest on.
    pub(super) async fn events_one_by_one(
        &mut self,
        server: &OwnedServerName,
        ids: &[OwnedEventId],
    ) -> Result<()> {
        let mut fetched = Vec::new();
        let mut asked = HashSet::new();
        let mut open = ids.to_vec();
        while let Some(id) = open.pop() {
            if asked.len() >= MAX_SINGLE.max(ids.len()) {
                break;
            }
            if !asked.insert(id.clone()) || self.is_here(&id)? {
                continue;
            }
            let peer = &self.inbound.peer;
            if let Some(event) = self.ask(peer.event(server, id)).await {
                open.extend(auth_events_of(&event));
                fetched.push(event);
            }
        }
        self.store_outliers(fetched).await
    }

    fn are_stored(&self, ids: &[OwnedEventId]) -> Result<bool> {
        for id in ids {
            if !self.is_here(id)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    pub(super) fn is_here(&self, id: &OwnedEventId) -> Result<bool> {
        is_stored(&self.inbound.graph, &self.inbound.resources.database.latest(), id)
    }
}

/// The auth events of an event that is not verified yet: to ask for them is all that is done with them.
fn auth_events_of(event: &RawValue) -> Vec<OwnedEventId> {
    #[derive(Deserialize)]
    struct Edges {
        auth_events: Vec<OwnedEventId>,
    }
    serde_json::from_str::<Edges>(event.get())
        .map_or_else(|_| Vec::new(), |edges| edges.auth_events)
}
