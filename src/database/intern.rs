//! Short ids for rooms, users, state keys and events.
//!
//! A name gets its number from a counter, and its rows are part of the batch that needed
//! it. Two batches that need the same new name at once get the same number and both write its rows.
//!
//! Invariants: a name has one number for ever; no number has two names; a number is taken to be
//! stored only after a batch with its rows was written. Numbers of batches that failed are lost, and
//! are given out again only after a restart, when they are in no memory.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use quick_cache::sync::Cache;
use ruma::{
    EventId, OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UserId, events::StateEventType,
};
use wick_core::{ShortEventId, ShortRoomId, ShortStateKey, ShortUserId, StateKeyTuple};

use crate::{
    Batch, Key, KeyLike, Latest, Range, Read, Result, Table, Value,
    schema::intern::{
        EVENT_BY_SHORT, ROOM_BY_SHORT, SHORT_BY_EVENT, SHORT_BY_ROOM, SHORT_BY_STATE_KEY,
        SHORT_BY_USER, STATE_KEY_BY_SHORT, USER_BY_SHORT,
    },
};

/// Gives out short ids and knows those that exist. Got from [`Database::intern`](crate::Database::intern).
///
/// A look-up can answer with a number that the reader's snapshot is too old to have rows about.
pub struct Interner {
    rooms: Arc<Names<OwnedRoomId, ShortRoomId>>,
    users: Arc<Names<OwnedUserId, ShortUserId>>,
    state_keys: Arc<Names<StateKeyTuple, ShortStateKey>>,
    events: Arc<Names<OwnedEventId, ShortEventId>>,
}

impl Interner {
    pub(crate) fn open(latest: &Latest) -> Result<Self> {
        Ok(Self {
            rooms: Names::open(latest, SHORT_BY_ROOM, ROOM_BY_SHORT, 4096)?,
            users: Names::open(latest, SHORT_BY_USER, USER_BY_SHORT, 16384)?,
            state_keys: Names::open(latest, SHORT_BY_STATE_KEY, STATE_KEY_BY_SHORT, 16384)?,
            events: Names::open(latest, SHORT_BY_EVENT, EVENT_BY_SHORT, 32768)?,
        })
    }

    /// The short id of a room; a new one is written by `batch`.
    ///
    /// # Errors
    /// If the tables cannot be read.
    pub fn room(&self, room: &RoomId, batch: &mut Batch) -> Result<ShortRoomId> {
        self.rooms.intern(room, || room.to_owned(), batch)
    }

    /// The short id of a user; a new one is written by `batch`.
    ///
    /// # Errors
    /// If the tables cannot be read.
    pub fn user(&self, user: &UserId, batch: &mut Batch) -> Result<ShortUserId> {
        self.users.intern(user, || user.to_owned(), batch)
    }

    /// The short id of an event type with a state key; a new one is written by `batch`.
    ///
    /// # Errors
    /// If the tables cannot be read.
    pub fn state_key(
        &self,
        event_type: &StateEventType,
        state_key: &str,
        batch: &mut Batch,
    ) -> Result<ShortStateKey> {
        let owned = || (event_type.clone(), state_key.to_owned());
        self.state_keys.intern(&(event_type, state_key), owned, batch)
    }

    /// The short id of an event; a new one is written by `batch`. Numbers grow in the order in which
    /// they are asked for.
    ///
    /// # Errors
    /// If the tables cannot be read.
    pub fn event(&self, event: &EventId, batch: &mut Batch) -> Result<ShortEventId> {
        self.events.intern(event, || event.to_owned(), batch)
    }

    /// The short id of a room, if it has one.
    ///
    /// # Errors
    /// If the table cannot be read.
    pub fn lookup_room(&self, read: &impl Read, room: &RoomId) -> Result<Option<ShortRoomId>> {
        self.rooms.lookup(read, room)
    }

    /// The short id of a user, if it has one.
    ///
    /// # Errors
    /// If the table cannot be read.
    pub fn lookup_user(&self, read: &impl Read, user: &UserId) -> Result<Option<ShortUserId>> {
        self.users.lookup(read, user)
    }

    /// The short id of an event type with a state key, if it has one.
    ///
    /// # Errors
    /// If the table cannot be read.
    pub fn lookup_state_key(
        &self,
        read: &impl Read,
        event_type: &StateEventType,
        state_key: &str,
    ) -> Result<Option<ShortStateKey>> {
        self.state_keys.lookup(read, &(event_type, state_key))
    }

    /// The short id of an event, if it has one.
    ///
    /// # Errors
    /// If the table cannot be read.
    pub fn lookup_event(&self, read: &impl Read, event: &EventId) -> Result<Option<ShortEventId>> {
        self.events.lookup(read, event)
    }

    /// The room of a short id.
    ///
    /// # Errors
    /// If the table cannot be read.
    pub fn room_id(&self, read: &impl Read, short: ShortRoomId) -> Result<Option<OwnedRoomId>> {
        self.rooms.name(read, short)
    }

    /// The user of a short id.
    ///
    /// # Errors
    /// If the table cannot be read.
    pub fn user_id(&self, read: &impl Read, short: ShortUserId) -> Result<Option<OwnedUserId>> {
        self.users.name(read, short)
    }

    /// The event type and state key of a short id.
    ///
    /// # Errors
    /// If the table cannot be read.
    pub fn state_key_tuple(
        &self,
        read: &impl Read,
        short: ShortStateKey,
    ) -> Result<Option<StateKeyTuple>> {
        self.state_keys.name(read, short)
    }

    /// The event id of a short id.
    ///
    /// # Errors
    /// If the table cannot be read.
    pub fn event_id(&self, read: &impl Read, short: ShortEventId) -> Result<Option<OwnedEventId>> {
        self.events.name(read, short)
    }
}

impl fmt::Debug for Interner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interner").finish_non_exhaustive()
    }
}

/// Short ids are numbers.
trait Short: Key + Value + Copy + Send + Sync + std::hash::Hash + Eq + 'static {
    fn from_number(number: u64) -> Self;
    fn number(self) -> u64;
}

macro_rules! shorts {
    ($($short:ident),*) => {$(
        impl Short for $short {
            fn from_number(number: u64) -> Self {
                Self(number)
            }

            fn number(self) -> u64 {
                self.0
            }
        }
    )*};
}

shorts!(ShortEventId, ShortRoomId, ShortStateKey, ShortUserId);

/// One kind of name. Names are kept as their encoded keys.
struct Names<N: 'static, S: 'static> {
    short_by_name: Table<N, S>,
    name_by_short: Table<S, N>,
    /// Numbers whose rows are stored.
    shorts: Cache<Vec<u8>, S>,
    /// Names whose rows are stored.
    names: Cache<S, N>,
    fresh: Mutex<Fresh<S>>,
}

/// Numbers that were given out and of which it is not known that they are stored.
struct Fresh<S> {
    next: u64,
    promised: HashMap<Vec<u8>, Promised<S>>,
}

struct Promised<S> {
    short: S,
    /// How many batches have its rows.
    batches: usize,
}

impl<N, S> Names<N, S>
where
    N: Key + Value + Clone + Send + Sync + 'static,
    S: Short,
{
    fn open(
        latest: &Latest,
        short_by_name: Table<N, S>,
        name_by_short: Table<S, N>,
        capacity: usize,
    ) -> Result<Arc<Self>> {
        let last = latest.scan_back(&name_by_short, Range::all()).keys().next().transpose()?;
        let next = last.map_or(1, |last| last.number().saturating_add(1));
        Ok(Arc::new(Self {
            short_by_name,
            name_by_short,
            shorts: Cache::new(capacity),
            names: Cache::new(capacity),
            fresh: Mutex::new(Fresh { next, promised: HashMap::new() }),
        }))
    }

    fn intern(
        self: &Arc<Self>,
        name: &(impl KeyLike<N> + ?Sized),
        owned: impl FnOnce() -> N,
        batch: &mut Batch,
    ) -> Result<S> {
        let key = name.encoded();
        if let Some(short) = self.lookup_encoded(batch, name, &key)? {
            return Ok(short);
        }
        let short = {
            let mut fresh = self.fresh();
            // A batch with its rows can have been written since the look-up.
            if let Some(short) = batch.get(&self.short_by_name, name)? {
                return Ok(short);
            }
            fresh.promise(&key)
        };
        let kept = Arc::clone(self);
        batch.change.promises.add(move |written| kept.settle(&key, written));
        batch.put(&self.short_by_name, name, &short);
        batch.put(&self.name_by_short, &short, &owned());
        Ok(short)
    }

    fn lookup(&self, read: &impl Read, name: &(impl KeyLike<N> + ?Sized)) -> Result<Option<S>> {
        self.lookup_encoded(read, name, &name.encoded())
    }

    fn lookup_encoded(
        &self,
        read: &impl Read,
        name: &(impl KeyLike<N> + ?Sized),
        key: &[u8],
    ) -> Result<Option<S>> {
        if let Some(short) = self.shorts.get(key) {
            return Ok(Some(short));
        }
        let short = read.get(&self.short_by_name, name)?;
        if let Some(short) = short
            && read.pending(self.short_by_name.name(), key).is_none()
        {
            self.shorts.insert(key.to_vec(), short);
        }
        Ok(short)
    }

    fn name(&self, read: &impl Read, short: S) -> Result<Option<N>> {
        if let Some(name) = self.names.get(&short) {
            return Ok(Some(name));
        }
        let name = read.get(&self.name_by_short, &short)?;
        if let Some(name) = &name
            && read.pending(self.name_by_short.name(), &short.encoded()).is_none()
        {
            self.names.insert(short, name.clone());
        }
        Ok(name)
    }

    fn fresh(&self) -> MutexGuard<'_, Fresh<S>> {
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A batch with the rows of `key` was written, or will never be.
    fn settle(&self, key: &[u8], written: bool) {
        let mut fresh = self.fresh();
        let Some(promised) = fresh.promised.get_mut(key) else { return };
        promised.batches -= 1;
        if written {
            self.shorts.insert(key.to_vec(), promised.short);
        }
        if written || promised.batches == 0 {
            fresh.promised.remove(key);
        }
    }
}

impl<S: Short> Fresh<S> {
    fn promise(&mut self, key: &[u8]) -> S {
        if let Some(promised) = self.promised.get_mut(key) {
            promised.batches += 1;
            return promised.short;
        }
        let short = S::from_number(self.next);
        self.next += 1;
        self.promised.insert(key.to_vec(), Promised { short, batches: 1 });
        short
    }
}

type Settle = Box<dyn FnOnce(bool) + Send + Sync>;

/// What a batch has promised to write. Dropped with a batch that is not written, it takes the promises back.
#[derive(Default)]
pub(crate) struct Promises(Vec<Settle>);

impl Promises {
    fn add(&mut self, settle: impl FnOnce(bool) + Send + Sync + 'static) {
        self.0.push(Box::new(settle));
    }

    /// The batch was written.
    pub(crate) fn keep(mut self) {
        for settle in self.0.drain(..) {
            settle(true);
        }
    }
}

impl Drop for Promises {
    fn drop(&mut self) {
        for settle in self.0.drain(..) {
            settle(false);
        }
    }
}
