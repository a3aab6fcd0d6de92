//! The rooms of this server: the one door through which anything changes in them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ruma::{
    OwnedRoomId, OwnedServerName, RoomId, RoomVersionId, ServerName, events::TimelineEventType,
    room_version_rules::RoomVersionRules, signatures::Ed25519KeyPair,
};
use wick_core::{Clock, Draft, Error, Random, Result, TimerId, rules};
use wick_database::{
    Batch, Database, Durability, Interner, Range, Read,
    schema::{
        delayed::DELAYED_BY_TIMER,
        room::HEAD_BY_ROOM,
        timer::{ENDED_BY_TIMER, TIMER_BY_ID},
    },
};

use crate::{
    Appended, Assembly, Effects, TimerChange,
    build::{self, Authorized},
    events::Events,
    state::States,
    turn::{Turn, Turns},
};

/// Rows that other layers add to an event's batch, such as a search index.
pub trait Projection: Send + Sync {
    /// Adds the rows that follow from `event`.
    ///
    /// # Errors
    /// If something needed cannot be read; then the event is not written either.
    fn project(&self, event: &Appended, batch: &mut Batch) -> Result<()>;
}

impl<P: Projection + ?Sized> Projection for Arc<P> {
    fn project(&self, event: &Appended, batch: &mut Batch) -> Result<()> {
        (**self).project(event, batch)
    }
}

/// Told of timers. Runs while the room's turn is held, so it must be short.
pub type TimerListener = Box<dyn Fn(&[TimerChange]) + Send + Sync>;

/// What other layers want to take part in.
#[derive(Default)]
pub struct Hooks {
    /// Run for each event that becomes part of a timeline, in order.
    pub projections: Vec<Box<dyn Projection>>,
    /// Told of timers whenever a batch that touches them was written.
    pub timers: Option<TimerListener>,
    /// Whether new state ends the delayed events of others that would set the same.
    pub cancel_superseded: bool,
}

/// All rooms.
pub struct Graph {
    pub(crate) db: Database,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) server: OwnedServerName,
    pub(crate) key: Ed25519KeyPair,
    pub(crate) states: States,
    pub(crate) events: Events,
    pub(crate) hooks: Hooks,
    turns: Turns,
    next_timer: AtomicU64,
}

/// A room that is to be made.
pub struct Founding {
    /// Its version.
    pub version: RoomVersionId,
    /// Its create event; the room id in it is ignored.
    pub create: Draft,
}

impl Graph {
    /// Opens the rooms in `db`. `cache_bytes` bounds the parsed events kept in memory.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn open(
        db: Database,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        (server, key): (OwnedServerName, Ed25519KeyPair),
        hooks: Hooks,
        cache_bytes: u64,
    ) -> Result<Self> {
        let next_timer = last_timer(&db.latest())?.0.saturating_add(1);
        Ok(Self {
            states: States::new(cache_bytes / 4),
            events: Events::new(cache_bytes),
            db,
            clock,
            random,
            server,
            key,
            hooks,
            turns: Turns::default(),
            next_timer: AtomicU64::new(next_timer),
        })
    }

    /// The database, for reading.
    #[must_use]
    pub fn database(&self) -> &Database {
        &self.db
    }

    /// This server's name.
    #[must_use]
    pub fn server_name(&self) -> &ServerName {
        &self.server
    }

    /// Short ids.
    #[must_use]
    pub fn intern(&self) -> &Interner {
        self.db.intern()
    }

    /// The room states.
    #[must_use]
    pub fn states(&self) -> &States {
        &self.states
    }

    /// An id for a new timer.
    #[must_use]
    pub fn next_timer(&self) -> TimerId {
        TimerId(self.next_timer.fetch_add(1, Ordering::Relaxed))
    }

    /// Changes a room: `change` runs under the room's turn and sees everything written before, its
    /// own appends included. All it appends is one batch. Returns once that is durable and published.
    ///
    /// # Errors
    /// What `change` returns; `M_NOT_FOUND` if the room is not here; a database error, among them a
    /// conflict if a timer that was to be finished has been refreshed meanwhile.
    pub async fn transact<T>(
        &self,
        room_id: &RoomId,
        change: impl FnOnce(&mut Assembly<'_>) -> Result<T>,
    ) -> Result<T> {
        let turn = self.turns.take(room_id).await;
        let mut assembly = Assembly::open(self, room_id)?
            .ok_or_else(|| Error::not_found("this server does not know that room"))?;
        let value = change(&mut assembly)?;
        let pending = assembly.write()?;
        drop(turn);
        pending.await?;
        Ok(value)
    }

    /// Sends one event.
    ///
    /// # Errors
    /// As [`Graph::transact`]; `M_FORBIDDEN` if the auth rules refuse the event.
    pub async fn send(&self, draft: Draft, effects: Effects) -> Result<Appended> {
        let room_id = draft.room_id.clone();
        self.transact(&room_id, |room| room.append(draft, effects)).await
    }

    /// Makes a room with everything that `fill` appends, in one batch.
    ///
    /// # Errors
    /// As [`Graph::transact`]; `M_UNSUPPORTED_ROOM_VERSION`.
    pub async fn found<T>(
        &self,
        founding: Founding,
        fill: impl FnOnce(&mut Assembly<'_>) -> Result<T>,
    ) -> Result<(OwnedRoomId, T)> {
        let Founding { version, mut create } = founding;
        let version_rules = rules::version_rules(&version)?;
        create.event_type = TimelineEventType::RoomCreate;
        create.state_key = Some(String::new());
        create.room_id = self.random_room_id()?;
        let (authorized, turn) = self.unique_create(create, &version_rules).await?;
        let room_id = authorized.pdu.room_id.clone();
        let mut assembly = Assembly::found(self, authorized, version, version_rules)?;
        let value = fill(&mut assembly)?;
        let pending = assembly.write()?;
        drop(turn);
        pending.await?;
        Ok((room_id, value))
    }

    /// A create event whose room does not exist, with that room's turn. Where the room's id is the
    /// event's hash, two rooms that one user makes in the same millisecond would be one; the second
    /// is dated a millisecond later.
    async fn unique_create(
        &self,
        mut create: Draft,
        version: &RoomVersionRules,
    ) -> Result<(Authorized, Turn)> {
        loop {
            let authorized = build::create(self, create.clone(), version)?;
            let room_id = &authorized.pdu.room_id;
            let turn = self.turns.take(room_id).await;
            let latest = self.db.latest();
            let taken = match self.intern().lookup_room(&latest, room_id)? {
                Some(room) => latest.contains(&HEAD_BY_ROOM, &room)?,
                None => false,
            };
            if !taken {
                return Ok((authorized, turn));
            }
            let said = authorized.pdu.origin_server_ts;
            create.origin_server_ts = Some(said.after(Duration::from_millis(1)));
        }
    }

    /// Makes a room from a create event that came from elsewhere.
    pub(crate) async fn found_received(
        &self,
        create: Authorized,
        version: RoomVersionId,
        version_rules: RoomVersionRules,
    ) -> Result<OwnedRoomId> {
        let room_id = create.pdu.room_id.clone();
        let turn = self.turns.take(&room_id).await;
        let pending = Assembly::found(self, create, version, version_rules)?.write()?;
        drop(turn);
        pending.await?;
        Ok(room_id)
    }

    fn random_room_id(&self) -> Result<OwnedRoomId> {
        let local = self.random.letters(18);
        RoomId::parse(format!("!{local}:{}", self.server))
            .map_err(|error| Error::internal("could not make a room id", error))
    }

    /// The durability of everything that is said in a room.
    pub(crate) const DURABILITY: Durability = Durability::Synced;
}

/// The greatest id of a timer of which anything is known; ids above it are free.
fn last_timer(read: &impl Read) -> Result<TimerId> {
    let running = read.last(&TIMER_BY_ID, Range::all())?.map(|(timer, _)| timer);
    let ended = read.last(&ENDED_BY_TIMER, Range::all())?.map(|(timer, _)| timer);
    let delayed = read.last(&DELAYED_BY_TIMER, Range::all())?.map(|(timer, _)| timer);
    Ok(running.max(ended).max(delayed).unwrap_or(TimerId(0)))
}
