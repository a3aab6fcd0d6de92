//! The state tree: a persistent hash array mapped trie from short state keys to short event ids.
//!
//! A subtree of at most [`LEAF_MAX`] entries is one leaf, a larger one a branch of sixteen slots, chosen by
//! the next four bits of the mixed key. A change writes the path to what it changes and shares the rest.
//!
//! Invariants: the form of a tree depends on its entries alone, so equal states have equal roots, whatever
//! the order in which they came to be. No node is empty; the empty tree is [`StateRoot::EMPTY`].

use std::{collections::BTreeMap, sync::Arc};

use wick_core::{Error, Result, ShortEventId, ShortStateKey, StateRoot};

use super::node::{Entry, Node, address};

/// The most entries a leaf holds. A small room is one node.
pub(crate) const LEAF_MAX: u64 = 32;

/// Where nodes are read from.
pub(crate) trait Nodes {
    /// The node at an address.
    fn load(&self, at: StateRoot) -> Result<Arc<Node>>;
}

/// Where nodes are written to as well.
pub(crate) trait NodesMut: Nodes {
    /// Keeps a node, which may be there already.
    fn store(&mut self, at: StateRoot, node: Node, bytes: Vec<u8>);
}

/// What becomes of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateChange {
    /// The piece of state.
    pub key: ShortStateKey,
    /// The event that set it before.
    pub old: Option<ShortEventId>,
    /// The event that sets it now.
    pub new: Option<ShortEventId>,
}

/// A wanted change with the path to it.
struct Edit {
    path: u64,
    key: ShortStateKey,
    event: Option<ShortEventId>,
}

/// The event at a key.
pub(crate) fn get(
    nodes: &impl Nodes,
    mut at: StateRoot,
    key: ShortStateKey,
) -> Result<Option<ShortEventId>> {
    let path = mix(key);
    for depth in 0.. {
        if at == StateRoot::EMPTY {
            break;
        }
        match &*nodes.load(at)? {
            Node::Leaf(entries) => {
                return Ok(entries.iter().find_map(|(k, event)| (*k == key).then_some(*event)));
            }
            Node::Branch { children, .. } => at = Node::child(children, slot(path, depth)),
        }
    }
    Ok(None)
}

/// The number of entries.
pub(crate) fn count(nodes: &impl Nodes, root: StateRoot) -> Result<u64> {
    Ok(load(nodes, root)?.map_or(0, |node| node.count()))
}

/// Sets (`Some`) and removes (`None`) keys; gives the root of the changed tree. Only nodes that did not exist
/// in the tree at `root` are stored, and none that is not part of the result.
pub(crate) fn apply(
    nodes: &mut impl NodesMut,
    root: StateRoot,
    changes: impl IntoIterator<Item = (ShortStateKey, Option<ShortEventId>)>,
) -> Result<StateRoot> {
    let changes: BTreeMap<_, _> = changes.into_iter().collect();
    let mut edits: Vec<_> =
        changes.into_iter().map(|(key, event)| Edit { path: mix(key), key, event }).collect();
    edits.sort_unstable_by_key(|edit| edit.path);
    let old = load(nodes, root)?;
    match edited(nodes, old.as_deref(), 0, &edits)? {
        Some(node) => Ok(keep(nodes, root, node)),
        None => Ok(StateRoot::EMPTY),
    }
}

/// All entries, ascending by key.
pub(crate) fn collect(nodes: &impl Nodes, root: StateRoot) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    if let Some(node) = load(nodes, root)? {
        gather(nodes, &node, &mut entries)?;
    }
    entries.sort_unstable();
    Ok(entries)
}

/// What differs between two trees, ascending by key. Shared subtrees are not visited.
pub(crate) fn diff(nodes: &impl Nodes, old: StateRoot, new: StateRoot) -> Result<Vec<StateChange>> {
    let mut changes = Vec::new();
    differences(nodes, old, new, &mut changes)?;
    changes.sort_unstable_by_key(|change| change.key);
    Ok(changes)
}

/// Calls `visit` for each address in the tree, parents first; it returns whether to descend.
pub(crate) fn walk(
    nodes: &impl Nodes,
    root: StateRoot,
    visit: &mut impl FnMut(StateRoot) -> Result<bool>,
) -> Result<()> {
    if root == StateRoot::EMPTY || !visit(root)? {
        return Ok(());
    }
    if let Node::Branch { children, .. } = &*nodes.load(root)? {
        for (_, child) in children {
            walk(nodes, *child, visit)?;
        }
    }
    Ok(())
}

/// The subtree `old` with edits; not stored itself, but all below it is.
fn edited(
    nodes: &mut impl NodesMut,
    old: Option<&Node>,
    depth: u32,
    edits: &[Edit],
) -> Result<Option<Node>> {
    match old {
        None => build(nodes, edits.iter().filter_map(|e| Some((e.key, e.event?))).collect(), depth),
        Some(Node::Leaf(entries)) => {
            let mut entries: BTreeMap<_, _> = entries.iter().copied().collect();
            for edit in edits {
                match edit.event {
                    Some(event) => entries.insert(edit.key, event),
                    None => entries.remove(&edit.key),
                };
            }
            build(nodes, entries.into_iter().collect(), depth)
        }
        Some(Node::Branch { count, children }) => {
            edited_branch(nodes, *count, children, depth, edits)
        }
    }
}

fn edited_branch(
    nodes: &mut impl NodesMut,
    mut count: u64,
    children: &[(u8, StateRoot)],
    depth: u32,
    edits: &[Edit],
) -> Result<Option<Node>> {
    let mut changed: BTreeMap<u8, Option<Node>> = BTreeMap::new();
    for edits in edits.chunk_by(|a, b| slot(a.path, depth) == slot(b.path, depth)) {
        let Some(first) = edits.first() else { continue };
        let slot = slot(first.path, depth);
        let old = load(nodes, Node::child(children, slot))?;
        let new = edited(nodes, old.as_deref(), depth.saturating_add(1), edits)?;
        let after = new.as_ref().map_or(0, Node::count);
        count = count.saturating_sub(old.map_or(0, |old| old.count())).saturating_add(after);
        changed.insert(slot, new);
    }
    let untouched = children.iter().filter(|(slot, _)| !changed.contains_key(slot)).copied();
    if count <= LEAF_MAX {
        let mut entries = Vec::new();
        for (_, at) in untouched {
            gather(nodes, &*nodes.load(at)?, &mut entries)?;
        }
        for node in changed.values().flatten() {
            gather(nodes, node, &mut entries)?;
        }
        return build(nodes, entries, depth);
    }
    let mut after: Vec<_> = untouched.collect();
    for (slot, node) in changed {
        if let Some(node) = node {
            after.push((slot, keep(nodes, Node::child(children, slot), node)));
        }
    }
    after.sort_unstable();
    Ok(Some(Node::Branch { count, children: after }))
}

/// The subtree of these entries; not stored itself, but all below it is.
fn build(nodes: &mut impl NodesMut, mut entries: Vec<Entry>, depth: u32) -> Result<Option<Node>> {
    let count = u64::try_from(entries.len()).unwrap_or(u64::MAX);
    if count <= LEAF_MAX {
        entries.sort_unstable();
        return Ok((count > 0).then_some(Node::Leaf(entries)));
    }
    let mut slots: BTreeMap<u8, Vec<Entry>> = BTreeMap::new();
    for entry in entries {
        slots.entry(slot(mix(entry.0), depth)).or_default().push(entry);
    }
    let mut children = Vec::with_capacity(slots.len());
    for (slot, entries) in slots {
        if let Some(node) = build(nodes, entries, depth.saturating_add(1))? {
            children.push((slot, keep(nodes, StateRoot::EMPTY, node)));
        }
    }
    Ok(Some(Node::Branch { count, children }))
}

/// Stores a node unless it is what was there before.
fn keep(nodes: &mut impl NodesMut, before: StateRoot, node: Node) -> StateRoot {
    let bytes = node.encode();
    let at = address(&bytes);
    if at != before {
        nodes.store(at, node, bytes);
    }
    at
}

fn load(nodes: &impl Nodes, at: StateRoot) -> Result<Option<Arc<Node>>> {
    if at == StateRoot::EMPTY { Ok(None) } else { nodes.load(at).map(Some) }
}

fn gather(nodes: &impl Nodes, node: &Node, entries: &mut Vec<Entry>) -> Result<()> {
    match node {
        Node::Leaf(own) => entries.extend(own),
        Node::Branch { children, .. } => {
            for (_, child) in children {
                gather(nodes, &*nodes.load(*child)?, entries)?;
            }
        }
    }
    Ok(())
}

fn differences(
    nodes: &impl Nodes,
    old: StateRoot,
    new: StateRoot,
    changes: &mut Vec<StateChange>,
) -> Result<()> {
    if old == new {
        return Ok(());
    }
    let (old, new) = (load(nodes, old)?, load(nodes, new)?);
    if let (Some(Node::Branch { children: old, .. }), Some(Node::Branch { children: new, .. })) =
        (old.as_deref(), new.as_deref())
    {
        return (0..16).try_for_each(|slot| {
            differences(nodes, Node::child(old, slot), Node::child(new, slot), changes)
        });
    }
    // One of them is at most a leaf, so the other is no larger than that leaf and the difference together.
    let mut pairs: BTreeMap<ShortStateKey, (Option<ShortEventId>, Option<ShortEventId>)> =
        BTreeMap::new();
    let mut entries = Vec::new();
    if let Some(old) = old {
        gather(nodes, &old, &mut entries)?;
    }
    for (key, event) in entries.drain(..) {
        pairs.entry(key).or_default().0 = Some(event);
    }
    if let Some(new) = new {
        gather(nodes, &new, &mut entries)?;
    }
    for (key, event) in entries {
        pairs.entry(key).or_default().1 = Some(event);
    }
    let differing = pairs.into_iter().filter(|(_, (old, new))| old != new);
    changes.extend(differing.map(|(key, (old, new))| StateChange { key, old, new }));
    Ok(())
}

/// The path of a key: its bits mixed, so that keys given out in sequence spread over the tree. One to one
/// (the finaliser of SplitMix64), so two keys never share a whole path.
fn mix(key: ShortStateKey) -> u64 {
    let mut bits = key.0;
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// The slot that a path takes at a depth: its next four bits.
fn slot(path: u64, depth: u32) -> u8 {
    let [.., low] = path.rotate_left(depth.saturating_add(1).saturating_mul(4)).to_be_bytes();
    low & 0xf
}

/// The error for an address without a node.
pub(crate) fn missing(at: StateRoot) -> Error {
    Error::corrupt(format!("state node {at:?} is missing or broken"))
}

#[cfg(test)]
mod tests;
