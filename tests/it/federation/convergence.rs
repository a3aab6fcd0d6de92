//! Three servers that get the events of a room in different orders, twice, with gaps, and with forged ones between them, over
//! the network: they end in the same room, and show users no more of it than these may see.

mod resident;

use std::collections::{BTreeSet, HashSet};

use ruma::{OwnedEventId, OwnedRoomId, RoomVersionId};
use serde_json::{Value, json, value::RawValue};
use wick_core::Random;
use wick_harness::{
    SeededRandom, TestNetwork, TestServer, User,
    room_builder::{RoomBuilder, State, tuple},
};
use wick_room::{Direction, invariants};

use self::resident::Resident;
use crate::talk::{events, sync};

const V3: &str = "/_matrix/client/v3";

const NAMES: [&str; 3] = ["a.test", "b.test", "c.test"];

/// How many events are made on three branches.
const ACTIONS: usize = 16;

/// A number below `end`.
fn below(random: &SeededRandom, end: usize) -> usize {
    let mut bytes = [0; 4];
    random.fill(&mut bytes);
    u32::from_le_bytes(bytes) as usize % end
}

/// One of these.
fn one_of<T: Copy>(random: &SeededRandom, all: &[T]) -> T {
    all[below(random, all.len())]
}

/// A server with a user that stays in every room, and one that is removed by others.
struct Home {
    name: &'static str,
    server: TestServer,
    stays: User,
    leaves: User,
}

impl Home {
    async fn open(network: &TestNetwork, name: &'static str) -> Self {
        let server = network.start(name).await;
        let (stays, leaves) = (server.register("stays").await, server.register("leaves").await);
        Self { name, server, stays, leaves }
    }

    async fn join(&self, user: &User, room: &OwnedRoomId, via: &str) {
        let path = format!("{V3}/join/{room}?via={via}");
        let (status, body) = self.server.post(&path, &user.token, json!({})).await;
        assert_eq!(status, 200, "{body}");
    }

    /// The room's state and forward extremities.
    fn head(&self, room: &OwnedRoomId) -> (State, BTreeSet<OwnedEventId>) {
        let services = self.server.services();
        let (graph, read) = (&services.graph, services.database.published());
        let short = graph.short(&read, room).unwrap().unwrap();
        let head = graph.head(&read, short).unwrap().unwrap();
        let id = |event| graph.load_event(&read, event).unwrap().event_id.clone();
        let state = graph.states().collect(&read, head.state).unwrap();
        let tuple = |key| graph.intern().state_key_tuple(&read, key).unwrap().unwrap();
        let state = state.into_iter().map(|(key, event)| (tuple(key), id(event))).collect();
        (state, head.extremities.into_iter().map(id).collect())
    }

    fn is_joined(&self, room: &OwnedRoomId, state_at: &RoomBuilder) -> bool {
        let (state, _) = self.head(room);
        membership(state_at, &state, &self.leaves) == "join"
    }
}

/// The field of a state event's content.
fn field(room: &RoomBuilder, state: &State, key: (&str, &str), name: &str) -> Option<String> {
    let event = state.get(&tuple(key.0, key.1))?;
    let content: Value = room.event(event).pdu.content_as().unwrap();
    content[name].as_str().map(str::to_owned)
}

fn membership(room: &RoomBuilder, state: &State, user: &User) -> String {
    let key = ("m.room.member", user.user_id.as_str());
    field(room, state, key, "membership").unwrap_or_default()
}

/// What a user may see of a room, by the states before and after each event as the reference has them.
///
/// <https://spec.matrix.org/v1.19/client-server-api/#room-history-visibility>
struct Rule<'a> {
    room: &'a RoomBuilder,
    user: &'a User,
    /// The events that were at the user's server while the user was in the room there.
    while_joined: HashSet<OwnedEventId>,
}

impl Rule<'_> {
    fn allows(&self, id: &OwnedEventId) -> bool {
        let is_about_user =
            self.room.event(id).pdu.state_key.as_deref() == Some(self.user.user_id.as_str());
        let around = [self.room.before(id).clone(), self.room.resolved(std::slice::from_ref(id))];
        is_about_user || around.iter().any(|state| self.allows_in(id, state))
    }

    fn allows_in(&self, id: &OwnedEventId, state: &State) -> bool {
        let key = ("m.room.history_visibility", "");
        let visibility = field(self.room, state, key, "history_visibility");
        let membership = membership(self.room, state, self.user);
        match visibility.as_deref() {
            Some("world_readable") => true,
            Some("joined") => membership == "join",
            Some("invited") => membership == "join" || membership == "invite",
            _ => membership == "join" || self.while_joined.contains(id),
        }
    }

    fn is_world_readable(&self, id: &OwnedEventId) -> bool {
        let key = ("m.room.history_visibility", "");
        let after = self.room.resolved(std::slice::from_ref(id));
        [self.room.before(id), &after].into_iter().any(|state| {
            let visibility = field(self.room, state, key, "history_visibility");
            visibility.as_deref() == Some("world_readable")
        })
    }

    /// Whether the user was in the room at an event, however visible the rest of it is.
    fn is_member_at(&self, id: &OwnedEventId) -> bool {
        membership(self.room, self.room.before(id), self.user) == "join"
    }
}

/// Adds an event to the room on top of these.
fn perform(
    room: &mut RoomBuilder,
    random: &SeededRandom,
    on: &[OwnedEventId],
    number: usize,
) -> OwnedEventId {
    let server = room.event(&room.order()[0]).pdu.sender.server_name().to_owned();
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| format!("@{name}:{server}"));
    let sender = one_of(random, &[&alice, &alice, &bob, &carol]);
    let target = format!("@leaves:{}", one_of(random, &NAMES));
    match below(random, 14) {
        0 => room.member(on, &carol, &carol, one_of(random, &["join", "leave"])),
        1 | 2 => room.member(on, sender, &target, "leave"),
        3 => room.member(on, sender, &target, "ban"),
        4 => room.member(on, sender, &target, "invite"),
        5 => {
            let rule = one_of(random, &["invite", "public"]);
            room.state(on, sender, "m.room.join_rules", json!({ "join_rule": rule }))
        }
        6 | 7 => {
            let kinds = ["shared", "joined", "invited", "world_readable"];
            let content = json!({ "history_visibility": one_of(random, &kinds) });
            room.state(on, sender, "m.room.history_visibility", content)
        }
        8 => room.state(on, sender, "m.room.topic", json!({ "topic": number.to_string() })),
        9 => {
            let levels = room.resolved(on)[&tuple("m.room.power_levels", "")].clone();
            let mut content: Value = room.event(&levels).pdu.content_as().unwrap();
            content["users"][one_of(random, &[&bob, &carol]).as_str()] = json!(number % 3 * 50);
            room.state(on, sender, "m.room.power_levels", content)
        }
        10 => {
            let redacted = room.order()[room.order().len() - 1].clone();
            room.redaction(on, sender, &redacted)
        }
        _ => room.message(on, sender, &format!("message {number}")),
    }
}

/// Goes on with the room on three branches that merge now and then. Returns what was added, and one event behind all of it.
fn fork(room: &mut RoomBuilder, random: &SeededRandom) -> (Vec<OwnedEventId>, OwnedEventId) {
    let before = room.order().len();
    let mut branches = [room.tips(), room.tips(), room.tips()];
    for number in 0..ACTIONS {
        let branch = below(random, 3);
        let mut on = branches[branch].clone();
        if below(random, 5) == 0 {
            on.extend(branches[below(random, 3)].clone());
        }
        on.sort_unstable();
        on.dedup();
        branches[branch] = vec![perform(room, random, &on, number)];
    }
    let added = room.order()[before..].to_vec();
    let mut tips = branches.concat();
    tips.sort_unstable();
    tips.dedup();
    let alice = room.event(&room.order()[0]).pdu.sender.to_string();
    let last = room.message(&tips, &alice, "the last message");
    (added, last)
}

/// The event with another time, for which its signature is not good.
fn forged(json: &RawValue) -> Box<RawValue> {
    let mut event: Value = serde_json::from_str(json.get()).unwrap();
    event["origin_server_ts"] = json!(1);
    serde_json::value::to_raw_value(&event).unwrap()
}

/// Transactions with these events in any order, some of them missing, twice, or forged.
fn transactions(
    random: &SeededRandom,
    resident: &Resident,
    added: &[OwnedEventId],
) -> Vec<Vec<Box<RawValue>>> {
    let mut all = Vec::new();
    for json in resident.shared.json(added) {
        let mut add = |json| all.push((below(random, 1 << 16), json));
        if below(random, 5) == 0 {
            add(forged(&json));
        }
        if below(random, 3) == 0 {
            add(json.clone());
        }
        if below(random, 3) > 0 {
            add(json);
        }
    }
    all.sort_by_key(|(rank, _)| *rank);
    let mut rest: Vec<_> = all.into_iter().map(|(_, json)| json).collect();
    let mut transactions = Vec::new();
    while !rest.is_empty() {
        let others = rest.split_off(rest.len().min(1 + below(random, 4)));
        transactions.push(std::mem::replace(&mut rest, others));
    }
    transactions
}

/// What a user was shown, and what could be shown at most.
#[derive(Default)]
struct Seen {
    timeline: HashSet<OwnedEventId>,
    /// Events of the state of the room, outside of a time in the room.
    state: HashSet<OwnedEventId>,
    /// The timeline and the states of the room while the user was in it.
    while_joined: HashSet<OwnedEventId>,
    states_while_joined: HashSet<OwnedEventId>,
}

impl Seen {
    fn note(&mut self, synced: &Value, room: &OwnedRoomId, is_joined: bool) {
        for kind in ["join", "leave"] {
            let of_room = &synced["rooms"][kind][room.as_str()];
            self.timeline.extend(events(&of_room["timeline"]).iter().map(id_of));
            if !is_joined {
                self.state.extend(events(&of_room["state"]).iter().map(id_of));
            }
        }
    }

    /// Notes what the room is at a moment at which the user is in it.
    fn note_joined(&mut self, home: &Home, room: &OwnedRoomId) {
        self.while_joined.extend(timeline(home, room));
        self.states_while_joined.extend(home.head(room).0.into_values());
    }
}

fn id_of(event: &Value) -> OwnedEventId {
    event["event_id"].as_str().unwrap().try_into().unwrap()
}

/// The events in the timeline of a room.
fn timeline(home: &Home, room: &OwnedRoomId) -> HashSet<OwnedEventId> {
    let services = home.server.services();
    let (graph, read) = (&services.graph, services.database.published());
    let short = graph.short(&read, room).unwrap().unwrap();
    let items = graph.timeline(&read, short, i64::MAX, Direction::Backward);
    items
        .map(|item| graph.load_event(&read, item.unwrap().event).unwrap().event_id.clone())
        .collect()
}

/// Brings events to a server in transactions; the user that is removed syncs after each.
async fn deliver(
    resident: &mut Resident,
    home: &Home,
    transactions: Vec<Vec<Box<RawValue>>>,
) -> Seen {
    let room_id = resident.shared.room().room_id();
    let user = &home.leaves;
    let mut since = sync(&home.server, user, "").await["next_batch"].as_str().unwrap().to_owned();
    let mut seen = Seen::default();
    for part in transactions {
        let was_joined = home.is_joined(&room_id, &resident.shared.room());
        if was_joined {
            seen.note_joined(home, &room_id);
        }
        resident.send((&home.server, home.name), &part).await;
        let is_joined = was_joined || home.is_joined(&room_id, &resident.shared.room());
        if is_joined {
            seen.note_joined(home, &room_id);
        }
        let synced = sync(&home.server, user, &format!("?since={since}&timeout=0")).await;
        synced["next_batch"].as_str().unwrap().clone_into(&mut since);
        seen.note(&synced, &room_id, is_joined);
    }
    seen
}

/// The room is what the reference has, and the removed user saw and sees what the rule allows.
async fn check(
    resident: &Resident,
    home: &Home,
    (added, last): (&[OwnedEventId], &OwnedEventId),
    (seen, context): (Seen, &str),
) {
    let room_id = resident.shared.room().room_id();
    let mut readable = HashSet::new();
    for id in added.iter().chain([last]) {
        let path = format!("{V3}/rooms/{room_id}/event/{id}");
        if home.server.get(&path, &home.leaves.token).await.0 == 200 {
            readable.insert(id.clone());
        }
    }
    let room = resident.shared.room();
    let (state, extremities) = home.head(&room_id);
    assert_eq!(extremities, [last.clone()].into(), "{context}");
    assert_eq!(state, room.resolved(std::slice::from_ref(last)), "{context}");
    let known: HashSet<_> = room.order().iter().cloned().collect();
    let timeline = timeline(home, &room_id);
    assert!(timeline.is_subset(&known), "{context}: nothing forged");
    let rule = Rule { room: &room, user: &home.leaves, while_joined: seen.while_joined };
    let described = |id: &OwnedEventId| {
        let place = added.iter().position(|known| known == id);
        let pdu = &room.event(id).pdu;
        let (kind, key, content) = (&pdu.event_type, &pdu.state_key, pdu.content.get());
        let prev: Vec<_> =
            pdu.prev_events.iter().map(|id| added.iter().position(|a| a == id)).collect();
        format!("{place:?} on {prev:?}: {kind} {key:?} {content} {:?}", room.event(id).allowed)
    };
    let leak = |id: &OwnedEventId| {
        let all: Vec<_> = added.iter().map(described).collect();
        format!("{context}: a leak of {}\nof\n{}", described(id), all.join("\n"))
    };
    for id in seen.timeline.iter().chain(&readable) {
        assert!(rule.allows(id), "{}", leak(id));
    }
    for id in &seen.state {
        let is_known = seen.states_while_joined.contains(id);
        assert!(is_known || rule.is_world_readable(id), "{}", leak(id));
    }
    for id in timeline.iter().filter(|id| added.contains(id) && rule.is_member_at(id)) {
        assert!(readable.contains(id), "{context}: {} is hidden", described(id));
    }
}

async fn converge(network: &TestNetwork, homes: &[Home; 3], seed: u64) {
    let random = SeededRandom::new(seed);
    let version = one_of(&random, &["10", "11", "12"]);
    let name = format!("resident{seed}.test");
    let version = RoomVersionId::try_from(version).unwrap();
    let mut resident = Resident::start(network, &name, version).await;
    let room_id = resident.shared.room().room_id();
    for home in homes {
        let before = resident.shared.room().order().len();
        home.join(&home.stays, &room_id, &name).await;
        home.join(&home.leaves, &room_id, &name).await;
        resident.until(before + 2).await;
        let joins = resident.shared.room().order()[before..].to_vec();
        let joins = resident.shared.json(&joins);
        for other in homes.iter().filter(|other| other.name < home.name) {
            resident.send((&other.server, other.name), &joins).await;
        }
    }
    let (added, last) = fork(&mut resident.shared.room(), &random);
    for home in homes {
        let context = format!("{} with seed {seed}", home.name);
        let mut parts = transactions(&random, &resident, &added);
        parts.push(resident.shared.json(std::slice::from_ref(&last)));
        let seen = deliver(&mut resident, home, parts).await;
        check(&resident, home, (&added, &last), (seen, &context)).await;
    }
    let heads: Vec<_> = homes.iter().map(|home| home.head(&room_id)).collect();
    assert!(heads.iter().all(|head| *head == heads[0]), "seed {seed}");
}

#[tokio::test]
async fn three_servers_end_in_the_same_room_and_show_nobody_more_than_they_may_see() {
    let network = TestNetwork::new();
    let homes = [
        Home::open(&network, NAMES[0]).await,
        Home::open(&network, NAMES[1]).await,
        Home::open(&network, NAMES[2]).await,
    ];
    // The last one found that a stay was taken for longer than it was.
    for seed in [0, 1, 2, 4, 6, 20] {
        converge(&network, &homes, seed).await;
    }
    for home in &homes {
        let read = home.server.services().database.published();
        assert_eq!(invariants::check(&read).unwrap(), [], "{}", home.name);
    }
}
