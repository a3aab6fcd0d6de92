//! What other servers send: transactions, what they lack, joins. The other servers are a room in memory.

#![expect(clippy::indexing_slicing, reason = "a test that panics has failed")]

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ruma::{
    OwnedEventId, OwnedRoomId, OwnedServerName, RoomVersionId, ServerName,
    canonical_json::CanonicalJsonObject, room_version_rules::RoomVersionRules,
    signatures::PublicKeyMap,
};
use serde_json::{json, value::RawValue};
use tempfile::TempDir;
use wick_core::{Clock, Config, Error, Random, Result};
use wick_database::{
    Database, Durability, Options, Range, Read,
    schema::{
        inbound::{QUEUED_BY_EVENT, QUEUED_BY_ROOM},
        room::{EVENT_BY_POSITION, HEAD_BY_ROOM, PLACE_BY_EVENT, Place},
    },
};
use wick_harness::{
    MockClock, SeededRandom,
    room_builder::{RoomBuilder, State, key_of, tuple},
};
use wick_inbound::{EventResults, EventSpool, Inbound, Joining, MissingEvents, Peer, StateIds};
use wick_room::{Appended, Graph, Hooks, Snapshot, Verified, by_auth_events, invariants};
use wick_runtime::{ConflictLock, Limits, Resources, Supervisor, Workers};

const ALICE: &str = "@alice:one.example";
const BOB: &str = "@bob:two.example";
const CAROL: &str = "@carol:three.example";
const DAVE: &str = "@dave:here.example";

mod answers;
mod convergence;
mod crashes;
mod extremities;
mod gaps;
mod history;
mod hostile;
mod joins;
mod transactions;

use self::joins::JoinAnswer;

/// The other servers of a room: all that was said in it, but for what they do not give away.
#[derive(Clone)]
struct Others(Arc<Mutex<World>>);

struct World {
    room: Arc<RoomBuilder>,
    /// Events that are not to be had.
    withheld: HashSet<OwnedEventId>,
    /// Servers whose keys are not to be had.
    keyless: HashSet<String>,
    /// Servers that do not answer.
    dead: HashSet<String>,
    /// Servers whose answer about missing events is always still to come.
    slow: HashSet<String>,
    /// Events before which servers say that there was nothing but the create event.
    bare: HashSet<OwnedEventId>,
    /// Whether states are not to be had.
    stateless: bool,
    /// Whether single events and auth chains are not to be had.
    chainless: bool,
    /// Events that are given in place of others.
    instead: HashMap<OwnedEventId, OwnedEventId>,
    /// What was asked for.
    asked: Vec<&'static str>,
    /// Who was asked for missing events.
    asked_of: BTreeSet<String>,
}

fn unknown() -> Error {
    Error::not_found("this server does not have it")
}

impl Others {
    fn new(room: &Arc<RoomBuilder>) -> Self {
        let room = Arc::clone(room);
        let world = World {
            room,
            withheld: HashSet::new(),
            keyless: HashSet::new(),
            dead: HashSet::new(),
            slow: HashSet::new(),
            bare: HashSet::new(),
            stateless: false,
            chainless: false,
            instead: HashMap::new(),
            asked: Vec::new(),
            asked_of: BTreeSet::new(),
        };
        Self(Arc::new(Mutex::new(world)))
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn asked(&self, what: &'static str) -> MutexGuard<'_, World> {
        let mut world = self.world();
        world.asked.push(what);
        world
    }
}

impl World {
    fn json(&self, id: &OwnedEventId) -> Result<Box<RawValue>> {
        let id = self.instead.get(id).unwrap_or(id);
        let is_known = self.room.order().contains(id) && !self.withheld.contains(id);
        is_known.then(|| self.room.event(id).json().to_owned()).ok_or_else(unknown)
    }

    fn all(&self, ids: &[OwnedEventId]) -> Vec<Box<RawValue>> {
        ids.iter().filter_map(|id| self.json(id).ok()).collect()
    }

    fn state_ids(&self, id: &OwnedEventId) -> Result<StateIds> {
        self.json(id)?;
        if self.stateless {
            return Err(unknown());
        }
        let state: Vec<_> = match self.bare.contains(id) {
            true => self.room.order()[..1].to_vec(),
            false => self.room.before(id).values().cloned().collect(),
        };
        let auth_chain = self.room.auth_chain(&state);
        Ok(StateIds { state, auth_chain })
    }

    /// Events before some, breadth first, without those that are known.
    fn before(
        &self,
        known: &[OwnedEventId],
        from: &[OwnedEventId],
        limit: usize,
    ) -> Vec<OwnedEventId> {
        let mut seen: HashSet<_> = known.iter().chain(from).cloned().collect();
        let mut open: std::collections::VecDeque<_> = from.iter().cloned().collect();
        let mut found = Vec::new();
        while let Some(id) = open.pop_front() {
            if !self.room.order().contains(&id) {
                continue;
            }
            for prev in &self.room.event(&id).pdu.prev_events {
                if found.len() < limit && seen.insert(prev.clone()) {
                    found.push(prev.clone());
                    open.push_back(prev.clone());
                }
            }
        }
        found
    }
}

impl Peer for Others {
    fn is_in_reach(&self, server: &ServerName) -> bool {
        !self.world().dead.contains(server.as_str())
    }

    async fn keys(
        &self,
        events: Vec<CanonicalJsonObject>,
        _rules: &RoomVersionRules,
    ) -> Result<Vec<PublicKeyMap>> {
        let world = self.world();
        let mut keys = world.room.keys();
        keys.retain(|server, _| !world.keyless.contains(server));
        Ok(vec![keys; events.len()])
    }

    async fn event(&self, _server: &ServerName, event: OwnedEventId) -> Result<Box<RawValue>> {
        let world = self.asked("event");
        if world.chainless { Err(unknown()) } else { world.json(&event) }
    }

    async fn missing_events(
        &self,
        server: &ServerName,
        wanted: MissingEvents,
    ) -> Result<Vec<Box<RawValue>>> {
        let is_slow = self.world().slow.contains(server.as_str());
        self.world().asked_of.insert(server.to_string());
        if is_slow {
            std::future::pending::<()>().await;
        }
        let world = self.asked("missing_events");
        let ids = world.before(&wanted.earliest, &wanted.latest, wanted.limit);
        Ok(world.all(&ids))
    }

    async fn state_ids(
        &self,
        _server: &ServerName,
        _room: OwnedRoomId,
        event: OwnedEventId,
    ) -> Result<StateIds> {
        self.asked("state_ids").state_ids(&event)
    }

    async fn state(
        &self,
        _server: &ServerName,
        _room: OwnedRoomId,
        event: OwnedEventId,
        events: &mut EventSpool,
    ) -> Result<()> {
        let (state, auth_chain) = {
            let world = self.asked("state");
            let StateIds { state, auth_chain } = world.state_ids(&event)?;
            (world.all(&state), world.all(&auth_chain))
        };
        spool(events, state, auth_chain).await
    }

    async fn auth_chain(
        &self,
        _server: &ServerName,
        _room: OwnedRoomId,
        event: OwnedEventId,
    ) -> Result<Vec<Box<RawValue>>> {
        let world = self.asked("auth_chain");
        world.json(&event)?;
        if world.chainless {
            return Err(unknown());
        }
        Ok(world.all(&world.room.auth_chain(&world.room.event(&event).pdu.auth_events)))
    }

    async fn backfill(
        &self,
        server: &ServerName,
        _room: OwnedRoomId,
        from: Vec<OwnedEventId>,
        limit: usize,
    ) -> Result<Vec<Box<RawValue>>> {
        let world = self.asked("backfill");
        if world.dead.contains(server.as_str()) {
            return Err(unknown());
        }
        let mut ids = from.clone();
        ids.extend(world.before(&[], &from, limit.saturating_sub(from.len())));
        Ok(world.all(&ids))
    }
}

/// A server that is asked by no client.
struct Server<P = Others> {
    inbound: Arc<Inbound<P>>,
    graph: Arc<Graph>,
    supervisor: Arc<Supervisor>,
    resources: Resources,
    clock: MockClock,
    folder: TempDir,
    transactions: u64,
}

impl<P: Peer + Clone> Server<P> {
    fn start(name: &str, peer: &P) -> Self {
        let folder = tempfile::tempdir().expect("there is a temporary folder");
        Self::open(name, peer, folder, Options::default())
    }

    fn open(name: &str, peer: &P, folder: TempDir, options: Options) -> Self {
        let options = Options { durability: Some(Durability::Flushed), ..options };
        let database = Database::open(folder.path(), options).expect("the folder is sound");
        let name = OwnedServerName::try_from(name).expect("it is a server name");
        let clock = MockClock::new();
        let shared: Arc<dyn Clock> = Arc::new(clock.clone());
        let random: Arc<dyn Random> = Arc::new(SeededRandom::new(1));
        let supervisor = Arc::new(Supervisor::new(Arc::clone(&shared)));
        let mut config = Config::default();
        config.server.name = name.clone();
        let config = Arc::new(config);
        let resources = Resources {
            limits: Arc::new(Limits::new(&config, &shared)),
            config,
            database: database.clone(),
            clock: Arc::clone(&shared),
            random: Arc::clone(&random),
            workers: Arc::new(Workers::new(&supervisor)),
            conflicts: ConflictLock::default(),
        };
        let key = key_of(&name);
        let graph = Graph::open(
            database,
            shared,
            random,
            (name, Arc::new(key.into())),
            Hooks::default(),
            1 << 20,
        );
        let graph = Arc::new(graph);
        let inbound = Inbound::new(
            resources.clone(),
            Arc::clone(&graph),
            Arc::clone(&supervisor),
            peer.clone(),
        );
        inbound.start().expect("the queue can be read");
        Self { inbound, graph, supervisor, resources, clock, folder, transactions: 0 }
    }

    /// Sends events as a new transaction of one server, and waits until they are worked off.
    async fn send(&mut self, events: Vec<Box<RawValue>>) -> EventResults {
        let results = self.take_in("one.example", events).await;
        self.inbound.idle().await;
        results.expect("the transaction is in order")
    }

    /// Sends events as a new transaction of a server.
    async fn take_in(&mut self, origin: &str, events: Vec<Box<RawValue>>) -> Result<EventResults> {
        self.transactions += 1;
        let id = self.transactions.to_string();
        let origin = <&ServerName>::try_from(origin).expect("it is a server name");
        self.inbound.take_in(origin, &id, events).await
    }

    /// Lets time pass, and tries again what waits.
    async fn wait(&self, time: Duration) {
        self.clock.advance(time).await;
        self.inbound.retry();
        self.inbound.idle().await;
    }

    /// The same server after its process died.
    async fn killed(self, name: &str, peer: &P) -> Self {
        let Self { inbound, graph, supervisor, resources, folder, transactions, .. } = self;
        supervisor.abort().await;
        drop((inbound, graph, supervisor, resources));
        Self { transactions, ..Self::open(name, peer, folder, Options::default()) }
    }

    fn queued(&self) -> usize {
        let read = self.graph.database().published();
        let rows = read.scan(&QUEUED_BY_ROOM, Range::all()).count();
        assert_eq!(read.scan(&QUEUED_BY_EVENT, Range::all()).count(), rows);
        rows
    }

    fn place(&self, id: &OwnedEventId) -> Option<Place> {
        let read = self.graph.database().published();
        let short = self.graph.intern().lookup_event(&read, id).expect("names can be read")?;
        read.get(&PLACE_BY_EVENT, &short).expect("places can be read")
    }

    fn is_in_timeline(&self, id: &OwnedEventId) -> bool {
        self.place(id).is_some_and(|place| place.position.is_some())
    }

    fn extremities(&self, room: &RoomBuilder) -> BTreeSet<OwnedEventId> {
        let read = self.graph.database().published();
        let short = self.graph.short(&read, &room.room_id()).expect("names can be read");
        let head = read.get(&HEAD_BY_ROOM, &short.expect("the room is here"));
        let head = head.expect("heads can be read").expect("the room has a head");
        let id = |event| self.graph.load_event(&read, event).expect("it is here").event_id.clone();
        head.extremities.into_iter().map(id).collect()
    }

    fn state(&self, room: &RoomBuilder) -> State {
        let read = self.graph.database().published();
        let short = self.graph.short(&read, &room.room_id()).expect("names can be read");
        let head = read.get(&HEAD_BY_ROOM, &short.expect("the room is here"));
        let head = head.expect("heads can be read").expect("the room has a head");
        let state = self.graph.states().collect(&read, head.state).expect("states can be read");
        let named = state.into_iter().map(|(key, event)| {
            let tuple = self.graph.intern().state_key_tuple(&read, key);
            let event = self.graph.load_event(&read, event).expect("it is here");
            (tuple.expect("names can be read").expect("it has a name"), event.event_id.clone())
        });
        named.collect()
    }

    fn timeline(&self) -> Vec<OwnedEventId> {
        let read = self.graph.database().published();
        read.scan(&EVENT_BY_POSITION, Range::all())
            .map(|row| row.expect("timelines can be read").1)
            .map(|event| self.graph.load_event(&read, event).expect("it is here").event_id.clone())
            .collect()
    }

    fn sound(&self) {
        let read = self.graph.database().published();
        assert_eq!(invariants::check(&read).expect("everything can be read"), []);
    }

    /// Has the room as it is at `join`, by a snapshot.
    async fn join(&self, room: &RoomBuilder, join: &OwnedEventId) {
        let state: Vec<_> = room.before(join).values().cloned().collect();
        let chain = room.auth_chain(&state).iter().map(|id| verified(room, id)).collect();
        let (id, version) = (room.room_id(), room.version());
        let outliers = by_auth_events(chain);
        let stored = self.graph.receive_outliers(&id, &version, &outliers).await;
        stored.expect("outliers can be stored");
        let state = self.graph.state_of(&id, &state).await.expect("the state is here");
        let snapshot = Snapshot { version, state, event: verified(room, join) };
        self.graph
            .receive_snapshot(&id, &snapshot, |_| Ok(()))
            .await
            .expect("the snapshot is sound");
    }
}

/// Puts a state and its auth chain into a spool.
async fn spool(
    events: &mut EventSpool,
    state: Vec<Box<RawValue>>,
    auth_chain: Vec<Box<RawValue>>,
) -> Result<()> {
    for event in state {
        events.push_state(&event).await?;
    }
    for event in auth_chain {
        events.push_auth(&event).await?;
    }
    Ok(())
}

fn verified(room: &RoomBuilder, id: &OwnedEventId) -> Verified {
    let rules = wick_core::rules::version_rules(&room.version()).expect("it is supported");
    let json = room.event(id).json();
    Verified::check(json, Some(&room.room_id()), &rules, &room.keys()).expect("it is sound")
}

fn json_of(room: &RoomBuilder, ids: &[OwnedEventId]) -> Vec<Box<RawValue>> {
    ids.iter().map(|id| room.event(id).json().to_owned()).collect()
}

/// A room of the other servers that dave of this server joined with its last event.
fn joined_room(version: RoomVersionId) -> RoomBuilder {
    let mut room = RoomBuilder::public(version, ALICE, &[BOB]);
    room.state(&room.tips(), BOB, "m.room.topic", json!({ "topic": "first" }));
    room.member(&room.tips(), CAROL, CAROL, "join");
    room.member(&room.tips(), DAVE, DAVE, "join");
    room
}

/// A server that has joined a room, which continues elsewhere with the events that `say` adds.
async fn server_in(mut room: RoomBuilder, say: impl FnOnce(&mut RoomBuilder)) -> Talk {
    let join = room.tips()[0].clone();
    let before = room.order().len();
    say(&mut room);
    let said = room.order()[before..].to_vec();
    let room = Arc::new(room);
    let others = Others::new(&room);
    let server = Server::start("here.example", &others);
    server.join(&room, &join).await;
    Talk { server, others, room, said }
}

/// A server in a room that goes on elsewhere.
struct Talk {
    server: Server,
    others: Others,
    room: Arc<RoomBuilder>,
    /// What was said since the server joined.
    said: Vec<OwnedEventId>,
}

impl Talk {
    fn json(&self, number: usize) -> Vec<Box<RawValue>> {
        json_of(&self.room, &self.said[number..=number])
    }

    /// All that was said is part of the timeline, and the room is what it is elsewhere.
    fn check_all(&self) {
        let last = self.said.last().expect("something was said");
        assert!(self.said.iter().all(|id| self.server.is_in_timeline(id)));
        assert_eq!(self.server.extremities(&self.room), [last.clone()].into());
        assert_eq!(self.server.state(&self.room), self.room.resolved(std::slice::from_ref(last)));
        assert_eq!(self.server.queued(), 0);
        self.server.sound();
    }
}

fn versions() -> [RoomVersionId; 3] {
    [RoomVersionId::V10, RoomVersionId::V11, RoomVersionId::V12]
}

fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime can be built").block_on(test)
}
