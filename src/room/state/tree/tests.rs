//! The state tree against a plain map, and what it costs.

use std::{
    cell::Cell,
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use proptest::prelude::*;

use super::*;

#[derive(Default)]
struct Memory {
    nodes: HashMap<[u8; 16], Vec<u8>>,
    loads: Cell<u64>,
    stores: u64,
}

impl Nodes for Memory {
    fn load(&self, at: StateRoot) -> Result<Arc<Node>> {
        self.loads.set(self.loads.get() + 1);
        let bytes = self.nodes.get(&at.0).ok_or_else(|| missing(at))?;
        Node::decode(bytes).map(Arc::new).ok_or_else(|| missing(at))
    }
}

impl NodesMut for Memory {
    fn store(&mut self, at: StateRoot, _node: Node, bytes: Vec<u8>) {
        self.stores += 1;
        self.nodes.insert(at.0, bytes);
    }
}

type Map = BTreeMap<u64, u64>;

fn entry((key, event): (u64, u64)) -> Entry {
    (ShortStateKey(key), ShortEventId(event))
}

fn built(memory: &mut Memory, map: impl IntoIterator<Item = (u64, u64)>) -> StateRoot {
    let entries = map.into_iter().map(entry).map(|(key, event)| (key, Some(event)));
    apply(memory, StateRoot::EMPTY, entries).unwrap()
}

fn set(memory: &mut Memory, root: StateRoot, key: u64, event: Option<u64>) -> StateRoot {
    apply(memory, root, [(ShortStateKey(key), event.map(ShortEventId))]).unwrap()
}

/// Keys that are dense, sparse, and extreme.
fn key() -> impl Strategy<Value = u64> {
    prop_oneof![6 => 0..200_u64, 1 => any::<u64>(), 1 => (u64::MAX - 3)..=u64::MAX]
}

fn changes() -> impl Strategy<Value = Vec<(u64, Option<u64>)>> {
    prop::collection::vec((key(), prop::option::weighted(0.6, 0..5_u64)), 0..300)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_tree_answers_as_a_plain_map_does(changes in changes()) {
        let (mut memory, mut map, mut root) = (Memory::default(), Map::new(), StateRoot::EMPTY);
        for (key, event) in changes {
            root = set(&mut memory, root, key, event);
            match event {
                Some(event) => map.insert(key, event),
                None => map.remove(&key),
            };
            prop_assert_eq!(get(&memory, root, ShortStateKey(key)).unwrap(), event.map(ShortEventId));
        }
        let expected: Vec<_> = map.iter().map(|(key, event)| entry((*key, *event))).collect();
        prop_assert_eq!(collect(&memory, root).unwrap(), expected);
        prop_assert_eq!(count(&memory, root).unwrap(), map.len() as u64);
        for key in 0..200 {
            let there = map.get(&key).copied().map(ShortEventId);
            prop_assert_eq!(get(&memory, root, ShortStateKey(key)).unwrap(), there);
        }
    }

    #[test]
    fn equal_maps_have_equal_roots_whatever_was_set_and_removed_on_the_way(
        changes in changes(),
        detours in prop::collection::vec((key(), 0..5_u64), 0..100),
    ) {
        let mut memory = Memory::default();
        let (mut map, mut root) = (Map::new(), StateRoot::EMPTY);
        for (key, event) in &detours {
            root = set(&mut memory, root, *key, Some(*event));
        }
        for (key, _) in detours {
            root = set(&mut memory, root, key, None);
        }
        prop_assert_eq!(root, StateRoot::EMPTY);
        for (key, event) in &changes {
            root = set(&mut memory, root, *key, *event);
            match event {
                Some(event) => map.insert(*key, *event),
                None => map.remove(key),
            };
        }
        prop_assert_eq!(root, built(&mut memory, map.clone()));
        prop_assert_eq!(root, built(&mut memory, map.into_iter().rev()));
        let at_once = changes.into_iter().map(|(key, event)| (ShortStateKey(key), event.map(ShortEventId)));
        prop_assert_eq!(root, apply(&mut memory, StateRoot::EMPTY, at_once).unwrap());
    }

    #[test]
    fn a_difference_is_what_differs(
        common in prop::collection::btree_map(key(), 0..3_u64, 0..200),
        old in changes(),
        new in changes(),
    ) {
        let mut memory = Memory::default();
        let base = built(&mut memory, common.clone());
        let mut sides = [(common.clone(), base), (common, base)];
        for ((map, root), changes) in sides.iter_mut().zip([old, new]) {
            for (key, event) in changes {
                *root = set(&mut memory, *root, key, event);
                match event {
                    Some(event) => map.insert(key, event),
                    None => map.remove(&key),
                };
            }
        }
        let [(old, old_root), (new, new_root)] = sides;
        let keys: std::collections::BTreeSet<_> = old.keys().chain(new.keys()).copied().collect();
        let expected: Vec<_> = keys
            .into_iter()
            .filter(|key| old.get(key) != new.get(key))
            .map(|key| StateChange {
                key: ShortStateKey(key),
                old: old.get(&key).copied().map(ShortEventId),
                new: new.get(&key).copied().map(ShortEventId),
            })
            .collect();
        prop_assert_eq!(diff(&memory, old_root, new_root).unwrap(), expected);
    }
}

#[test]
fn an_insert_into_a_hundred_thousand_entries_writes_one_short_path() {
    let mut memory = Memory::default();
    let root = built(&mut memory, (0..100_000).map(|key| (key, key)));
    for key in [5, 99_999, 100_000, u64::MAX] {
        memory.stores = 0;
        memory.loads.set(0);
        let changed = set(&mut memory, root, key, Some(u64::MAX));
        assert_ne!(changed, root);
        assert!(memory.stores <= 6, "{} nodes written", memory.stores);
        assert!(memory.loads.get() <= 6, "{} nodes read", memory.loads.get());
    }
    let largest = memory.nodes.values().map(Vec::len).max().unwrap();
    assert!(largest <= 16 * 16 + 8, "a node has {largest} bytes");
}

#[test]
fn a_difference_visits_only_what_differs() {
    let mut memory = Memory::default();
    let old = built(&mut memory, (0..100_000).map(|key| (key, key)));
    let changes = (0..10).map(|n| (ShortStateKey(n * 9_999), Some(ShortEventId(n + 1))));
    let new = apply(&mut memory, old, changes).unwrap();
    memory.loads.set(0);
    assert_eq!(diff(&memory, old, new).unwrap().len(), 10);
    assert!(memory.loads.get() <= 10 * 2 * 6, "{} nodes read", memory.loads.get());
}

#[test]
fn setting_what_is_already_set_writes_nothing() {
    let mut memory = Memory::default();
    let root = built(&mut memory, (0..1000).map(|key| (key, key)));
    memory.stores = 0;
    assert_eq!(set(&mut memory, root, 77, Some(77)), root);
    assert_eq!(set(&mut memory, root, 5000, None), root);
    assert_eq!(memory.stores, 0);
}

#[test]
fn a_small_state_is_one_node() {
    let mut memory = Memory::default();
    let root = built(&mut memory, (0..LEAF_MAX).map(|key| (key, key)));
    assert_eq!(memory.nodes.len(), 1);
    assert_ne!(set(&mut memory, root, LEAF_MAX, Some(0)), root);
    assert!(memory.nodes.len() > 1);
}

#[test]
fn a_missing_node_is_an_error_and_not_an_absent_key() {
    let mut memory = Memory::default();
    let root = built(&mut memory, (0..1000).map(|key| (key, key)));
    memory.nodes.retain(|at, _| *at == root.0);
    assert!(get(&memory, root, ShortStateKey(1)).is_err());
    assert!(collect(&memory, root).is_err());
    assert!(apply(&mut memory, root, [(ShortStateKey(1), None)]).is_err());
}
