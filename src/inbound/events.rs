//! What this server has of a room, and how events get into it.

use std::{collections::BTreeSet, future::Future, sync::Arc};

use ruma::{EventId, OwnedEventId, OwnedRoomId, OwnedServerName, RoomId, RoomVersionId};
use tokio::runtime::Handle;
use wick_core::{Result, StateRoot};
use wick_database::{Read, schema::room::Membership};
use wick_room::{Graph, Incoming, Received, Verified};

use crate::{Inbound, Peer};

/// How many outliers are one job of the worker threads.
const OUTLIERS_AT_ONCE: usize = 200;

/// How many members are looked at to find servers.
const MAX_MEMBERS: usize = 1_000;

impl<P: Peer> Inbound<P> {
    /// Receives events of a room on the worker threads, where states are resolved; only if the room changes
    /// meanwhile, under its lock.
    pub(crate) async fn receive_in_room(
        &self,
        room_id: &OwnedRoomId,
        events: Vec<Incoming>,
    ) -> Result<Vec<Received>> {
        if events.is_empty() {
            return Ok(Vec::new());
        }
        let events = Arc::new(events);
        let (graph, room, shared) = (Arc::clone(&self.graph), room_id.clone(), Arc::clone(&events));
        let attempt = move || graph.try_receive(&room, &shared);
        match self.resources.workers.run(room_id, attempt).await? {
            Some((received, pending)) => {
                pending.await?;
                Ok(received)
            }
            None => self.graph.receive(room_id, &events).await,
        }
    }

    /// Stores events outside of the timeline, in portions. They are in the order of
    /// [`by_auth_events`](wick_room::by_auth_events).
    pub(crate) async fn store_outliers(
        &self,
        room_id: &OwnedRoomId,
        version: &RoomVersionId,
        events: Vec<Verified>,
    ) -> Result<Vec<Received>> {
        let mut received = Vec::with_capacity(events.len());
        let mut events = events.into_iter();
        loop {
            let portion: Vec<_> = events.by_ref().take(OUTLIERS_AT_ONCE).collect();
            if portion.is_empty() {
                return Ok(received);
            }
            let (graph, room) = (Arc::clone(&self.graph), room_id.clone());
            let version = version.clone();
            let store = || async move { graph.receive_outliers(&room, &version, &portion).await };
            received.extend(self.on_worker(room_id, store).await?);
        }
    }

    /// The state that these events make up.
    pub(crate) async fn state_of(
        &self,
        room_id: &OwnedRoomId,
        events: Vec<OwnedEventId>,
    ) -> Result<StateRoot> {
        let (graph, room) = (Arc::clone(&self.graph), room_id.clone());
        self.on_worker(room_id, || async move { graph.state_of(&room, &events).await }).await
    }

    /// Does work of a room that takes longer on the worker threads, where rooms take turns.
    pub(crate) async fn on_worker<T, F>(
        &self,
        room_id: &OwnedRoomId,
        work: impl FnOnce() -> F + Send + 'static,
    ) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>>,
    {
        let runtime = Handle::current();
        self.resources.workers.run(room_id, move || runtime.block_on(work())).await
    }

    /// Whether a user of this server is in the room.
    pub(crate) fn is_member(&self, room_id: &RoomId) -> Result<bool> {
        let read = self.resources.database.latest();
        let Some(room) = self.graph.short(&read, room_id)? else { return Ok(false) };
        self.graph.has_local_member(&read, room)
    }

    /// Some of the other servers in a room.
    pub(crate) fn servers(&self, room_id: &RoomId, limit: usize) -> Result<Vec<OwnedServerName>> {
        let read = self.resources.database.latest();
        let Some(room) = self.graph.short(&read, room_id)? else { return Ok(Vec::new()) };
        let mut servers = BTreeSet::new();
        for member in self.graph.members(&read, room, Membership::Join).take(MAX_MEMBERS) {
            let user = self.graph.user_id(&read, member?.0)?;
            if user.server_name() != self.graph.server_name() {
                servers.insert(user.server_name().to_owned());
            }
            if servers.len() >= limit {
                break;
            }
        }
        Ok(servers.into_iter().collect())
    }
}

/// Whether an event is stored, with the state around it or without.
pub(crate) fn is_stored(graph: &Graph, read: &impl Read, id: &EventId) -> Result<bool> {
    Ok(graph.event_by_id(read, id)?.is_some())
}

/// Whether an event is stored with the state around it.
pub(crate) fn has_place(graph: &Graph, read: &impl Read, id: &EventId) -> Result<bool> {
    let Some((short, _)) = graph.event_by_id(read, id)? else { return Ok(false) };
    Ok(graph.place(read, short)?.is_some_and(|place| !place.is_outlier()))
}
