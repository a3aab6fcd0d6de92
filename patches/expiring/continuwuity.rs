//! What the modules use of continuwuity: its types, its services, and its trait of a service.
//!
//! Invariant: each server that can be patched has a module with the same items; the others name none of
//! its services.

use std::{collections::HashSet, sync::Arc};

use async_trait::async_trait;
use conduwuit::{Result, Server, matrix::event::Event, utils::IterStream};
use futures::StreamExt;
use ruma::{EventId, OwnedEventId, OwnedServerName, RoomId, UserId};
use serde_json::value::RawValue;
use tokio::sync::{OwnedRwLockReadGuard, RwLock, RwLockWriteGuard};

pub(super) use conduwuit::SyncMutex;
pub(super) use conduwuit::matrix::pdu::{PartialPdu as Builder, PduEvent};

use super::{Service, config::Expiring};
pub(super) use crate::rooms::state::RoomMutexGuard;
use crate::{Dep, admin, config, rooms, sending};

/// The content of an event.
pub(super) type Content = Box<RawValue>;

/// Held from before an event is given its place in the timeline until it is stored there.
pub type Storing = OwnedRwLockReadGuard<()>;

/// The JSON of a content.
pub(super) fn json(content: &Content) -> &RawValue {
    content
}

/// A content from its JSON.
pub(super) fn content(json: Box<RawValue>) -> Content {
    json
}

/// Whether two events are in the same room.
pub(super) fn same_room(one: &PduEvent, other: &PduEvent) -> bool {
    one.room_id_or_hash() == other.room_id_or_hash()
}

/// The server's services.
pub(super) struct Host {
    pub(super) server: Arc<Server>,
    admin: Dep<admin::Service>,
    config: Dep<config::Service>,
    sending: Dep<sending::Service>,
    state: Dep<rooms::state::Service>,
    state_accessor: Dep<rooms::state_accessor::Service>,
    state_cache: Dep<rooms::state_cache::Service>,
    timeline: Dep<rooms::timeline::Service>,
    /// The server gives an event its place before it stores it, each in a write of its own.
    places: Arc<RwLock<()>>,
}

impl Service {
    /// Waits until each event that has a place is stored. While what is returned lives, none gets one: a
    /// sync that reads how far the timeline goes skips no event.
    pub async fn all_stored(&self) -> RwLockWriteGuard<'_, ()> {
        self.host.places.write().await
    }
}

#[async_trait]
impl crate::Service for Service {
    fn build(args: crate::Args<'_>) -> Result<Arc<Self>> {
        let host = Host {
            server: args.server.clone(),
            admin: args.depend::<admin::Service>("admin"),
            config: args.depend::<config::Service>("config"),
            sending: args.depend::<sending::Service>("sending"),
            state: args.depend::<rooms::state::Service>("rooms::state"),
            state_accessor: args.depend::<rooms::state_accessor::Service>("rooms::state_accessor"),
            state_cache: args.depend::<rooms::state_cache::Service>("rooms::state_cache"),
            timeline: args.depend::<rooms::timeline::Service>("rooms::timeline"),
            places: Arc::default(),
        };
        Self::new(args.db, host).map(Arc::new)
    }

    async fn worker(self: Arc<Self>) -> Result {
        self.run().await
    }

    fn interrupt(&self) {
        self.wake();
    }

    fn name(&self) -> &str {
        "expiring"
    }
}

impl Host {
    /// The section `[global.expiring]`.
    pub(super) fn config(&self) -> &Expiring {
        &self.config.expiring
    }

    /// Whether the server runs, and is not about to stop.
    pub(super) fn is_running(&self) -> bool {
        self.server.running()
    }

    /// Whether a room is the one in which messages are commands.
    pub(super) async fn is_admin_room(&self, room: &RoomId) -> bool {
        self.admin.is_admin_room(room).await
    }

    /// Waits for the state lock of a room.
    pub(super) async fn lock(&self, room: &RoomId) -> RoomMutexGuard {
        self.state.mutex.lock(room.as_str()).await
    }

    /// Waits while a sync reads how far the timeline goes.
    pub(super) async fn storing(&self) -> Storing {
        Arc::clone(&self.places).read_owned().await
    }

    /// The event in the timeline.
    ///
    /// # Errors
    /// Not found, and those of the database.
    pub(super) async fn event(&self, event: &EventId) -> Result<PduEvent> {
        self.timeline.get_non_outlier_pdu(event).await
    }

    /// Whether an event is in the timeline.
    pub(super) async fn has_event(&self, event: &EventId) -> bool {
        self.timeline.non_outlier_pdu_exists(event).await
    }

    /// The event that is the room's current state under a type and a state key.
    ///
    /// # Errors
    /// Not found, and those of the database.
    pub(super) async fn state_event(
        &self,
        room: &RoomId,
        kind: &str,
        key: &str,
    ) -> Result<OwnedEventId> {
        self.state_accessor.room_state_get_id(room, &kind.into(), key).await
    }

    /// Builds and sends an event.
    ///
    /// # Errors
    /// If the room's rules are against it, or it could not be written.
    pub(super) async fn append(
        &self,
        pdu: Builder,
        sender: &UserId,
        room: &RoomId,
        lock: &RoomMutexGuard,
    ) -> Result<OwnedEventId> {
        self.timeline.build_and_append_pdu(pdu, sender, Some(room), lock).await
    }

    /// Makes an event in the timeline the room's state.
    ///
    /// # Errors
    /// If the database fails.
    pub(super) async fn set_state(
        &self,
        pdu: &PduEvent,
        room: &RoomId,
        lock: &RoomMutexGuard,
    ) -> Result {
        let state = self.state.append_to_state(pdu, room).await?;
        self.state.set_room_state(room, state, lock);
        Ok(())
    }

    /// Sends an event in the timeline to the other servers of its room.
    ///
    /// # Errors
    /// If the database fails.
    pub(super) async fn distribute(&self, event: &EventId, room: &RoomId) -> Result {
        let servers: HashSet<OwnedServerName> = self.state_cache.room_servers(room).collect().await;
        let others = servers.into_iter().filter(|server| !self.server.is_ours(server.as_str()));
        let pdu_id = self.timeline.get_pdu_id(event).await?;
        self.sending.send_pdu_servers(others.stream(), &pdu_id).await
    }
}
