//! What the modules use of tuwunel: its types, its services, and its trait of a service.
//!
//! Invariant: each server that can be patched has a module with the same items; the others name none of
//! its services.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use conduwuit::{Result, Server};
use ruma::{EventId, OwnedEventId, RoomId, UserId};
use serde_json::value::RawValue;

pub(super) use conduwuit::matrix::pdu::{Content, PduBuilder as Builder, PduEvent};

use super::{Service, config::Expiring};
use crate::OnceServices;
pub(super) use crate::rooms::state::RoomMutexGuard;

/// A lock that a panic leaves usable: all that is done under it is whole at each step.
#[derive(Default)]
pub struct SyncMutex<T>(Mutex<T>);

impl<T> SyncMutex<T> {
    /// A lock around a value.
    pub fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    /// Waits for the lock, which no task keeps for long.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Nothing: the server itself lets no sync pass a place whose event is not stored yet.
pub struct Storing;

/// The JSON of a content.
pub(super) fn json(content: &Content) -> &RawValue {
    content.json()
}

/// A content from its JSON.
pub(super) fn content(json: Box<RawValue>) -> Content {
    json.into()
}

/// Whether two events are in the same room.
pub(super) fn same_room(one: &PduEvent, other: &PduEvent) -> bool {
    one.room_id == other.room_id
}

/// The server's services.
pub(super) struct Host {
    pub(super) server: Arc<Server>,
    services: Arc<OnceServices>,
}

#[async_trait]
impl crate::Service for Service {
    fn build(args: &crate::Args<'_>) -> Result<Arc<Self>> {
        let host = Host { server: args.server.clone(), services: args.services.clone() };
        Self::new(args.db, host).map(Arc::new)
    }

    async fn worker(self: Arc<Self>) -> Result {
        self.run().await
    }

    async fn interrupt(&self) {
        self.wake();
    }

    fn name(&self) -> &str {
        "expiring"
    }
}

impl Host {
    /// The section `[global.expiring]`.
    pub(super) fn config(&self) -> &Expiring {
        &self.services.config.expiring
    }

    /// Whether the server runs, and is not about to stop.
    pub(super) fn is_running(&self) -> bool {
        self.server.is_running()
    }

    /// Whether a room is the one in which messages are commands.
    pub(super) async fn is_admin_room(&self, room: &RoomId) -> bool {
        self.services.admin.is_admin_room(room).await
    }

    /// Waits for the state lock of a room.
    pub(super) async fn lock(&self, room: &RoomId) -> RoomMutexGuard {
        self.services.state.mutex.lock(room).await
    }

    /// Marks that an event is about to be stored.
    pub(super) async fn storing(&self) -> Storing {
        Storing
    }

    /// The event in the timeline.
    ///
    /// # Errors
    /// Not found, and those of the database.
    pub(super) async fn event(&self, event: &EventId) -> Result<PduEvent> {
        self.services.timeline.get_non_outlier_pdu(event).await
    }

    /// Whether an event is in the timeline.
    pub(super) async fn has_event(&self, event: &EventId) -> bool {
        self.services.timeline.non_outlier_pdu_exists(event).await.is_ok()
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
        self.services.state_accessor.room_state_get_id(room, &kind.into(), key).await
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
        self.services.timeline.build_and_append_pdu(pdu, sender, room, lock).await
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
        let state = self.services.state.append_to_state(pdu).await?;
        self.services.state.set_room_state(room, state, lock);
        Ok(())
    }

    /// Sends an event in the timeline to the other servers of its room.
    ///
    /// # Errors
    /// If the database fails.
    pub(super) async fn distribute(&self, event: &EventId, room: &RoomId) -> Result {
        let pdu_id = self.services.timeline.get_pdu_id(event).await?;
        self.services.sending.send_pdu_room(room, &pdu_id).await
    }
}
