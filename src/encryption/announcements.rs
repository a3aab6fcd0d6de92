//! Tells other servers of changes of local users' devices and keys: `m.device_list_update` and `m.signing_key_update`.
//!
//! Invariants: what was announced of a list is noted in the batch that queues the updates, so each change is queued once,
//! whatever crashes; the updates of a user are numbered without gaps, each naming the one before it.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#device-management>

use std::collections::{BTreeMap, BTreeSet};

use ruma::{
    OwnedDeviceId, OwnedServerName, OwnedUserId, UInt,
    encryption::{CrossSigningKey, DeviceKeys as Keys},
    serde::Raw,
};
use ruma_federation_api::transactions::edu::{
    DeviceListUpdateContent, Edu, SigningKeyUpdateContent,
};
use sha2::{Digest, Sha256};
use wick_core::{Error, Result, ShortUserId};
use wick_database::{
    Batch, Range, Read, Snapshot,
    schema::{
        device_lists::DEVICE_LIST_CHANGE_BY_POSITION,
        remote_devices::{ANNOUNCED_LIST_BY_USER, AnnouncedList},
        room::JOINED_BY_SERVER,
    },
};
use wick_federation::{Keep, queue_edu};
use wick_room::shared_rooms::joined_rooms;
use wick_runtime::{Consumer, Follower, Resources, Span, Supervisor};

use crate::device_keys::{PublicKeys, public_keys};

/// The name of its cursor.
const NAME: &str = "device lists for other servers";

/// Queues updates of device lists for the servers that share a room with their users.
pub(crate) struct Announcements {
    resources: Resources,
}

/// How a list differs from what was announced of it.
struct Changes {
    announced: AnnouncedList,
    edus: Vec<Edu>,
}

impl Announcements {
    /// Announcements of what is in the database.
    pub(crate) fn new(resources: Resources) -> Self {
        Self { resources }
    }

    /// Follows the changes as long as the server runs.
    pub(crate) fn start(self, supervisor: &Supervisor) {
        Follower::new(self.resources.clone(), NAME.to_owned(), self).start(supervisor, NAME);
    }

    async fn announce(&self, user: ShortUserId, read: &Snapshot) -> Result<()> {
        let user_id = self.resources.database.intern().user_id(read, user)?;
        let user_id = user_id.ok_or_else(|| Error::corrupt("a user has no user id"))?;
        if user_id.server_name() != self.resources.config.server.name {
            return Ok(());
        }
        let keys = public_keys(read, (user, &user_id), &[])?;
        let servers = self.servers_with(read, user)?;
        self.resources
            .change(|batch| {
                let announced = batch.read_for_update(&ANNOUNCED_LIST_BY_USER, &user)?;
                let changes = Changes::of(&user_id, announced.unwrap_or_default(), &keys);
                queue(user, changes, &servers, batch)
            })
            .await
    }

    /// The other servers with a user in one of a user's rooms.
    fn servers_with(&self, read: &Snapshot, user: ShortUserId) -> Result<Vec<OwnedServerName>> {
        let mut servers = BTreeSet::new();
        for room in joined_rooms(read, user) {
            for key in read.scan(&JOINED_BY_SERVER, Range::prefix((room?,))).keys() {
                servers.insert(key?.1);
            }
        }
        servers.remove(&self.resources.config.server.name);
        Ok(servers.into_iter().collect())
    }
}

impl Consumer for Announcements {
    async fn consume(&self, span: &Span) -> Result<bool> {
        let range = Range::after(&span.after).and(Range::through(&span.upto));
        let changed = span.read.scan(&DEVICE_LIST_CHANGE_BY_POSITION, range);
        let changed = changed.map(|row| row.map(|(_, user)| user).map_err(Error::from));
        let changed = changed.collect::<Result<Vec<_>>>()?;
        for user in &changed {
            self.announce(*user, &span.read).await?;
        }
        Ok(!changed.is_empty())
    }
}

impl Changes {
    fn of(user_id: &OwnedUserId, mut announced: AnnouncedList, keys: &PublicKeys) -> Self {
        let mut edus = Vec::new();
        let old: BTreeMap<_, _> = std::mem::take(&mut announced.devices).into_iter().collect();
        for (device_id, keys) in &keys.devices {
            let digest = digest([keys.json().get()]);
            if old.get(device_id) != Some(&digest) {
                edus.push(device(user_id, device_id, Some(keys), &mut announced.stream_id));
            }
            announced.devices.push((device_id.clone(), digest));
        }
        for device_id in old.keys().filter(|id| !keys.devices.contains_key(*id)) {
            edus.push(device(user_id, device_id, None, &mut announced.stream_id));
        }
        let cross_signing = digest_of(keys.master.as_ref(), keys.self_signing.as_ref());
        if announced.cross_signing != cross_signing && cross_signing != 0 {
            let mut content = SigningKeyUpdateContent::new(user_id.clone());
            content.master_key = keys.master.clone();
            content.self_signing_key = keys.self_signing.clone();
            edus.push(Edu::SigningKeyUpdate(content));
        }
        announced.cross_signing = cross_signing;
        Self { announced, edus }
    }
}

/// The update of one device; one without keys is deleted.
fn device(
    user_id: &OwnedUserId,
    device_id: &OwnedDeviceId,
    keys: Option<&Raw<Keys>>,
    stream_id: &mut u64,
) -> Edu {
    let previous = (*stream_id > 0).then(|| UInt::new_saturating(*stream_id));
    *stream_id = stream_id.saturating_add(1);
    let id = UInt::new_saturating(*stream_id);
    let mut content = DeviceListUpdateContent::new(user_id.clone(), device_id.clone(), id);
    content.prev_id.extend(previous);
    content.deleted = keys.is_none().then_some(true);
    content.keys = keys.cloned();
    Edu::DeviceListUpdate(content)
}

fn queue(
    user: ShortUserId,
    Changes { announced, edus }: Changes,
    servers: &[OwnedServerName],
    batch: &mut Batch,
) -> Result<()> {
    if edus.is_empty() {
        return Ok(());
    }
    batch.put(&ANNOUNCED_LIST_BY_USER, &user, &announced);
    edus.iter().try_for_each(|edu| queue_edu(batch, servers.to_vec(), edu, Keep::UntilSent))
}

/// Zero if there are no keys.
fn digest_of(
    master: Option<&Raw<CrossSigningKey>>,
    self_signing: Option<&Raw<CrossSigningKey>>,
) -> u64 {
    if master.is_none() && self_signing.is_none() {
        return 0;
    }
    let text = |key: Option<&Raw<CrossSigningKey>>| key.map(|key| key.json().get().to_owned());
    let (master, self_signing) = (text(master), text(self_signing));
    digest([master.as_deref().unwrap_or_default(), self_signing.as_deref().unwrap_or_default()])
}

fn digest<const COUNT: usize>(texts: [&str; COUNT]) -> u64 {
    let mut digest = Sha256::new();
    for text in texts {
        digest.update(text);
        digest.update([0]);
    }
    digest.finalize().first_chunk().copied().map_or(0, u64::from_be_bytes)
}
