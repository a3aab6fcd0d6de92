//! A range of keys, by their encoded bytes.

use std::{
    collections::{BTreeMap, btree_map},
    marker::PhantomData,
    ops::Bound,
};

use crate::{KeyLike, PrefixOf};

/// A range of the keys of a table. Ranges are cut out of one another with [`Range::and`]:
/// `Range::prefix((room,)).and(Range::after(&(room, position)))`.
#[derive(Debug, PartialEq, Eq)]
pub struct Range<K> {
    /// The first key, encoded.
    pub(crate) lower: Vec<u8>,
    /// The first key beyond the end, encoded. `None`: to the end of the table.
    pub(crate) upper: Option<Vec<u8>>,
    key: PhantomData<fn() -> K>,
}

impl<K> Range<K> {
    fn new(lower: Vec<u8>, upper: Option<Vec<u8>>) -> Self {
        Self { lower, upper, key: PhantomData }
    }

    /// All keys.
    #[must_use]
    pub fn all() -> Self {
        Self::new(Vec::new(), None)
    }

    /// The keys that begin with these components, written as a tuple: `Range::prefix((room,))`.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "prefixes are small tuples made on the spot")]
    pub fn prefix(prefix: impl PrefixOf<K>) -> Self {
        let mut lower = Vec::with_capacity(32);
        prefix.encode_prefix(&mut lower);
        let upper = beyond(&lower);
        Self::new(lower, upper)
    }

    /// The keys that begin with these components, and everything above them.
    #[must_use]
    pub fn from_prefix(prefix: impl PrefixOf<K>) -> Self {
        Self { upper: None, ..Self::prefix(prefix) }
    }

    /// Everything below the keys that begin with these components.
    #[must_use]
    pub fn upto_prefix(prefix: impl PrefixOf<K>) -> Self {
        Self::new(Vec::new(), Some(Self::prefix(prefix).lower))
    }

    /// From `first` (included) to `end` (excluded).
    #[must_use]
    pub fn between(first: &(impl KeyLike<K> + ?Sized), end: &(impl KeyLike<K> + ?Sized)) -> Self {
        Self::new(first.encoded(), Some(end.encoded()))
    }

    /// `first` and everything above it.
    #[must_use]
    pub fn from(first: &(impl KeyLike<K> + ?Sized)) -> Self {
        Self::new(first.encoded(), None)
    }

    /// Everything above `key`.
    #[must_use]
    pub fn after(key: &(impl KeyLike<K> + ?Sized)) -> Self {
        Self::new(successor(key.encoded()), None)
    }

    /// Everything below `end`.
    #[must_use]
    pub fn upto(end: &(impl KeyLike<K> + ?Sized)) -> Self {
        Self::new(Vec::new(), Some(end.encoded()))
    }

    /// `last` and everything below it.
    #[must_use]
    pub fn through(last: &(impl KeyLike<K> + ?Sized)) -> Self {
        Self::new(Vec::new(), Some(successor(last.encoded())))
    }

    /// The keys that are in both ranges.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let upper = match (self.upper, other.upper) {
            (Some(one), Some(two)) => Some(one.min(two)),
            (one, two) => one.or(two),
        };
        Self::new(self.lower.max(other.lower), upper)
    }

    /// The same bytes, of whatever keys they are.
    pub(crate) fn untyped(self) -> Range<()> {
        Range::new(self.lower, self.upper)
    }

    /// The rows of a map by encoded key that are in it.
    pub(crate) fn of<'a, R>(
        &self,
        rows: &'a BTreeMap<Box<[u8]>, R>,
    ) -> btree_map::Range<'a, Box<[u8]>, R> {
        let upper = if self.is_empty() { Some(&*self.lower) } else { self.upper.as_deref() };
        let upper = upper.map_or(Bound::Unbounded, Bound::Excluded);
        rows.range::<[u8], _>((Bound::Included(&*self.lower), upper))
    }

    /// Whether no key can be in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.upper.as_ref().is_some_and(|upper| *upper <= self.lower)
    }
}

impl<K> Clone for Range<K> {
    fn clone(&self) -> Self {
        Self::new(self.lower.clone(), self.upper.clone())
    }
}

/// The smallest byte string above all that begin with `prefix`; `None` if there is none.
fn beyond(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != 0xff)?;
    let mut upper: Vec<u8> = prefix.iter().copied().take(last.saturating_add(1)).collect();
    if let Some(byte) = upper.last_mut() {
        *byte = byte.saturating_add(1);
    }
    Some(upper)
}

/// The smallest byte string above `key`.
fn successor(mut key: Vec<u8>) -> Vec<u8> {
    key.push(0);
    key
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn contains<K>(range: &Range<K>, key: &[u8]) -> bool {
        *key >= *range.lower && range.upper.as_ref().is_none_or(|upper| *key < **upper)
    }

    proptest! {
        #[test]
        fn a_prefix_holds_exactly_the_keys_that_begin_with_it(
            prefix in prop_oneof![Just(u64::MAX), Just(0xff), any::<u64>()],
            key in (prop_oneof![Just(u64::MAX), Just(0xff), Just(0x100), any::<u64>()], any::<i64>()),
        ) {
            let range = Range::<(u64, i64)>::prefix((prefix,));
            prop_assert_eq!(contains(&range, &key.encoded()), key.0 == prefix);
        }

        #[test]
        fn bounds_hold_exactly_the_keys_within(bound in any::<i64>(), key in any::<i64>()) {
            let key_bytes = key.encoded();
            prop_assert_eq!(contains(&Range::<i64>::from(&bound), &key_bytes), key >= bound);
            prop_assert_eq!(contains(&Range::<i64>::after(&bound), &key_bytes), key > bound);
            prop_assert_eq!(contains(&Range::<i64>::upto(&bound), &key_bytes), key < bound);
            prop_assert_eq!(contains(&Range::<i64>::through(&bound), &key_bytes), key <= bound);
            let both = Range::<i64>::from(&bound).and(Range::upto(&0));
            prop_assert_eq!(contains(&both, &key_bytes), key >= bound && key < 0);
        }
    }

    #[test]
    fn a_range_that_ends_before_it_begins_is_empty() {
        assert!(Range::<u64>::between(&4, &4).is_empty());
        assert!(!Range::<u64>::all().is_empty());
    }
}
