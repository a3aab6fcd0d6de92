//! One node of a state tree and its encoding, whose hash is its address.
//!
//! Invariant: a node has exactly one encoding (entries ascend by key, children by slot, numbers are minimal
//! varints), so that equal nodes have equal addresses.

use sha2::{Digest, Sha256};
use unsigned_varint::{decode, encode};
use wick_core::{ShortEventId, ShortStateKey, StateRoot};

/// A piece of state: its key and the event that sets it.
pub(crate) type Entry = (ShortStateKey, ShortEventId);

/// First byte of a leaf's encoding.
const LEAF: u8 = 1;
/// First byte of a branch's encoding.
const BRANCH: u8 = 2;

/// A node of a state tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    /// At most [`super::tree::LEAF_MAX`] entries, ascending by key. Never empty.
    Leaf(Vec<Entry>),
    /// Sixteen slots, of which the used ones are listed, ascending.
    Branch {
        /// The number of entries below this node.
        count: u64,
        /// The used slots with the address of what is below.
        children: Vec<(u8, StateRoot)>,
    },
}

impl Node {
    /// The number of entries at or below this node.
    pub(crate) fn count(&self) -> u64 {
        match self {
            Self::Leaf(entries) => u64::try_from(entries.len()).unwrap_or(u64::MAX),
            Self::Branch { count, .. } => *count,
        }
    }

    /// About how many bytes it takes in memory.
    pub(crate) fn weight(&self) -> u64 {
        let used = match self {
            Self::Leaf(entries) => size_of_val(entries.as_slice()),
            Self::Branch { children, .. } => size_of_val(children.as_slice()),
        };
        u64::try_from(used.saturating_add(size_of::<Self>() + 64)).unwrap_or(u64::MAX)
    }

    /// The address of what is below a slot, [`StateRoot::EMPTY`] if nothing is.
    pub(crate) fn child(children: &[(u8, StateRoot)], slot: u8) -> StateRoot {
        children
            .iter()
            .find_map(|(used, at)| (*used == slot).then_some(*at))
            .unwrap_or(StateRoot::EMPTY)
    }

    /// The node's bytes, as stored and hashed.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Leaf(entries) => {
                out.push(LEAF);
                let mut previous = 0;
                for (key, event) in entries {
                    put_varint(&mut out, key.0.wrapping_sub(previous));
                    put_varint(&mut out, event.0);
                    previous = key.0;
                }
            }
            Self::Branch { count, children } => {
                out.push(BRANCH);
                put_varint(&mut out, *count);
                let used = children.iter().fold(0_u16, |used, (slot, _)| used | 1 << slot);
                out.extend(used.to_be_bytes());
                children.iter().for_each(|(_, at)| out.extend(at.0));
            }
        }
        out
    }

    /// Reads a node; `None` if the bytes are no node.
    pub(crate) fn decode(mut bytes: &[u8]) -> Option<Self> {
        match take(&mut bytes)? {
            LEAF => {
                let mut entries = Vec::new();
                let mut previous = 0_u64;
                while !bytes.is_empty() {
                    previous = previous.checked_add(take_varint(&mut bytes)?)?;
                    entries.push((ShortStateKey(previous), ShortEventId(take_varint(&mut bytes)?)));
                }
                Some(Self::Leaf(entries))
            }
            BRANCH => {
                let count = take_varint(&mut bytes)?;
                let used = u16::from_be_bytes([take(&mut bytes)?, take(&mut bytes)?]);
                let (addresses, rest) = bytes.as_chunks::<16>();
                let slots = (0..16_u8).filter(|slot| used >> slot & 1 == 1);
                let children: Vec<_> =
                    slots.zip(addresses.iter().copied().map(StateRoot)).collect();
                let whole = usize::try_from(used.count_ones()).ok()? == addresses.len();
                (whole && rest.is_empty()).then_some(Self::Branch { count, children })
            }
            _ => None,
        }
    }
}

/// The address of a node with this encoding: the first half of its SHA-256.
pub(crate) fn address(bytes: &[u8]) -> StateRoot {
    let digest = Sha256::digest(bytes);
    let mut at = StateRoot::EMPTY;
    at.0.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
    at
}

fn put_varint(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(encode::u64(number, &mut encode::u64_buffer()));
}

fn take(bytes: &mut &[u8]) -> Option<u8> {
    let (first, rest) = bytes.split_first()?;
    *bytes = rest;
    Some(*first)
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let (number, rest) = decode::u64(bytes).ok()?;
    *bytes = rest;
    Some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_every_length_are_read_as_they_were_written() {
        for bits in 0..64 {
            for number in [1_u64 << bits, (1 << bits) - 1, u64::MAX >> bits] {
                let mut bytes = Vec::new();
                put_varint(&mut bytes, number);
                assert_eq!(take_varint(&mut bytes.as_slice()), Some(number));
            }
        }
    }

    #[test]
    fn nodes_are_stored_as_they_were_by_every_earlier_version() {
        let leaf = Node::Leaf(vec![
            (ShortStateKey(0), ShortEventId(127)),
            (ShortStateKey(128), ShortEventId(300)),
            (ShortStateKey(u64::MAX), ShortEventId(u64::MAX)),
        ]);
        let bytes = [
            &[LEAF, 0, 0x7f, 0x80, 1, 0xac, 2][..],
            &[0xff, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
        ];
        assert_eq!(leaf.encode(), bytes.concat());
        let children = vec![(0, StateRoot([1; 16])), (9, StateRoot([2; 16]))];
        let branch = Node::Branch { count: 1_000, children };
        let bytes = [&[BRANCH, 0xe8, 7, 2, 1][..], &[1; 16], &[2; 16]];
        assert_eq!(branch.encode(), bytes.concat());
        assert_eq!(
            address(&leaf.encode()).0,
            0x5df0563d569343006830206cce00d689_u128.to_be_bytes()
        );
    }

    #[test]
    fn a_node_is_read_as_it_was_written() {
        let leaf = Node::Leaf(vec![
            (ShortStateKey(0), ShortEventId(7)),
            (ShortStateKey(300), ShortEventId(u64::MAX)),
            (ShortStateKey(u64::MAX), ShortEventId(0)),
        ]);
        let children =
            vec![(0, StateRoot([1; 16])), (9, StateRoot([2; 16])), (15, StateRoot([3; 16]))];
        let branch = Node::Branch { count: 1000, children };
        for node in [leaf, branch] {
            assert_eq!(Node::decode(&node.encode()), Some(node));
        }
    }

    #[test]
    fn bytes_that_are_no_node_are_refused() {
        for bytes in [&[][..], &[0], &[3, 1], &[LEAF, 1], &[LEAF, 0x80], &[BRANCH, 9, 0, 1, 5]] {
            assert_eq!(Node::decode(bytes), None, "{bytes:?}");
        }
    }
}
