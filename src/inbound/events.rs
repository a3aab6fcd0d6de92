//! What this server has of a room, and how events get into it.

use std::{future::Future, sync::Arc};

use ruma::{
    EventId, OwnedEventId, OwnedRoomId, OwnedServerName, RoomId, RoomVersionId, ServerName,
    room_version_rules::RoomVersionRules,
};
use tokio::runtime::Handle;
use wick_core::{Result, StateRoot};
use wick_database::Read;
use wick_room::{Graph, Incoming, Received, Verified};

use crate::{EventSpool, Inbound, Peer, verify};

/// How many outliers are one job of the worker threads.
const OUTLIERS_AT_ONCE: usize = 200;

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

    /// Stores the events of a spool outside of the timeline, portion by portion, those whose signatures are good and whose
    /// auth chain is whole. Returns those of the state that are stored and not rejected.
    pub(crate) async fn store_spooled(
        &self,
        (room_id, version, rules): (&OwnedRoomId, &RoomVersionId, &Arc<RoomVersionRules>),
        mut spool: EventSpool,
    ) -> Result<Vec<OwnedEventId>> {
        let index = Arc::new(spool.index(rules).await?);
        let shared = Arc::clone(&index);
        let portions = self.resources.workers.run(room_id, move || Ok(shared.portions())).await?;
        let mut state = Vec::new();
        for portion in portions {
            let events = spool.events(portion).await?;
            let room = (&**room_id, &**rules);
            let events = verify::good(&self.resources, &self.peer, room, events).await?;
            for received in self.store_outliers(room_id, version, events).await? {
                match received {
                    Received::Outlier(id) | Received::Known(id) if index.is_state(&id) => {
                        state.push(id);
                    }
                    // Those that are rejected set no state.
                    _ => {}
                }
            }
        }
        Ok(state)
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

    /// Whether a user of a server is in the room.
    pub(crate) fn is_in_room(&self, server: &ServerName, room_id: &RoomId) -> Result<bool> {
        let read = self.resources.database.latest();
        let Some(room) = self.graph.short(&read, room_id)? else { return Ok(false) };
        self.graph.has_member_of(&read, room, server)
    }

    /// Some of the other servers in a room, first those that are in reach.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn servers(&self, room_id: &RoomId, limit: usize) -> Result<Vec<OwnedServerName>> {
        let read = self.resources.database.latest();
        let Some(room) = self.graph.short(&read, room_id)? else { return Ok(Vec::new()) };
        let mut servers = self.graph.servers_in(&read, room)?;
        servers.retain(|server| server != self.graph.server_name());
        let (mut in_reach, out_of_reach): (Vec<_>, Vec<_>) =
            servers.into_iter().partition(|server| self.peer.is_in_reach(server));
        in_reach.extend(out_of_reach);
        in_reach.truncate(limit);
        Ok(in_reach)
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
