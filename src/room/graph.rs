//! The rooms of this server: every change of a room goes through here.

use std::{
    mem,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use quick_cache::sync::Cache;
use ruma::{
    OwnedRoomId, OwnedServerName, RoomId, RoomVersionId, ServerName,
    canonical_json::CanonicalJsonObject,
    events::{TimelineEventType, room::history_visibility::HistoryVisibility},
    room_version_rules::RoomVersionRules,
};
use serde_json::value::RawValue;
use wick_core::{Clock, Draft, Error, Random, Result, SigningKeys, StateRoot, TimerId, rules};
use wick_database::{
    Batch, Database, Durability, Interner, Pending, Read, schema::room::HEAD_BY_ROOM,
};

use crate::{
    Appended, Assembly, Effects, PolicyServers, TimerChange, build,
    events::Events,
    lock::{RoomLock, RoomLocks},
    policy::PolicyChecks,
    render::Rendered,
    resolve::Resolutions,
    stage::Authorized,
    state::States,
};

/// How often a change runs because a row it was computed from has changed by the time it is written.
const ATTEMPTS: usize = 16;

/// Random bits of a timer's id, below the millisecond in which it was made.
const TIMER_RANDOM_BITS: u32 = 20;

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

/// Called with the changes of timers. An effect of their batch ([`Batch::on_applied`]), so it must be short.
pub type TimerListener = Arc<dyn Fn(&[TimerChange]) + Send + Sync>;

/// What other layers add to the changes of rooms.
#[derive(Default)]
pub struct Hooks {
    /// Run for each event that becomes part of a timeline, in order.
    pub projections: Vec<Box<dyn Projection>>,
    /// Called whenever a batch that changes timers was written.
    pub timers: Option<TimerListener>,
    /// Whether new state ends the delayed events of others that would set the same.
    pub cancel_superseded: bool,
    /// The way to policy servers; without it none is asked.
    pub policy_servers: Option<Arc<dyn PolicyServers>>,
}

/// What came of an attempt at a change.
pub(crate) enum Attempt<T> {
    /// It is written, and on its way to the disk.
    Written(T, Pending),
    /// The room has changed meanwhile: nothing is written.
    Conflict,
    /// A policy server is to be asked: nothing is written.
    Unsigned,
}

/// States whose history visibility is kept in memory.
const MAX_VISIBILITIES: usize = 10_000;

/// Resolutions of states that are kept in memory.
const MAX_RESOLUTIONS: usize = 1_000;

/// All rooms.
pub struct Graph {
    pub(crate) db: Database,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) server: OwnedServerName,
    pub(crate) keys: Arc<SigningKeys>,
    pub(crate) states: States,
    pub(crate) events: Arc<Events>,
    pub(crate) rendered: Rendered,
    pub(crate) visibilities: Cache<StateRoot, HistoryVisibility>,
    pub(crate) hooks: Hooks,
    pub(crate) locks: RoomLocks,
    /// The turns of changes for which a policy server is asked: those of one room would make each other run again.
    policy_turns: RoomLocks,
    /// What states of forks resolved to.
    pub(crate) resolutions: Resolutions,
    /// The id of the newest timer made here: ids order timers that are due in the same millisecond.
    last_timer: AtomicU64,
}

/// A room to create.
pub struct NewRoom {
    /// Its version.
    pub version: RoomVersionId,
    /// Its create event; the room id in it is ignored.
    pub create: Draft,
}

impl Graph {
    /// Opens the rooms in `db`. `cache_bytes` bounds the parsed events kept in memory.
    #[must_use]
    pub fn open(
        db: Database,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        (server, keys): (OwnedServerName, Arc<SigningKeys>),
        hooks: Hooks,
        cache_bytes: u64,
    ) -> Self {
        Self {
            states: States::new(cache_bytes / 4),
            events: Arc::new(Events::new(cache_bytes)),
            rendered: Rendered::new(cache_bytes / 2),
            visibilities: Cache::new(MAX_VISIBILITIES),
            db,
            clock,
            random,
            server,
            keys,
            hooks,
            locks: RoomLocks::default(),
            policy_turns: RoomLocks::default(),
            resolutions: Resolutions::new(MAX_RESOLUTIONS),
            last_timer: AtomicU64::new(0),
        }
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

    /// An id for a new timer: the millisecond, and random bits below it. Ids that are made here grow;
    /// whether one is free is required by the batch that arms the timer.
    #[must_use]
    pub fn next_timer(&self) -> TimerId {
        let random = self.random.number() & ((1 << TIMER_RANDOM_BITS) - 1);
        let made = (self.clock.now().0 << TIMER_RANDOM_BITS) | random;
        let in_order = |last: u64| {
            let same = last >> TIMER_RANDOM_BITS >= made >> TIMER_RANDOM_BITS;
            if same { last.saturating_add(1) } else { made }
        };
        let last = self
            .last_timer
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(in_order(last)))
            .unwrap_or_else(|last| last);
        TimerId(in_order(last))
    }

    /// Changes a room. `change` reads the room as it was written last, its own appends included, and all
    /// it appends is one batch, which requires that the room's head is the one it was built on. If that or
    /// another required row has changed by then, nothing is written and `change` runs again, as it does once the room's
    /// policy server has answered for its events. Returns once the batch is durable and published.
    ///
    /// # Errors
    /// What `change` returns; `M_NOT_FOUND` if the room is unknown; a database error, among them a
    /// conflict if the room has changed each time.
    pub async fn transact<T>(
        &self,
        room_id: &RoomId,
        mut change: impl FnMut(&mut Assembly<'_>) -> Result<T>,
    ) -> Result<T> {
        let mut attempt = 1;
        let mut checks = PolicyChecks::default();
        let mut turn = None;
        loop {
            let lock = self.locks.take(room_id).await;
            let outcome = self.attempt(room_id, attempt, &mut checks, &mut change)?;
            drop(lock);
            match outcome {
                Attempt::Written(value, pending) => {
                    drop(turn);
                    pending.await?;
                    return Ok(value);
                }
                Attempt::Conflict => {}
                Attempt::Unsigned if attempt >= ATTEMPTS => return Err(unsettled()),
                Attempt::Unsigned if checks.makes_events() && turn.is_none() => {
                    turn = Some(self.policy_turns.take(room_id).await);
                    checks.start_over();
                }
                Attempt::Unsigned => self.ask_policy_servers(&mut checks).await?,
            }
            attempt += 1;
        }
    }

    /// Changes a room if it does not change meanwhile.
    pub(crate) fn attempt<T>(
        &self,
        room_id: &RoomId,
        attempt: usize,
        checks: &mut PolicyChecks,
        change: &mut impl FnMut(&mut Assembly<'_>) -> Result<T>,
    ) -> Result<Attempt<T>> {
        let mut room = Assembly::open(self, room_id)?
            .ok_or_else(|| Error::not_found("this server does not know that room"))?;
        room.attempt = attempt;
        room.policy = mem::take(checks);
        let changed = change(&mut room);
        *checks = mem::take(&mut room.policy);
        match changed {
            // What was read while the head moved need not fit together.
            Err(_) if attempt < ATTEMPTS && room.has_moved()? => {
                checks.start_over();
                Ok(Attempt::Conflict)
            }
            Err(error) => Err(error),
            Ok(_) if checks.lacks_signatures() => Ok(Attempt::Unsigned),
            Ok(value) => Ok(match unless_conflict(room.write(), attempt)? {
                Some(pending) => Attempt::Written(value, pending),
                None => {
                    checks.start_over();
                    Attempt::Conflict
                }
            }),
        }
    }

    /// Sends one event.
    ///
    /// # Errors
    /// As [`Graph::transact`]; `M_FORBIDDEN` if the auth rules refuse the event.
    pub async fn send(&self, draft: Draft, effects: Effects) -> Result<Appended> {
        let room_id = draft.room_id.clone();
        self.transact(&room_id, |room| room.append(draft.clone(), effects.clone())).await
    }

    /// An event as it would be sent now, without hashes and signatures, for the server of its sender to sign.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if the room is not here, `M_FORBIDDEN` if the auth rules refuse the event.
    pub fn template(&self, draft: Draft) -> Result<CanonicalJsonObject> {
        let room = Assembly::open(self, &draft.room_id)?
            .ok_or_else(|| Error::not_found("this server does not know that room"))?;
        let mut event = build::build(&room, draft)?
            .pdu
            .to_canonical_object()
            .map_err(|error| Error::internal("a built event is not canonical", error))?;
        event.remove("hashes");
        event.remove("signatures");
        Ok(event)
    }

    /// An event that another server signed, with the signature of this server too.
    ///
    /// # Errors
    /// `M_TOO_LARGE` if it is over its limit.
    pub fn countersign(
        &self,
        event: &mut CanonicalJsonObject,
        rules: &RoomVersionRules,
    ) -> Result<Box<RawValue>> {
        event.remove("unsigned");
        rules::hash_and_sign(event, rules, &self.server, &self.keys.current())?;
        rules::to_json(event)
    }

    /// Creates a room with everything that `fill` appends, in one batch. `fill` runs again if a row that it
    /// required has changed by the time the batch is written.
    ///
    /// # Errors
    /// As [`Graph::transact`]; `M_UNSUPPORTED_ROOM_VERSION`.
    pub async fn create<T>(
        &self,
        new_room: NewRoom,
        mut fill: impl FnMut(&mut Assembly<'_>) -> Result<T>,
    ) -> Result<(OwnedRoomId, T)> {
        let NewRoom { version, mut create } = new_room;
        let version_rules = rules::version_rules(&version)?;
        create.event_type = TimelineEventType::RoomCreate;
        create.state_key = Some(String::new());
        create.room_id = self.random_room_id()?;
        let mut attempt = 1;
        loop {
            let (authorized, lock) = self.unique_create(create.clone(), &version_rules).await?;
            let room_id = authorized.pdu.room_id.clone();
            let mut room = Assembly::create(self, authorized, &version, version_rules.clone())?;
            room.attempt = attempt;
            let value = fill(&mut room)?;
            if room.policy.lacks_signatures() {
                return Err(Error::forbidden("a new room cannot use a policy server yet"));
            }
            let written = unless_conflict(room.write(), attempt)?;
            drop(lock);
            if let Some(pending) = written {
                pending.await?;
                return Ok((room_id, value));
            }
            attempt += 1;
        }
    }

    /// A create event whose room does not exist, with that room's lock. Where the room's id is the
    /// event's hash, two rooms that one user makes in the same millisecond would be one; the second
    /// is dated a millisecond later.
    async fn unique_create(
        &self,
        mut create: Draft,
        version: &RoomVersionRules,
    ) -> Result<(Authorized, RoomLock)> {
        loop {
            let authorized = build::create(self, create.clone(), version)?;
            let room_id = &authorized.pdu.room_id;
            let lock = self.locks.take(room_id).await;
            let latest = self.db.latest();
            let taken = match self.intern().lookup_room(&latest, room_id)? {
                Some(room) => latest.contains(&HEAD_BY_ROOM, &room)?,
                None => false,
            };
            if !taken {
                return Ok((authorized, lock));
            }
            let dated = authorized.pdu.origin_server_ts;
            create.origin_server_ts = Some(dated.after(Duration::from_millis(1)));
        }
    }

    /// Creates a room from a create event that was received.
    pub(crate) async fn create_received(
        &self,
        create: Authorized,
        version: RoomVersionId,
        version_rules: RoomVersionRules,
    ) -> Result<OwnedRoomId> {
        let room_id = create.pdu.room_id.clone();
        let lock = self.locks.take(&room_id).await;
        let pending = Assembly::create(self, create, &version, version_rules)?.write()?;
        drop(lock);
        pending.await?;
        Ok(room_id)
    }

    fn random_room_id(&self) -> Result<OwnedRoomId> {
        let local = self.random.letters(18);
        RoomId::parse(format!("!{local}:{}", self.server))
            .map_err(|error| Error::internal("could not make a room id", error))
    }

    /// The durability of every change of a room.
    pub(crate) const DURABILITY: Durability = Durability::Synced;
}

/// What was written; `None` if it was a conflict and can be tried once more.
pub(crate) fn unless_conflict(
    written: wick_database::Result<Pending>,
    attempt: usize,
) -> Result<Option<Pending>> {
    match written {
        Ok(pending) => Ok(Some(pending)),
        Err(error) if error.is_conflict() && attempt < ATTEMPTS => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The error of a change that never came to its end, because the room changed each time before its policy server had signed.
pub(crate) fn unsettled() -> Error {
    let source = "the room changes faster than its policy server signs";
    Error::internal("a change of a room with a policy server", source)
}
