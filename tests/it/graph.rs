//! Events from other servers: forks, late and refused events, and what the room makes of them.

#![expect(clippy::indexing_slicing, clippy::panic, reason = "a test that panics has failed")]

use std::{collections::BTreeSet, sync::Arc};

use ruma::{OwnedEventId, OwnedServerName, RoomVersionId, signatures::PublicKeyMap};
use serde_json::{Value, json, value::RawValue};
use tempfile::TempDir;
use wick_core::{Draft, ShortEventId, rules};
use wick_database::{
    Database, Durability, Options, Read,
    schema::room::{HEAD_BY_ROOM, Head, PLACE_BY_EVENT, Place},
};
use wick_harness::{
    MockClock, SeededRandom,
    room_builder::{NewEvent, RoomBuilder, State, key_of, tuple},
};
use wick_room::{Effects, Graph, Hooks, Incoming, Received, Snapshot, Verified, invariants};

const ALICE: &str = "@alice:one.example";
const BOB: &str = "@bob:two.example";
const CAROL: &str = "@carol:three.example";
const DAVE: &str = "@dave:here.example";

mod crashes;
mod forks;
mod history;
mod outliers;
mod redactions;
mod refused;
mod snapshots;
mod stays;
mod timers;

/// A server that has nothing but rooms.
struct Server {
    rooms: Graph,
    folder: TempDir,
}

impl Server {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("there is a temporary folder");
        Self::open(folder, Options::default())
    }

    fn open(folder: TempDir, options: Options) -> Self {
        // There is no power loss here.
        let options = Options { durability: Some(Durability::Flushed), ..options };
        let db = Database::open(folder.path(), options).expect("the folder is sound");
        let name = OwnedServerName::try_from("here.example").expect("it is a server name");
        let key = key_of(&name);
        let (clock, random) = (Arc::new(MockClock::new()), Arc::new(SeededRandom::new(1)));
        let rooms =
            Graph::open(db, clock, random, (name, Arc::new(key.into())), Hooks::default(), 1 << 20);
        Self { rooms, folder }
    }

    /// A server that has received everything in the order in which it was sent.
    async fn with(room: &RoomBuilder) -> Self {
        let server = Self::start();
        for id in room.order() {
            server.receive(room, id).await;
        }
        server
    }

    async fn receive(&self, room: &RoomBuilder, id: &OwnedEventId) -> Option<Received> {
        let event = room.event(id);
        if event.pdu.prev_events.is_empty() && *id == room.order()[0] {
            let made = self.rooms.receive_create(room.version(), event.json(), &room.keys()).await;
            assert_eq!(made.expect("the create event is sound"), room.room_id());
            return None;
        }
        let received = self.receive_json(room, event.json(), &room.keys()).await;
        Some(received.expect("the event is well formed"))
    }

    async fn receive_json(
        &self,
        room: &RoomBuilder,
        json: &RawValue,
        keys: &PublicKeyMap,
    ) -> wick_core::Result<Received> {
        let rules = rules::version_rules(&room.version())?;
        let verified = Verified::check(json, Some(&room.room_id()), &rules, keys)?;
        let received = self.rooms.receive(&room.room_id(), &[verified.into()]).await?;
        Ok(received.into_iter().next().expect("each event has an answer"))
    }

    async fn receive_outliers(&self, room: &RoomBuilder, ids: &[OwnedEventId]) -> Vec<Received> {
        self.try_receive_outliers(room, ids).await.expect("outliers can be stored")
    }

    async fn try_receive_outliers(
        &self,
        room: &RoomBuilder,
        ids: &[OwnedEventId],
    ) -> wick_core::Result<Vec<Received>> {
        let events = ids.iter().map(|id| verified(room, id)).collect();
        let (events, version) = (wick_room::by_auth_events(events), room.version());
        self.rooms.receive_outliers(&room.room_id(), &version, &events).await
    }

    /// A server that has joined the room by the event `join`, and knows nothing else of its timeline.
    async fn joined(room: &RoomBuilder, join: &OwnedEventId) -> Self {
        let server = Self::start();
        server.join(room, join).await;
        server
    }

    async fn join(&self, room: &RoomBuilder, join: &OwnedEventId) -> Received {
        self.try_join(room, join).await.expect("the snapshot is sound")
    }

    async fn try_join(
        &self,
        room: &RoomBuilder,
        join: &OwnedEventId,
    ) -> wick_core::Result<Received> {
        let state: Vec<_> = room.before(join).values().cloned().collect();
        self.try_receive_outliers(room, &room.auth_chain(&state)).await?;
        let root = self.rooms.state_of(&room.room_id(), &state).await?;
        let event = verified(room, join);
        let snapshot = Snapshot { version: room.version(), state: root, event };
        self.rooms.receive_snapshot(&room.room_id(), &snapshot, |_| Ok(())).await
    }

    fn head(&self, room: &RoomBuilder) -> Head {
        let read = self.rooms.database().published();
        let short = self.rooms.intern().lookup_room(&read, &room.room_id());
        let short = short.expect("names can be read").expect("the room is here");
        read.get(&HEAD_BY_ROOM, &short).expect("heads can be read").expect("the room has a head")
    }

    fn place(&self, id: &OwnedEventId) -> Option<Place> {
        let read = self.rooms.database().published();
        let short = self.rooms.intern().lookup_event(&read, id).expect("names can be read")?;
        read.get(&PLACE_BY_EVENT, &short).expect("places can be read")
    }

    fn id(&self, event: ShortEventId) -> OwnedEventId {
        let read = self.rooms.database().published();
        let id = self.rooms.intern().event_id(&read, event).expect("names can be read");
        id.expect("the event has an id")
    }

    fn extremities(&self, room: &RoomBuilder) -> BTreeSet<OwnedEventId> {
        self.head(room).extremities.into_iter().map(|event| self.id(event)).collect()
    }

    fn state_at(&self, root: wick_core::StateRoot) -> State {
        let read = self.rooms.database().published();
        let entries = self.rooms.states().collect(&read, root).expect("the state can be read");
        let named = entries.into_iter().map(|(key, event)| {
            let tuple = self.rooms.intern().state_key_tuple(&read, key);
            (tuple.expect("names can be read").expect("the key has a name"), self.id(event))
        });
        named.collect()
    }

    fn state(&self, room: &RoomBuilder) -> State {
        self.state_at(self.head(room).state)
    }

    /// The store is sound.
    fn sound(&self) {
        let read = self.rooms.database().published();
        assert_eq!(invariants::check(&read).expect("everything can be read"), []);
    }

    /// The store is sound, and the current state is what the extremities resolve to.
    fn check(&self, room: &RoomBuilder) {
        self.sound();
        let extremities: Vec<_> = self.extremities(room).into_iter().collect();
        assert_eq!(self.state(room), room.resolved(&extremities));
        for id in room.order() {
            if let Some(place) = self.place(id).filter(|place| !place.is_outlier()) {
                assert_eq!(self.state_at(place.before), *room.before(id), "before {id}");
            }
        }
    }
}

/// Forks, a ban, something refused by it, something refused by all, and an event that joins the branches.
fn eventful(version: RoomVersionId) -> RoomBuilder {
    let mut room = RoomBuilder::public(version, ALICE, &[BOB, CAROL]);
    let root = room.tips();
    let left = room.state(&root, CAROL, "m.room.topic", json!({ "topic": "left" }));
    let right = room.state(&root, BOB, "m.room.topic", json!({ "topic": "right" }));
    let ban = room.member(&[left, right.clone()], ALICE, BOB, "ban");
    room.message(&[right], BOB, "i know of no ban");
    room.message(std::slice::from_ref(&ban), DAVE, "i am not even here");
    room.message(&[ban], CAROL, "he is gone");
    room
}

fn versions() -> &'static [RoomVersionId] {
    rules::SUPPORTED_VERSIONS
}

/// An event of the room as it is after its checks.
fn verified(room: &RoomBuilder, id: &OwnedEventId) -> Verified {
    let rules = rules::version_rules(&room.version()).expect("the version is supported");
    let json = room.event(id).json();
    Verified::check(json, Some(&room.room_id()), &rules, &room.keys()).expect("the event is sound")
}

fn set(ids: &[&OwnedEventId]) -> BTreeSet<OwnedEventId> {
    ids.iter().copied().cloned().collect()
}

fn accepted(received: Option<Received>) -> bool {
    matches!(received, Some(Received::Accepted(_)))
}

fn soft_failed(received: Option<Received>) -> bool {
    matches!(received, Some(Received::SoftFailed(_)))
}

fn rejected(received: Option<Received>) -> bool {
    matches!(received, Some(Received::Rejected(..)))
}
