//! The other servers of a room, as the receiving of events asks them.

use std::sync::Arc;

use ruma::{
    OwnedEventId, OwnedRoomId, ServerName, UInt,
    api::{OutgoingRequest, path_builder::SinglePath},
    canonical_json::CanonicalJsonObject,
    room_version_rules::RoomVersionRules,
    signatures::PublicKeyMap,
};
use ruma_federation_api::{
    authentication::ServerSignatures,
    authorization::get_event_authorization::v1 as get_event_authorization,
    backfill::get_backfill::v1 as get_backfill,
    event::{
        get_event::v1 as get_event, get_missing_events::v1 as get_missing_events,
        get_room_state::v1 as get_room_state, get_room_state_ids::v1 as get_room_state_ids,
    },
};
use serde_json::value::RawValue;
use wick_core::Result;
use wick_federation::{Bounds, EventLists, Federation, Fields, Part};
use wick_inbound::{EventSpool, MissingEvents, Peer, StateIds};

/// The fields of the response to `state`.
const STATE: Fields = Fields { lists: &["pdus", "auth_chain"], values: &[] };

/// Other servers, reached by signed requests.
#[derive(Clone)]
pub struct Peers(Arc<Federation>);

impl Peers {
    /// Asks servers through `federation`.
    #[must_use]
    pub fn new(federation: Arc<Federation>) -> Self {
        Self(federation)
    }

    /// Makes a request whose response holds events.
    async fn events<R>(&self, server: &ServerName, request: R) -> Result<R::IncomingResponse>
    where
        R: OutgoingRequest<Authentication = ServerSignatures, PathBuilder = SinglePath>,
    {
        self.0.request_events(server, request, self.0.bounds()).await
    }
}

impl Peer for Peers {
    fn is_in_reach(&self, server: &ServerName) -> bool {
        matches!(self.0.retry_at(server), Ok(None))
    }

    async fn keys(
        &self,
        events: Vec<CanonicalJsonObject>,
        rules: &RoomVersionRules,
    ) -> Result<Vec<PublicKeyMap>> {
        let events: Vec<_> = events.iter().collect();
        self.0.keys.for_events(&events, rules).await
    }

    async fn event(&self, server: &ServerName, event: OwnedEventId) -> Result<Box<RawValue>> {
        Ok(self.events(server, get_event::Request::new(event)).await?.pdu)
    }

    async fn missing_events(
        &self,
        server: &ServerName,
        wanted: MissingEvents,
    ) -> Result<Vec<Box<RawValue>>> {
        let MissingEvents { room_id, earliest, latest, limit } = wanted;
        let mut request = get_missing_events::Request::new(room_id, earliest, latest);
        request.limit = count(limit);
        Ok(self.events(server, request).await?.events)
    }

    async fn state_ids(
        &self,
        server: &ServerName,
        room: OwnedRoomId,
        event: OwnedEventId,
    ) -> Result<StateIds> {
        let request = get_room_state_ids::Request::new(event, room);
        let bounds = Bounds { time: Federation::state_bounds().time, ..self.0.bounds() };
        let response = self.0.request_within(server, request, bounds).await?;
        Ok(StateIds { state: response.pdu_ids, auth_chain: response.auth_chain_ids })
    }

    async fn state(
        &self,
        server: &ServerName,
        room: OwnedRoomId,
        event: OwnedEventId,
        events: &mut EventSpool,
    ) -> Result<()> {
        let request = get_room_state::Request::new(event, room);
        let bounds = Federation::state_bounds();
        let mut response = self.0.event_lists(server, request, STATE, bounds).await?;
        fill(events, &mut response, "pdus").await.map(drop)
    }

    async fn auth_chain(
        &self,
        server: &ServerName,
        room: OwnedRoomId,
        event: OwnedEventId,
    ) -> Result<Vec<Box<RawValue>>> {
        let request = get_event_authorization::Request::new(room, event);
        Ok(self.events(server, request).await?.auth_chain)
    }

    async fn backfill(
        &self,
        server: &ServerName,
        room: OwnedRoomId,
        from: Vec<OwnedEventId>,
        limit: usize,
    ) -> Result<Vec<Box<RawValue>>> {
        let request = get_backfill::Request::new(room, from, count(limit));
        Ok(self.events(server, request).await?.pdus)
    }
}

/// Reads the events of a response into a spool: those of the list `state` are the state, those of other lists its auth
/// chain. Returns the last of the values that are read whole and not `null`.
///
/// # Errors
/// As [`EventLists::next`]; if the spool cannot be written.
pub(crate) async fn fill(
    events: &mut EventSpool,
    response: &mut EventLists,
    state: &str,
) -> Result<Option<Box<RawValue>>> {
    let mut value = None;
    while let Some((part, json)) = response.next().await? {
        match part {
            Part::Item(list) if list == state => events.push_state(&json).await?,
            Part::Item(_) => events.push_auth(&json).await?,
            Part::Value(_) if json.get() == "null" => {}
            Part::Value(_) => value = Some(json),
        }
    }
    Ok(value)
}

fn count(number: usize) -> UInt {
    UInt::try_from(number).unwrap_or(UInt::MAX)
}
