//! Waiting for commits.
//!
//! Register, read, then wait: whatever was published after the registration ends the wait, also if
//! it happened before [`Watch::changed`] was called. A wait can end without need; it never misses.

use std::{
    collections::HashMap,
    fmt,
    hash::BuildHasher,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;
use wick_core::{ShortRoomId, ShortUserId};

/// Something that commits touch and readers wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// A room: tables declared with `wakes_room`.
    Room(ShortRoomId),
    /// A user: tables declared with `wakes_user`.
    User(ShortUserId),
    /// Every commit that has a position. For consumers that follow the whole stream.
    Stream,
    /// Something else that a batch names with [`Batch::wake`](crate::Batch::wake).
    Named(&'static str),
    /// One of many things of a kind that a batch names with [`Batch::wake`](crate::Batch::wake).
    Numbered(&'static str, u64),
}

const SHARDS: usize = 16;

type Shard = HashMap<Topic, Vec<Arc<Notify>>>;

/// Who waits for what.
#[derive(Default)]
pub(crate) struct Registry {
    shards: [Mutex<Shard>; SHARDS],
    hasher: std::hash::RandomState,
}

impl Registry {
    fn shard(&self, topic: Topic) -> MutexGuard<'_, Shard> {
        let hash = self.hasher.hash_one(topic);
        let index = usize::try_from(hash % 16).unwrap_or_default();
        let shard = self.shards.get(index).unwrap_or(&self.shards[0]);
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the waits for `topics`.
    pub(crate) fn wake(&self, topics: &[Topic]) {
        for topic in topics {
            for waiter in self.shard(*topic).get(topic).into_iter().flatten() {
                waiter.notify_one();
            }
        }
    }

    fn register(&self, topic: Topic, waiter: &Arc<Notify>) {
        self.shard(topic).entry(topic).or_default().push(Arc::clone(waiter));
    }

    fn forget(&self, topic: Topic, waiter: &Arc<Notify>) {
        let mut shard = self.shard(topic);
        if let Some(waiters) = shard.get_mut(&topic) {
            waiters.retain(|other| !Arc::ptr_eq(other, waiter));
            if waiters.is_empty() {
                shard.remove(&topic);
            }
        }
    }
}

/// Waits for commits that touch any of its topics. Made by [`Database::watch`](crate::Database::watch).
///
/// Registered from the moment a topic is added until it is dropped.
pub struct Watch {
    registry: Arc<Registry>,
    waiter: Arc<Notify>,
    topics: Vec<Topic>,
}

impl Watch {
    pub(crate) fn new(registry: Arc<Registry>) -> Self {
        Self { registry, waiter: Arc::default(), topics: Vec::new() }
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
        self.registry.register(topic, &self.waiter);
        self.topics.push(topic);
    }

    /// Resolves once a commit that touches a topic was published since the registration, or since
    /// the last time this resolved. Dropping the future loses nothing.
    pub async fn changed(&mut self) {
        self.waiter.notified().await;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        for topic in &self.topics {
            self.registry.forget(*topic, &self.waiter);
        }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("topics", &self.topics).finish_non_exhaustive()
    }
}
