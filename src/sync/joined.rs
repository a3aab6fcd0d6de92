//! The rooms that a user is in, in memory, and a standing watch on them: so that neither a request nor
//! its wait goes through all of them.
//!
//! Invariant: evicted by commits to `MEMBER_BY_USER`; a cached set equals what the snapshot of the request
//! says, or it is read anew.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use quick_cache::sync::Cache;
use wick_core::{Position, Result, ShortRoomId, ShortUserId};
use wick_database::{Database, Listener, Snapshot, Topic, Watch};
use wick_room::shared_rooms::{MANY_ROOMS, joined_rooms};

/// Users that are remembered.
const USERS: usize = 10_000;

/// The ids of rooms that a user is in.
pub type JoinedRooms = Arc<HashSet<ShortRoomId>>;

/// The joined rooms of users that synced recently.
pub(crate) struct Joined {
    database: Database,
    users: Cache<ShortUserId, Arc<Mutex<User>>>,
}

/// One user's joined rooms, as they were at a position.
struct User {
    at: Option<Position>,
    rooms: JoinedRooms,
    /// On the user, on each of the rooms, and on users in many rooms.
    watch: Watch,
}

/// Waits for what concerns a user. Keeps their standing watch while it is there.
pub(crate) struct News {
    listener: Listener,
    user: ShortUserId,
    entry: Arc<Mutex<User>>,
}

impl News {
    /// Resolves once something was committed that may belong in a sync of the user.
    pub(crate) async fn changed(&mut self) {
        self.listener.changed().await;
    }
}

impl Joined {
    pub(crate) fn new(database: Database) -> Self {
        Self { database, users: Cache::new(USERS) }
    }

    /// The rooms that a user is in, at a snapshot.
    pub(crate) fn rooms(&self, read: &Snapshot, user: ShortUserId) -> Result<JoinedRooms> {
        self.refresh(&self.entry(user), read, user)
    }

    /// Listens to what concerns a user from now on. Their rooms are added by [`Joined::register`].
    pub(crate) fn listen(&self, user: ShortUserId) -> News {
        let entry = self.entry(user);
        let listener = lock(&entry).watch.listen();
        News { listener, user, entry }
    }

    /// Registers `news` for the rooms that its user is in by now. A room that they join later wakes it.
    /// What is read from a later snapshot misses nothing.
    pub(crate) fn register(&self, news: &News) -> Result<()> {
        self.refresh(&news.entry, &self.database.published(), news.user).map(drop)
    }

    fn refresh(
        &self,
        entry: &Mutex<User>,
        read: &Snapshot,
        user: ShortUserId,
    ) -> Result<JoinedRooms> {
        let mut entry = lock(entry);
        let at = read.position();
        let is_current =
            |known: Position| !self.database.is_member_changed_since(user, known.min(at));
        if entry.at.is_some_and(is_current) {
            return Ok(Arc::clone(&entry.rooms));
        }
        let rooms = Arc::new(joined_rooms(read, user).collect::<Result<HashSet<_>>>()?);
        if entry.at.is_none_or(|known| known <= at) {
            entry.replace(at, Arc::clone(&rooms));
        }
        Ok(rooms)
    }

    fn entry(&self, user: ShortUserId) -> Arc<Mutex<User>> {
        let new = || -> Result<_, std::convert::Infallible> {
            let watch = self.database.watch().user(user).topic(Topic::Member(user));
            let watch = watch.topic(MANY_ROOMS);
            Ok(Arc::new(Mutex::new(User { at: None, rooms: Arc::default(), watch })))
        };
        match self.users.get_or_insert_with(&user, new) {
            Ok(entry) => entry,
            Err(never) => match never {},
        }
    }
}

impl User {
    fn replace(&mut self, at: Position, rooms: JoinedRooms) {
        for room in rooms.difference(&self.rooms) {
            self.watch.add(Topic::Room(*room));
        }
        for room in self.rooms.difference(&rooms) {
            self.watch.remove(Topic::Room(*room));
        }
        (self.at, self.rooms) = (Some(at), rooms);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
