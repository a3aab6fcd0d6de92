//! Rooms of several servers as signed events in memory: forks, merges, events that have to be refused.
//!
//! Invariant: states are resolved here by resolving them whole, without what the server does to be quick,
//! so that the server's answers are compared with something else than themselves.

use std::collections::{BTreeMap, HashMap, HashSet};

use ruma::{
    EventId, OwnedEventId, OwnedRoomId, OwnedServerName, OwnedUserId, RoomVersionId, ServerName,
    UserId,
    canonical_json::{CanonicalJsonObject, CanonicalJsonValue},
    events::{StateEventType, TimelineEventType},
    room_version_rules::RoomVersionRules,
    serde::Base64,
    signatures::{Ed25519KeyPair, PublicKeyMap},
    state_res::{self, StateMap, utils::event_id_set::EventIdSet},
};
use serde_json::{Value, json, value::RawValue};
use wick_core::{Pdu, event::pdu::SharedPdu, rules};

/// A state by event ids.
pub type State = StateMap<OwnedEventId>;

/// A new event.
#[derive(Clone, Debug)]
pub struct NewEvent<'a> {
    /// The user who sends it.
    pub sender: &'a str,
    /// The event's type.
    pub event_type: &'a str,
    /// Its state key, if it is a state event.
    pub state_key: Option<&'a str>,
    /// Its content.
    pub content: Value,
    /// Its auth events, if not those that the room version wants.
    pub auth_events: Option<Vec<OwnedEventId>>,
}

/// An event of the room with the states around it.
#[derive(Clone, Debug)]
pub struct Built {
    /// The event.
    pub pdu: SharedPdu,
    /// Whether the auth rules allow it in the state before it.
    pub allowed: bool,
    before: State,
    after: State,
}

impl Built {
    /// The signed event.
    #[must_use]
    pub fn json(&self) -> &RawValue {
        &self.pdu.json
    }
}

/// A room in memory.
pub struct RoomBuilder {
    version: RoomVersionId,
    rules: RoomVersionRules,
    room_id: OwnedRoomId,
    keys: BTreeMap<OwnedServerName, Ed25519KeyPair>,
    events: HashMap<OwnedEventId, Built>,
    order: Vec<OwnedEventId>,
    now: u64,
    redacts: Option<OwnedEventId>,
}

impl RoomBuilder {
    /// A room that has its create event and nothing else.
    #[must_use]
    pub fn new(version: RoomVersionId, creator: &str) -> Self {
        let rules = version.rules().expect("ruma knows the version");
        let creator: OwnedUserId = creator.try_into().expect("the creator is a user id");
        let room_id = format!("!room:{}", creator.server_name());
        let mut room = Self {
            version,
            rules,
            room_id: room_id.try_into().expect("it is a room id"),
            keys: BTreeMap::new(),
            events: HashMap::new(),
            order: Vec::new(),
            now: 1_700_000_000_000,
            redacts: None,
        };
        let mut content = json!({ "room_version": room.version });
        if !room.rules.authorization.use_room_create_sender {
            set(&mut content, "creator", json!(creator));
        }
        let create = NewEvent {
            sender: creator.as_str(),
            event_type: "m.room.create",
            state_key: Some(""),
            content,
            auth_events: None,
        };
        room.add(&[], create);
        room
    }

    /// A public room, whose creator may do everything and `moderators` most things.
    #[must_use]
    pub fn public(version: RoomVersionId, creator: &str, moderators: &[&str]) -> Self {
        let mut room = Self::new(version, creator);
        room.member(&room.tips(), creator, creator, "join");
        let mut users: serde_json::Map<_, _> =
            moderators.iter().map(|user| ((*user).to_owned(), json!(50))).collect();
        if !rules::room_id_is_create_hash(&room.rules) {
            users.insert(creator.to_owned(), json!(100));
        }
        room.state(&room.tips(), creator, "m.room.power_levels", json!({ "users": users }));
        room.state(&room.tips(), creator, "m.room.join_rules", json!({ "join_rule": "public" }));
        for user in moderators {
            room.member(&room.tips(), user, user, "join");
        }
        room
    }

    /// The room's id.
    #[must_use]
    pub fn room_id(&self) -> OwnedRoomId {
        self.room_id.clone()
    }

    /// The room's version.
    #[must_use]
    pub fn version(&self) -> RoomVersionId {
        self.version.clone()
    }

    /// The ids of all events, in the order in which they were added.
    #[must_use]
    pub fn order(&self) -> &[OwnedEventId] {
        &self.order
    }

    /// The last event, to build the next one on.
    #[must_use]
    pub fn tips(&self) -> Vec<OwnedEventId> {
        self.order.last().cloned().into_iter().collect()
    }

    /// An event.
    #[must_use]
    pub fn event(&self, id: &EventId) -> &Built {
        self.events.get(id).expect("the event was added to this room")
    }

    /// The public keys of all servers with events in the room.
    #[must_use]
    pub fn keys(&self) -> PublicKeyMap {
        self.keys
            .iter()
            .map(|(server, key)| {
                let public = Base64::new(key.public_key().to_vec());
                let id = format!("ed25519:{}", key.version());
                (server.to_string(), BTreeMap::from([(id, public)]))
            })
            .collect()
    }

    /// Sends a message on top of these events.
    pub fn message(&mut self, on: &[OwnedEventId], sender: &str, body: &str) -> OwnedEventId {
        let content = json!({ "msgtype": "m.text", "body": body });
        let event_type = "m.room.message";
        self.add(on, NewEvent { sender, event_type, state_key: None, content, auth_events: None })
    }

    /// Sets state with an empty state key on top of these events.
    pub fn state(
        &mut self,
        on: &[OwnedEventId],
        sender: &str,
        event_type: &str,
        content: Value,
    ) -> OwnedEventId {
        let state_key = Some("");
        self.add(on, NewEvent { sender, event_type, state_key, content, auth_events: None })
    }

    /// Sets a membership on top of these events.
    pub fn member(
        &mut self,
        on: &[OwnedEventId],
        sender: &str,
        user: &str,
        membership: &str,
    ) -> OwnedEventId {
        let content = json!({ "membership": membership });
        let (event_type, state_key) = ("m.room.member", Some(user));
        self.add(on, NewEvent { sender, event_type, state_key, content, auth_events: None })
    }

    /// Adds an event on top of these, whether or not it is allowed.
    pub fn add(&mut self, on: &[OwnedEventId], new_event: NewEvent<'_>) -> OwnedEventId {
        let before = self.resolved(on);
        let sender: OwnedUserId = new_event.sender.try_into().expect("the sender is a user id");
        let auth = new_event.auth_events.clone();
        let auth = auth.unwrap_or_else(|| self.auth_events(&before, &sender, &new_event));
        let mut object = self.object(on, &auth, &new_event);
        let key = self
            .keys
            .entry(sender.server_name().to_owned())
            .or_insert_with(|| key_of(sender.server_name()));
        let event_id = rules::hash_and_sign(&mut object, &self.rules, sender.server_name(), key)
            .expect("the event can be signed");
        if self.order.is_empty() && rules::room_id_is_create_hash(&self.rules) {
            self.room_id = rules::room_id_of_create(&event_id).expect("a hash makes a room id");
        }
        let json = rules::to_json(&object).expect("the event is small");
        let redaction = &self.rules.redaction;
        let pdu = Pdu::parse(event_id.clone(), self.room_id.clone(), json, redaction)
            .expect("the event has what every event has");
        self.insert(SharedPdu::new(pdu), before);
        event_id
    }

    /// Asks for another event to be redacted.
    pub fn redaction(
        &mut self,
        on: &[OwnedEventId],
        sender: &str,
        target: &EventId,
    ) -> OwnedEventId {
        let in_content = self.rules.redaction.content_field_redacts;
        self.redaction_in_field(on, sender, target, in_content)
    }

    /// As [`RoomBuilder::redaction`], with the target in the content or in a field of the event, whatever the room's
    /// version wants.
    pub fn redaction_in_field(
        &mut self,
        on: &[OwnedEventId],
        sender: &str,
        target: &EventId,
        in_content: bool,
    ) -> OwnedEventId {
        self.redacts = Some(target.to_owned()).filter(|_| !in_content);
        let content = if in_content { json!({ "redacts": target }) } else { json!({}) };
        let event_type = "m.room.redaction";
        let new_event =
            NewEvent { sender, event_type, state_key: None, content, auth_events: None };
        let id = self.add(on, new_event);
        self.redacts = None;
        id
    }

    /// Adds an event that was built elsewhere on events of this room.
    pub fn adopt(&mut self, pdu: &SharedPdu) {
        let before = self.resolved(&pdu.prev_events);
        self.insert(SharedPdu::clone(pdu), before);
    }

    /// What time it is, in milliseconds since the UNIX epoch. Every event is a second after the one before.
    pub fn set_time(&mut self, now: u64) {
        self.now = now;
    }

    fn insert(&mut self, pdu: SharedPdu, before: State) {
        let allowed = rules::check_state_dependent(&self.rules, &pdu, |event_type, state_key| {
            let id = before.get(&(event_type.clone(), state_key.to_owned()))?;
            Some(SharedPdu::clone(&self.event(id).pdu))
        })
        .is_ok();
        let mut after = before.clone();
        if let Some(tuple) = pdu.state_tuple().filter(|_| allowed) {
            after.insert(tuple, pdu.event_id.clone());
        }
        self.order.push(pdu.event_id.clone());
        let built = Built { pdu, allowed, before, after };
        self.events.insert(built.pdu.event_id.clone(), built);
    }

    fn auth_events(
        &self,
        before: &State,
        sender: &UserId,
        new_event: &NewEvent<'_>,
    ) -> Vec<OwnedEventId> {
        let content =
            serde_json::value::to_raw_value(&new_event.content).expect("the content is JSON");
        let event_type = TimelineEventType::from(new_event.event_type);
        rules::auth_types(&event_type, sender, new_event.state_key, &content, &self.rules)
            .expect("the content is what its type demands")
            .iter()
            .filter_map(|tuple| before.get(tuple).cloned())
            .collect()
    }

    fn object(
        &mut self,
        on: &[OwnedEventId],
        auth: &[OwnedEventId],
        new_event: &NewEvent<'_>,
    ) -> CanonicalJsonObject {
        self.now += 1000;
        let depth = on.iter().map(|id| self.event(id).pdu.depth).max().unwrap_or(0) + 1;
        let mut event = json!({
            "type": new_event.event_type,
            "sender": new_event.sender,
            "content": new_event.content,
            "origin_server_ts": self.now,
            "depth": depth,
            "prev_events": on,
            "auth_events": auth,
        });
        if let Some(target) = &self.redacts {
            set(&mut event, "redacts", json!(target));
        }
        if let Some(state_key) = new_event.state_key {
            set(&mut event, "state_key", json!(state_key));
        }
        if !(self.order.is_empty() && rules::room_id_is_create_hash(&self.rules)) {
            set(&mut event, "room_id", json!(self.room_id));
        }
        match CanonicalJsonValue::try_from(event) {
            Ok(CanonicalJsonValue::Object(object)) => object,
            other => unreachable!("an event is a canonical object: {other:?}"),
        }
    }

    /// The state before an event.
    #[must_use]
    pub fn before(&self, id: &EventId) -> &State {
        &self.event(id).before
    }

    /// The state after these events: those after each of them, resolved.
    #[must_use]
    pub fn resolved(&self, after: &[OwnedEventId]) -> State {
        let states: Vec<&State> = after.iter().map(|id| &self.event(id).after).collect();
        let [first, rest @ ..] = states.as_slice() else { return State::new() };
        if rest.iter().all(|state| state == first) {
            return (*first).clone();
        }
        let chains = states.iter().map(|state| self.chain(state.values())).collect();
        let v2 = self.rules.state_res.v2_rules().expect("versions since 2 resolve by version 2");
        state_res::resolve(
            &self.rules.authorization,
            v2,
            states.iter().copied(),
            chains,
            |id| Some(SharedPdu::clone(&self.events.get(id)?.pdu)),
            |conflicted| Some(self.subgraph(conflicted)),
        )
        .expect("the room's events are sound")
    }

    /// These events and all that they rest on, in no order.
    #[must_use]
    pub fn auth_chain(&self, from: &[OwnedEventId]) -> Vec<OwnedEventId> {
        self.chain(from.iter()).iter().cloned().collect()
    }

    /// These events and all that they rest on.
    fn chain<'a>(&self, from: impl Iterator<Item = &'a OwnedEventId>) -> EventIdSet<OwnedEventId> {
        let mut chain = EventIdSet::new();
        let mut open: Vec<_> = from.cloned().collect();
        while let Some(id) = open.pop() {
            if !chain.contains(&id) {
                open.extend(self.event(&id).pdu.auth_events.iter().cloned());
                chain.insert(id);
            }
        }
        chain
    }

    /// What lies between two conflicted events.
    fn subgraph(&self, conflicted: &StateMap<Vec<OwnedEventId>>) -> EventIdSet<OwnedEventId> {
        let conflicted: HashSet<_> = conflicted.values().flatten().cloned().collect();
        let leads = |id: &OwnedEventId| {
            let chain = self.chain(std::iter::once(id));
            conflicted.iter().any(|conflicted| chain.contains(conflicted))
        };
        let below = self.chain(conflicted.iter());
        below.iter().filter(|id| leads(id)).cloned().collect()
    }
}

/// A server's signing key, always the same for the same server.
#[must_use]
pub fn key_of(server: &ServerName) -> Ed25519KeyPair {
    // A PKCS#8 document for Ed25519 up to the 32 bytes of the key itself (RFC 8410, section 7).
    let mut document = vec![
        0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04,
        0x20,
    ];
    document.extend(server.as_bytes().iter().copied().cycle().take(32));
    Ed25519KeyPair::from_der(&document, "1".to_owned()).expect("it is a PKCS#8 document")
}

/// The name of a piece of state.
#[must_use]
pub fn tuple(event_type: &str, state_key: &str) -> (StateEventType, String) {
    (StateEventType::from(event_type), state_key.to_owned())
}

fn set(object: &mut Value, name: &str, value: Value) {
    if let Value::Object(object) = object {
        object.insert(name.to_owned(), value);
    }
}
