//! A server that has a room in memory: it lets users of others join, takes their events, and answers what is asked of it.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
};

use axum::{
    Json, Router,
    extract::{Path, RawQuery},
    http::StatusCode,
    routing::{get, post, put},
};
use http::Method;
use ruma::{
    CanonicalJsonObject, EventId, OwnedEventId, RoomVersionId, ServerName,
    room_version_rules::RoomVersionRules,
};
use serde_json::{Value, json, value::RawValue};
use tokio::sync::watch;
use wick_core::{Pdu, event::pdu::SharedPdu, rules};
use wick_harness::{
    TestNetwork, TestServer,
    room_builder::{RoomBuilder, key_of, tuple},
};

use crate::federation::peer::{Peer, answer};

type Answer = Result<Json<Value>, StatusCode>;

/// The room, and how many events it has.
#[derive(Clone)]
pub(super) struct Shared {
    room: Arc<Mutex<RoomBuilder>>,
    count: watch::Sender<usize>,
}

/// The server.
pub(super) struct Resident {
    pub(super) shared: Shared,
    peer: Peer,
    transactions: usize,
}

impl Shared {
    pub(super) fn room(&self) -> MutexGuard<'_, RoomBuilder> {
        self.room.lock().unwrap()
    }

    /// Takes in an event of another server, if it is new.
    fn adopt(&self, json: Value) -> OwnedEventId {
        let mut room = self.room();
        let rules = rules::version_rules(&room.version()).unwrap();
        let object: CanonicalJsonObject = serde_json::from_value(json).unwrap();
        let id = rules::event_id(&object, &rules).unwrap();
        if !room.order().contains(&id) {
            let json = rules::to_json(&object).unwrap();
            let pdu = Pdu::parse(id.clone(), room.room_id(), json, &rules.redaction).unwrap();
            room.adopt(&SharedPdu::new(pdu));
            self.count.send_replace(room.order().len());
        }
        id
    }

    fn known(&self, id: &str) -> Result<OwnedEventId, StatusCode> {
        let id = EventId::parse(id).map_err(|_| StatusCode::BAD_REQUEST)?;
        if self.room().order().contains(&id) { Ok(id) } else { Err(StatusCode::NOT_FOUND) }
    }

    fn make_join(&self, user: &str) -> Value {
        let room = self.room();
        let tips = room.tips();
        let before = room.resolved(&tips);
        let wanted = [
            tuple("m.room.create", ""),
            tuple("m.room.power_levels", ""),
            tuple("m.room.join_rules", ""),
            tuple("m.room.member", user),
        ];
        // Since version 12 the create event is not named.
        let skipped = usize::from(rules::room_id_is_create_hash(&rules_of(&room)));
        let auth: Vec<_> = wanted[skipped..].iter().filter_map(|key| before.get(key)).collect();
        json!({ "room_version": room.version(), "event": {
            "type": "m.room.member", "sender": user, "state_key": user, "room_id": room.room_id(),
            "content": { "membership": "join" }, "depth": room.event(&tips[0]).pdu.depth + 1,
            "prev_events": tips, "auth_events": auth, "origin_server_ts": 1_700_000_000_000_u64,
        } })
    }

    fn state(&self, id: &EventId) -> (Vec<OwnedEventId>, Vec<OwnedEventId>) {
        let room = self.room();
        let state: Vec<_> = room.before(id).values().cloned().collect();
        let auth_chain = room.auth_chain(&state);
        (state, auth_chain)
    }

    /// Events before some, breadth first, without those that are known.
    fn before(&self, known: &[OwnedEventId], from: &[OwnedEventId], limit: usize) -> Vec<Value> {
        let room = self.room();
        let mut seen: HashSet<_> = known.iter().chain(from).cloned().collect();
        let mut open: VecDeque<_> = from.iter().cloned().collect();
        let mut found = Vec::new();
        while let Some(id) = open.pop_front() {
            if !room.order().contains(&id) {
                continue;
            }
            for prev in &room.event(&id).pdu.prev_events {
                if found.len() < limit && seen.insert(prev.clone()) {
                    found.push(json!(room.event(prev).json()));
                    open.push_back(prev.clone());
                }
            }
        }
        found
    }

    /// The events with these ids.
    pub(super) fn json(&self, ids: &[OwnedEventId]) -> Vec<Box<RawValue>> {
        let room = self.room();
        ids.iter().map(|id| room.event(id).json().to_owned()).collect()
    }

    fn routes(&self) -> Router {
        let v1 = |path: &str| format!("/_matrix/federation/v1/{path}");
        let with = |shared: &Self| shared.clone();
        let (join, joined, sent) = (with(self), with(self), with(self));
        let (missing, ids, state) = (with(self), with(self), with(self));
        let (event, auth) = (with(self), with(self));
        let make_join = async move |Path((_, user)): Path<(String, String)>| -> Answer {
            Ok(Json(join.make_join(&user)))
        };
        let send_join = async move |Json(event): Json<Value>| -> Answer {
            let id = joined.adopt(event);
            let (state, auth_chain) = joined.state(&id);
            Ok(Json(json!({
                "event": joined.json(&[id])[0], "state": joined.json(&state),
                "auth_chain": joined.json(&auth_chain),
            })))
        };
        let send = async move |Json(body): Json<Value>| -> Answer {
            for event in body["pdus"].as_array().unwrap() {
                sent.adopt(event.clone());
            }
            Ok(Json(json!({ "pdus": {} })))
        };
        let get_missing = async move |Json(body): Json<Value>| -> Answer {
            let ids = |name: &str| serde_json::from_value(body[name].clone()).unwrap_or_default();
            let (earliest, latest): (Vec<_>, Vec<_>) =
                (ids("earliest_events"), ids("latest_events"));
            let limit = body["limit"].as_u64().unwrap_or(10).try_into().unwrap();
            let mut events = missing.before(&earliest, &latest, limit);
            events.reverse();
            Ok(Json(json!({ "events": events })))
        };
        let state_ids = async move |RawQuery(query): RawQuery| -> Answer {
            let id = ids.known(&event_in(query))?;
            let (state, auth_chain) = ids.state(&id);
            Ok(Json(json!({ "pdu_ids": state, "auth_chain_ids": auth_chain })))
        };
        let whole_state = async move |RawQuery(query): RawQuery| -> Answer {
            let id = state.known(&event_in(query))?;
            let (pdus, chain) = state.state(&id);
            let (pdus, chain) = (state.json(&pdus), state.json(&chain));
            Ok(Json(json!({ "pdus": pdus, "auth_chain": chain })))
        };
        let one = async move |Path(id): Path<String>| -> Answer {
            let pdus = event.json(&[event.known(&id)?]);
            Ok(Json(json!({ "origin": "x.test", "origin_server_ts": 1, "pdus": pdus })))
        };
        let event_auth = async move |Path((_, id)): Path<(String, String)>| -> Answer {
            let id = auth.known(&id)?;
            let chain = {
                let room = auth.room();
                room.auth_chain(&room.event(&id).pdu.auth_events)
            };
            Ok(Json(json!({ "auth_chain": auth.json(&chain) })))
        };
        Router::new()
            .route(&v1("make_join/{room}/{user}"), get(make_join))
            .route("/_matrix/federation/v2/send_join/{room}/{event}", put(send_join))
            .route(&v1("send/{transaction}"), put(send))
            .route(&v1("get_missing_events/{room}"), post(get_missing))
            .route(&v1("state_ids/{room}"), get(state_ids))
            .route(&v1("state/{room}"), get(whole_state))
            .route(&v1("event/{event}"), get(one))
            .route(&v1("event_auth/{room}/{event}"), get(event_auth))
    }
}

fn rules_of(room: &RoomBuilder) -> RoomVersionRules {
    rules::version_rules(&room.version()).unwrap()
}

/// The event of a query.
fn event_in(query: Option<String>) -> String {
    let query = query.unwrap_or_default();
    let id = query.split('&').find_map(|pair| pair.strip_prefix("event_id=")).unwrap_or_default();
    id.replace("%24", "$").replace("%2D", "-").replace("%5F", "_")
}

impl Resident {
    /// A server with a new public room, whose creator is alice and whose moderator is bob.
    pub(super) async fn start(network: &TestNetwork, name: &str, version: RoomVersionId) -> Self {
        let (alice, bob) = (format!("@alice:{name}"), format!("@bob:{name}"));
        let room = RoomBuilder::public(version, &alice, &[&bob]);
        let count = watch::Sender::new(room.order().len());
        let shared = Shared { room: Arc::new(Mutex::new(room)), count };
        let key = key_of(&ServerName::parse(name).unwrap());
        let peer = Peer::join_as(network, name, key, shared.routes()).await;
        Self { shared, peer, transactions: 0 }
    }

    /// Waits until the room has so many events.
    pub(super) async fn until(&self, count: usize) {
        self.shared.count.subscribe().wait_for(|known| *known >= count).await.unwrap();
    }

    /// Sends events to a server, and waits until they are worked off.
    pub(super) async fn send(&mut self, to: (&TestServer, &str), events: &[Box<RawValue>]) {
        self.transactions += 1;
        let path = format!("/_matrix/federation/v1/send/{}", self.transactions);
        let body = json!({ "origin": self.peer.name, "origin_server_ts": 1, "pdus": events });
        let (server, name) = to;
        let (status, body) =
            answer(server, self.peer.signed((Method::PUT, &path), name, &body)).await;
        assert_eq!(status, 200, "{body}");
        server.services().federated().unwrap().inbound.idle().await;
    }
}
