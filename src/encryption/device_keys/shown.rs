//! The rendered keys of users, cached for all viewers that get the same.
//!
//! Invariant: what is remembered is used only while the newest change of the user's keys
//! ([`DEVICE_LIST_CHANGE_BY_USER`]) is the one at which it was made.

use std::sync::Arc;

use quick_cache::{Weighter, sync::Cache};
use ruma::OwnedUserId;
use serde::{Serialize, Serializer, ser::SerializeStruct};
use serde_json::value::RawValue;
use wick_core::{Position, Result, ShortUserId};

/// Bytes of all that is remembered, and of the smallest entry.
const REMEMBERED_BYTES: u64 = 16 << 20;
const OVERHEAD_BYTES: u64 = 256;

/// The keys of one user as they are shown to another or to the user.
#[derive(Debug)]
pub(crate) struct Shown {
    /// By device.
    pub(crate) devices: Box<RawValue>,
    pub(crate) master: Option<Box<RawValue>>,
    pub(crate) self_signing: Option<Box<RawValue>>,
    pub(crate) user_signing: Option<Box<RawValue>>,
}

impl Shown {
    fn bytes(&self) -> u64 {
        let keys = [&self.master, &self.self_signing, &self.user_signing];
        let keys = keys.into_iter().flatten().chain([&self.devices]);
        let bytes = keys.map(|key| u64::try_from(key.get().len()).unwrap_or(u64::MAX));
        bytes.fold(OVERHEAD_BYTES, u64::saturating_add)
    }
}

#[derive(Clone)]
struct Bytes;

impl Weighter<ShortUserId, (Position, Arc<Shown>)> for Bytes {
    fn weight(&self, _: &ShortUserId, (_, shown): &(Position, Arc<Shown>)) -> u64 {
        shown.bytes()
    }
}

/// Rendered keys, for viewers whose own signatures are not among them.
pub(super) struct LastShown(Cache<ShortUserId, (Position, Arc<Shown>), Bytes>);

impl LastShown {
    pub(super) fn new() -> Self {
        Self(Cache::with_weighter(4_096, REMEMBERED_BYTES, Bytes))
    }

    /// What is shown of a user whose keys changed last at `changed`.
    pub(super) fn get(
        &self,
        user: ShortUserId,
        changed: Position,
        make: impl FnOnce() -> Result<Shown>,
    ) -> Result<Arc<Shown>> {
        if let Some((_, shown)) = self.0.get(&user).filter(|(made, _)| *made == changed) {
            return Ok(shown);
        }
        let shown = Arc::new(make()?);
        self.0.insert(user, (changed, Arc::clone(&shown)));
        Ok(shown)
    }
}

/// The answer to a query, with all its fields also when they are empty: clients expect them.
#[derive(Debug, Default)]
pub struct QueriedKeys {
    pub(super) users: Vec<(OwnedUserId, Arc<Shown>)>,
    /// By server.
    pub(super) failures: serde_json::Map<String, serde_json::Value>,
}

impl Serialize for QueriedKeys {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let users = &self.users;
        let mut fields = serializer.serialize_struct("QueriedKeys", 5)?;
        fields.serialize_field("failures", &self.failures)?;
        fields.serialize_field("device_keys", &Part(users, |keys| Some(&keys.devices)))?;
        fields.serialize_field("master_keys", &Part(users, |keys| keys.master.as_ref()))?;
        let self_signing = Part(users, |keys| keys.self_signing.as_ref());
        fields.serialize_field("self_signing_keys", &self_signing)?;
        let user_signing = Part(users, |keys| keys.user_signing.as_ref());
        fields.serialize_field("user_signing_keys", &user_signing)?;
        fields.end()
    }
}

/// One of the keys of each user that has it.
struct Part<'a>(&'a [(OwnedUserId, Arc<Shown>)], fn(&Shown) -> Option<&Box<RawValue>>);

impl Serialize for Part<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(users, key) = self;
        serializer.collect_map(users.iter().filter_map(|(user, shown)| Some((user, key(shown)?))))
    }
}
