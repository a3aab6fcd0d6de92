//! Waiting for commits.
//!
//! Register, read, then wait: whatever was published after the registration ends the wait, also if
//! it happened before [`Watch::changed`] was called. A wait can end without need; it never misses.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::watch;
use wick_core::{ShortRoomId, ShortUserId};

/// Something that commits touch and readers wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// A room: tables declared with `wakes_room`.
    Room(ShortRoomId),
    /// A user: tables declared with `wakes_user`.
    User(ShortUserId),
    /// The memberships of a user: tables declared with `wakes_member`.
    Member(ShortUserId),
    /// A table, by its name: those declared with `wakes_table`.
    Table(&'static str),
    /// Every commit that has a position. For consumers that follow the whole stream.
    Stream,
    /// Something else that a batch names with [`Batch::wake`](crate::Batch::wake).
    Named(&'static str),
    /// One of many things of a kind that a batch names with [`Batch::wake`](crate::Batch::wake).
    Numbered(&'static str, u64),
}

const SHARDS: usize = 16;

/// What a wake marks as changed. It never has a value.
type Bell = watch::Sender<()>;

/// The watches of each topic, by their number: a room can have very many.
type Shard = HashMap<Topic, HashMap<u64, Arc<Bell>>>;

/// The watches of each topic.
#[derive(Default)]
pub(crate) struct Registry {
    shards: [Mutex<Shard>; SHARDS],
    hasher: RandomState,
    watches: AtomicU64,
}

impl Registry {
    fn shard(&self, topic: Topic) -> MutexGuard<'_, Shard> {
        let hash = self.hasher.hash_one(topic);
        let [first, ..] = &self.shards;
        let index = usize::try_from(hash >> 32).unwrap_or_default() % SHARDS;
        self.shards.get(index).unwrap_or(first).lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the waits for `topics`.
    pub(crate) fn wake(&self, topics: &[Topic]) {
        for topic in topics {
            // Woken after the lock is given back: a task of a runtime that is shut down can be dropped
            // by the waker, and takes its watch out of the registry.
            let bells: Vec<_> = self
                .shard(*topic)
                .get(topic)
                .into_iter()
                .flat_map(HashMap::values)
                .cloned()
                .collect();
            for bell in bells {
                bell.send_replace(());
            }
        }
    }

    fn register(&self, topic: Topic, number: u64, bell: &Arc<Bell>) {
        self.shard(topic).entry(topic).or_default().insert(number, Arc::clone(bell));
    }

    fn forget(&self, topic: Topic, number: u64) {
        let mut shard = self.shard(topic);
        if let Some(waiters) = shard.get_mut(&topic) {
            waiters.remove(&number);
            if waiters.is_empty() {
                shard.remove(&topic);
            }
        }
    }
}

#[cfg(test)]
impl Registry {
    pub(crate) fn is_empty(&self) -> bool {
        self.shards.iter().all(|shard| shard.lock().unwrap().is_empty())
    }
}

#[cfg(test)]
impl Watch {
    pub(crate) fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }
}

/// Waits for commits that touch any of its topics. Made by [`Database::watch`](crate::Database::watch).
///
/// Registered from the moment a topic is added until it is removed, or the watch dropped.
pub struct Watch {
    registry: Arc<Registry>,
    number: u64,
    bell: Arc<Bell>,
    heard: watch::Receiver<()>,
    topics: HashSet<Topic>,
}

/// Waits for the commits that a [`Watch`] is registered for, beside others that do.
pub struct Listener {
    heard: watch::Receiver<()>,
}

impl Listener {
    /// Resolves once a commit that touches a topic of the watch was published since the listener was
    /// made, or since the last time this resolved; never once the watch is dropped. Dropping the future
    /// loses nothing.
    pub async fn changed(&mut self) {
        changed(&mut self.heard).await;
    }
}

async fn changed(heard: &mut watch::Receiver<()>) {
    if heard.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

impl Watch {
    pub(crate) fn new(registry: Arc<Registry>) -> Self {
        let number = registry.watches.fetch_add(1, Ordering::Relaxed);
        let (bell, heard) = watch::channel(());
        Self { registry, number, bell: Arc::new(bell), heard, topics: HashSet::new() }
    }

    /// Adds a room.
    #[must_use]
    pub fn room(self, room: ShortRoomId) -> Self {
        self.topic(Topic::Room(room))
    }

    /// Adds a user.
    #[must_use]
    pub fn user(self, user: ShortUserId) -> Self {
        self.topic(Topic::User(user))
    }

    /// Adds a topic.
    #[must_use]
    pub fn topic(mut self, topic: Topic) -> Self {
        self.add(topic);
        self
    }

    /// Adds a topic to a watch that is in use already.
    pub fn add(&mut self, topic: Topic) {
        if self.topics.insert(topic) {
            self.registry.register(topic, self.number, &self.bell);
        }
    }

    /// Removes a topic.
    pub fn remove(&mut self, topic: Topic) {
        if self.topics.remove(&topic) {
            self.registry.forget(topic, self.number);
        }
    }

    /// Another waiter for the topics of this watch, also for those that are added later.
    #[must_use]
    pub fn listen(&self) -> Listener {
        Listener { heard: self.bell.subscribe() }
    }

    /// Resolves once a commit that touches a topic was published since the registration, or since
    /// the last time this resolved. Dropping the future loses nothing.
    pub async fn changed(&mut self) {
        changed(&mut self.heard).await;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        for topic in &self.topics {
            self.registry.forget(*topic, self.number);
        }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("topics", &self.topics).finish_non_exhaustive()
    }
}
