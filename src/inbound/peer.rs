//! What this server asks other servers for.

use std::future::Future;

use ruma::{
    OwnedEventId, OwnedRoomId, ServerName, canonical_json::CanonicalJsonObject,
    room_version_rules::RoomVersionRules, signatures::PublicKeyMap,
};
use serde_json::value::RawValue;
use wick_core::Result;

use crate::EventSpool;

/// Which events between two sets of events are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingEvents {
    /// The room.
    pub room_id: OwnedRoomId,
    /// Events that are here: what comes before them is not wanted.
    pub earliest: Vec<OwnedEventId>,
    /// Events whose predecessors are wanted, without these themselves.
    pub latest: Vec<OwnedEventId>,
    /// How many at most.
    pub limit: usize,
}

/// The state of a room before an event, by ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateIds {
    /// The events of the state.
    pub state: Vec<OwnedEventId>,
    /// The events that they rest on.
    pub auth_chain: Vec<OwnedEventId>,
}

/// Other servers, as far as the receiving of events needs them. Each request is limited in time and in the size of
/// its response. No answer is trusted: what it holds is verified as if it had been sent unasked.
pub trait Peer: Send + Sync + 'static {
    /// Whether a server answered when it was asked last, or was not asked yet.
    fn is_in_reach(&self, server: &ServerName) -> bool;

    /// For each of these events the keys of the servers that had to sign it, as far as they can be had and were valid
    /// when it was made.
    ///
    /// # Errors
    /// If the database fails; not because a server does not answer.
    fn keys(
        &self,
        events: Vec<CanonicalJsonObject>,
        rules: &RoomVersionRules,
    ) -> impl Future<Output = Result<Vec<PublicKeyMap>>> + Send;

    /// `GET /_matrix/federation/v1/event/{eventId}`
    ///
    /// # Errors
    /// If the server has no answer.
    fn event(
        &self,
        server: &ServerName,
        event: OwnedEventId,
    ) -> impl Future<Output = Result<Box<RawValue>>> + Send;

    /// `POST /_matrix/federation/v1/get_missing_events/{roomId}`
    ///
    /// # Errors
    /// If the server has no answer.
    fn missing_events(
        &self,
        server: &ServerName,
        wanted: MissingEvents,
    ) -> impl Future<Output = Result<Vec<Box<RawValue>>>> + Send;

    /// `GET /_matrix/federation/v1/state_ids/{roomId}`
    ///
    /// # Errors
    /// If the server has no answer.
    fn state_ids(
        &self,
        server: &ServerName,
        room: OwnedRoomId,
        event: OwnedEventId,
    ) -> impl Future<Output = Result<StateIds>> + Send;

    /// `GET /_matrix/federation/v1/state/{roomId}`, whose events go into the spool.
    ///
    /// # Errors
    /// If the server has no answer; part of one can be in the spool.
    fn state(
        &self,
        server: &ServerName,
        room: OwnedRoomId,
        event: OwnedEventId,
        events: &mut EventSpool,
    ) -> impl Future<Output = Result<()>> + Send;

    /// `GET /_matrix/federation/v1/event_auth/{roomId}/{eventId}`
    ///
    /// # Errors
    /// If the server has no answer.
    fn auth_chain(
        &self,
        server: &ServerName,
        room: OwnedRoomId,
        event: OwnedEventId,
    ) -> impl Future<Output = Result<Vec<Box<RawValue>>>> + Send;

    /// `GET /_matrix/federation/v1/backfill/{roomId}`: these events and up to `limit` before them.
    ///
    /// # Errors
    /// If the server has no answer.
    fn backfill(
        &self,
        server: &ServerName,
        room: OwnedRoomId,
        from: Vec<OwnedEventId>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Box<RawValue>>>> + Send;
}
