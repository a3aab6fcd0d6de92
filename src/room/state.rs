//! The versions of a room's state: immutable trees that share what they have in common.
//!
//! Invariants: a root names one state for ever; equal states have one root; a state event costs a path of
//! nodes, not a copy of the state. The cache holds nodes by content hash, so it is never stale.

pub(crate) mod node;
pub(crate) mod tree;

use std::sync::Arc;

use quick_cache::{Weighter, sync::Cache};
use wick_core::{Result, ShortEventId, ShortStateKey, StateRoot};
use wick_database::{Batch, Read, schema::state::STATE_NODE_BY_HASH};

use self::{
    node::Node,
    tree::{Nodes, NodesMut},
};

pub use self::tree::StateChange;

/// Reads and writes state trees, through a cache of their nodes.
#[derive(Clone)]
pub struct States {
    cache: Arc<Cache<StateRoot, Arc<Node>, ByBytes>>,
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<StateRoot, Arc<Node>> for ByBytes {
    fn weight(&self, _at: &StateRoot, node: &Arc<Node>) -> u64 {
        node.weight()
    }
}

impl States {
    /// With a cache of about `cache_bytes` bytes.
    #[must_use]
    pub fn new(cache_bytes: u64) -> Self {
        // The estimate sizes the cache's tables; a usual node takes some three hundred bytes.
        let nodes = usize::try_from(cache_bytes / 300).unwrap_or(usize::MAX);
        Self { cache: Arc::new(Cache::with_weighter(nodes, cache_bytes, ByBytes)) }
    }

    /// The event that sets a piece of state.
    ///
    /// # Errors
    /// If the storage fails or the tree is damaged.
    pub fn get(
        &self,
        read: &impl Read,
        root: StateRoot,
        key: ShortStateKey,
    ) -> Result<Option<ShortEventId>> {
        tree::get(&View { states: self, read }, root, key)
    }

    /// The state with one piece set to an event. Sees what `batch` wrote before.
    ///
    /// # Errors
    /// If the storage fails or the tree is damaged.
    pub fn insert(
        &self,
        batch: &mut Batch,
        root: StateRoot,
        key: ShortStateKey,
        event: ShortEventId,
    ) -> Result<StateRoot> {
        self.apply(batch, root, [(key, Some(event))])
    }

    /// The state without one piece.
    ///
    /// # Errors
    /// If the storage fails or the tree is damaged.
    pub fn remove(
        &self,
        batch: &mut Batch,
        root: StateRoot,
        key: ShortStateKey,
    ) -> Result<StateRoot> {
        self.apply(batch, root, [(key, None)])
    }

    /// The state with pieces set (`Some`) and removed (`None`) at once, which writes no tree in between.
    ///
    /// # Errors
    /// If the storage fails or the tree is damaged.
    pub fn apply(
        &self,
        batch: &mut Batch,
        root: StateRoot,
        changes: impl IntoIterator<Item = (ShortStateKey, Option<ShortEventId>)>,
    ) -> Result<StateRoot> {
        tree::apply(&mut Writer { states: self, batch }, root, changes)
    }

    /// The state of exactly these entries.
    ///
    /// # Errors
    /// Never for a sound storage: nothing is read.
    pub fn from_entries(
        &self,
        batch: &mut Batch,
        entries: impl IntoIterator<Item = (ShortStateKey, ShortEventId)>,
    ) -> Result<StateRoot> {
        let changes = entries.into_iter().map(|(key, event)| (key, Some(event)));
        self.apply(batch, StateRoot::EMPTY, changes)
    }

    /// The number of pieces of state.
    ///
    /// # Errors
    /// If the storage fails or the tree is damaged.
    pub fn count(&self, read: &impl Read, root: StateRoot) -> Result<u64> {
        tree::count(&View { states: self, read }, root)
    }

    /// The whole state, ascending by key.
    ///
    /// # Errors
    /// If the storage fails or the tree is damaged.
    pub fn collect(
        &self,
        read: &impl Read,
        root: StateRoot,
    ) -> Result<Vec<(ShortStateKey, ShortEventId)>> {
        tree::collect(&View { states: self, read }, root)
    }

    /// What differs between two states, ascending by key; costs as much as differs.
    ///
    /// # Errors
    /// If the storage fails or a tree is damaged.
    pub fn diff(
        &self,
        read: &impl Read,
        old: StateRoot,
        new: StateRoot,
    ) -> Result<Vec<StateChange>> {
        tree::diff(&View { states: self, read }, old, new)
    }

    /// Calls `visit` for each node of a state, parents first; it returns whether to descend. Reads past the
    /// cache, so that a node that is only remembered does not count as stored.
    ///
    /// # Errors
    /// If the storage fails or a node is missing or damaged.
    pub(crate) fn walk(
        read: &impl Read,
        root: StateRoot,
        visit: &mut impl FnMut(StateRoot) -> Result<bool>,
    ) -> Result<()> {
        tree::walk(&Stored(read), root, visit)
    }

    /// As [`States::collect`], past the cache.
    ///
    /// # Errors
    /// If the storage fails or a node is missing or damaged.
    pub(crate) fn collect_stored(
        read: &impl Read,
        root: StateRoot,
    ) -> Result<Vec<(ShortStateKey, ShortEventId)>> {
        tree::collect(&Stored(read), root)
    }

    /// Whether there is a sound node at this address.
    ///
    /// # Errors
    /// If the storage fails.
    pub(crate) fn is_stored(read: &impl Read, at: StateRoot) -> Result<bool> {
        let bytes = read.get(&STATE_NODE_BY_HASH, &at.0)?;
        Ok(bytes.is_some_and(|bytes| node::address(&bytes) == at && Node::decode(&bytes).is_some()))
    }
}

/// The stored nodes alone.
struct Stored<'a, R>(&'a R);

impl<R: Read> Nodes for Stored<'_, R> {
    fn load(&self, at: StateRoot) -> Result<Arc<Node>> {
        let bytes = self.0.get(&STATE_NODE_BY_HASH, &at.0)?.ok_or_else(|| tree::missing(at))?;
        Node::decode(&bytes).map(Arc::new).ok_or_else(|| tree::missing(at))
    }
}

/// Stored nodes through the cache.
struct View<'a, R> {
    states: &'a States,
    read: &'a R,
}

impl<R: Read> Nodes for View<'_, R> {
    fn load(&self, at: StateRoot) -> Result<Arc<Node>> {
        if let Some(node) = self.states.cache.get(&at) {
            return Ok(node);
        }
        let node = Stored(self.read).load(at)?;
        self.states.cache.insert(at, Arc::clone(&node));
        Ok(node)
    }
}

/// A batch that nodes are written to.
struct Writer<'a> {
    states: &'a States,
    batch: &'a mut Batch,
}

impl Nodes for Writer<'_> {
    fn load(&self, at: StateRoot) -> Result<Arc<Node>> {
        View { states: self.states, read: &*self.batch }.load(at)
    }
}

impl NodesMut for Writer<'_> {
    fn store(&mut self, at: StateRoot, node: Node, bytes: Vec<u8>) {
        // Always written, even if it is remembered: the batch that wrote it before may have failed.
        self.batch.put(&STATE_NODE_BY_HASH, &at.0, &bytes);
        self.states.cache.insert(at, Arc::new(node));
    }
}

#[cfg(test)]
mod tests {
    use wick_database::{Database, Durability, Options};

    use super::*;

    #[tokio::test]
    async fn a_state_is_read_after_its_batch_was_written_and_within_it_before() {
        let folder = tempfile::tempdir().unwrap();
        let db = Database::open(folder.path(), Options::default()).unwrap();
        let states = States::new(1 << 20);
        let mut batch = db.batch();
        let mut root = StateRoot::EMPTY;
        for n in 0..100 {
            root = states.insert(&mut batch, root, ShortStateKey(n), ShortEventId(n)).unwrap();
        }
        let removed = states.remove(&mut batch, root, ShortStateKey(99)).unwrap();
        let key = ShortStateKey(99);
        assert_eq!(states.get(&batch, root, key).unwrap(), Some(ShortEventId(99)));
        assert!(States::collect_stored(&db.latest(), root).is_err());
        db.commit(batch, Durability::Flushed).await.unwrap();

        let (cold, read) = (States::new(1 << 20), db.published());
        assert_eq!(cold.get(&read, root, key).unwrap(), Some(ShortEventId(99)));
        assert_eq!(cold.get(&read, removed, key).unwrap(), None);
        assert_eq!(cold.collect(&read, root).unwrap().len(), 100);
        assert_eq!(cold.diff(&read, root, removed).unwrap().len(), 1);
        assert_eq!(cold.count(&read, removed).unwrap(), 99);
        db.close().await.unwrap();
    }

    #[tokio::test]
    async fn nodes_remembered_from_a_batch_that_failed_are_written_again() {
        let folder = tempfile::tempdir().unwrap();
        let db = Database::open(folder.path(), Options::default()).unwrap();
        let states = States::new(1 << 20);
        let entries = || (0..100).map(|n| (ShortStateKey(n), ShortEventId(n)));
        let root = states.from_entries(&mut db.batch(), entries()).unwrap();

        let mut batch = db.batch();
        assert_eq!(states.from_entries(&mut batch, entries()).unwrap(), root);
        db.commit(batch, Durability::Flushed).await.unwrap();
        assert_eq!(States::collect_stored(&db.latest(), root).unwrap().len(), 100);
        db.close().await.unwrap();
    }
}
