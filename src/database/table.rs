//! A table: a name, a key type, a value type and how it is used. Tables are declared in
//! [`schema`](crate::schema) alone.

use std::marker::PhantomData;

use wick_core::{ShortRoomId, ShortUserId};

use crate::Topic;

/// How a table is used, from which the engine's settings follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Point look-ups all over the key space: bloom filter, small blocks.
    Random,
    /// Appended to and read in ranges: large blocks.
    Sequential,
    /// A few rows that matter: little memory.
    Small,
    /// Large values, kept out of the tree.
    Blob,
}

/// What a table is, without its types.
#[derive(Clone, Copy, Debug)]
pub struct TableInfo {
    /// Its name, unique, also on disk.
    pub name: &'static str,
    /// How it is used.
    pub profile: Profile,
    /// The type of its keys, as written in the schema.
    pub key: &'static str,
    /// The type of its values, as written in the schema.
    pub value: &'static str,
    /// Its documentation, a line each.
    pub docs: &'static [&'static str],
}

/// One typed table.
pub struct Table<K, V> {
    name: &'static str,
    profile: Profile,
    wakes: Wakes,
    types: PhantomData<fn() -> (K, V)>,
}

/// Which watches a commit that writes the table wakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wakes {
    None,
    Room,
    User,
    Member,
    Table,
}

/// Keys whose first component is a `T`.
pub trait StartsWith<T> {}

impl<T> StartsWith<T> for T {}
impl<T, B> StartsWith<T> for (T, B) {}
impl<T, B, C> StartsWith<T> for (T, B, C) {}
impl<T, B, C, D> StartsWith<T> for (T, B, C, D) {}
impl<T, B, C, D, E> StartsWith<T> for (T, B, C, D, E) {}

impl<K, V> Table<K, V> {
    /// A table that wakes no watch.
    #[must_use]
    pub const fn new(name: &'static str, profile: Profile) -> Self {
        Self { name, profile, wakes: Wakes::None, types: PhantomData }
    }

    /// The table's name, unique, also on disk.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// How the table is used.
    #[must_use]
    pub const fn profile(&self) -> Profile {
        self.profile
    }

    /// A commit that touches a row wakes [`Topic::Table`] of this table.
    #[must_use]
    pub const fn wakes_table(self) -> Self {
        Self { name: self.name, profile: self.profile, wakes: Wakes::Table, types: PhantomData }
    }

    /// The topic that a row with this encoded key touches.
    pub(crate) fn topic(&self, key: &[u8]) -> Option<Topic> {
        let id = || key.first_chunk().map(|bytes| u64::from_be_bytes(*bytes));
        match self.wakes {
            Wakes::None => None,
            Wakes::Room => id().map(|id| Topic::Room(ShortRoomId(id))),
            Wakes::User => id().map(|id| Topic::User(ShortUserId(id))),
            Wakes::Member => id().map(|id| Topic::Member(ShortUserId(id))),
            Wakes::Table => Some(Topic::Table(self.name)),
        }
    }

    pub(crate) const fn wakes(&self) -> Wakes {
        self.wakes
    }
}

impl<K: StartsWith<ShortRoomId>, V> Table<K, V> {
    /// A commit that touches a row wakes [`Topic::Room`] of the room its key begins with.
    #[must_use]
    pub const fn wakes_room(self) -> Self {
        Self { name: self.name, profile: self.profile, wakes: Wakes::Room, types: PhantomData }
    }
}

impl<K: StartsWith<ShortUserId>, V> Table<K, V> {
    /// A commit that touches a row wakes [`Topic::User`] of the user its key begins with.
    #[must_use]
    pub const fn wakes_user(self) -> Self {
        Self { name: self.name, profile: self.profile, wakes: Wakes::User, types: PhantomData }
    }

    /// A commit that touches a row wakes [`Topic::Member`] of the user its key begins with.
    #[must_use]
    pub const fn wakes_member(self) -> Self {
        Self { name: self.name, profile: self.profile, wakes: Wakes::Member, types: PhantomData }
    }
}

impl<K, V> Clone for Table<K, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K, V> Copy for Table<K, V> {}
