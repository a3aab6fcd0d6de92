//! Sends other servers the changes of local users' devices and keys: `m.device_list_update` and `m.signing_key_update`.
//!
//! Invariants: what was announced of a list is noted in the batch that queues the updates, so each change is queued once,
//! whatever crashes; the updates of a user are numbered without gaps, each naming the one before it. A server that a user
//! shares a room with for the first time gets all devices, as updates that name none before them.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#device-management>

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ruma::{
    DeviceId, OwnedDeviceId, OwnedServerName, OwnedUserId, UInt, UserId,
    encryption::{CrossSigningKey, DeviceKeys as Keys},
    serde::Raw,
};
use ruma_federation_api::transactions::edu::{
    DeviceListUpdateContent, Edu, SigningKeyUpdateContent,
};
use sha2::{Digest, Sha256};
use wick_core::{Error, Result, ShortRoomId, ShortUserId, StateRoot};
use wick_database::{
    Batch, Range, Read, Snapshot,
    schema::{
        device_lists::{DEVICE_LIST_CHANGE_BY_POSITION, UNSEEN_DEVICE_CHANGE_BY_USER},
        devices::DEVICE_BY_ID,
        remote_devices::{ANNOUNCED_LIST_BY_USER, AnnouncedList},
        room::Membership,
        stream::StreamEntry,
    },
};
use wick_federation::{Keep, queue_edu};
use wick_room::{Graph, membership, shared_rooms::joined_rooms};
use wick_runtime::{Consumer, Follower, Resources, Span, Supervisor};

use crate::device_keys::{PublicKeys, public_keys};

/// The name of its cursor.
const NAME: &str = "device lists for other servers";

/// Queues updates of device lists for the servers that share a room with their users.
pub(crate) struct Announcements {
    resources: Resources,
    graph: Arc<Graph>,
}

/// A local user who has joined a room.
struct Joined {
    user: ShortUserId,
    room: ShortRoomId,
    /// The state after the join.
    root: StateRoot,
}

/// How a list differs from what was announced of it.
struct Changes {
    announced: AnnouncedList,
    edus: Vec<Edu>,
}

/// A device as other servers see it.
struct Device<'a> {
    keys: Option<&'a Raw<Keys>>,
    name: Option<&'a String>,
}

/// The list of a local user as other servers see it.
struct List {
    user_id: OwnedUserId,
    keys: PublicKeys,
    devices: Vec<OwnedDeviceId>,
}

impl Announcements {
    /// Announcements of what is in the database.
    pub(crate) fn new(resources: Resources, graph: Arc<Graph>) -> Self {
        Self { resources, graph }
    }

    /// Follows the changes as long as the server runs.
    ///
    /// # Errors
    /// If the database refuses.
    pub(crate) async fn start(self, supervisor: &Supervisor) -> Result<()> {
        Follower::new(self.resources.clone(), NAME.to_owned(), self).start(supervisor, NAME).await
    }

    async fn announce(&self, user: ShortUserId, span: &Span) -> Result<()> {
        let Some(list) = self.list(user, &span.read)? else { return Ok(()) };
        let servers = self.servers_with(&span.read, user)?;
        self.resources
            .change(|batch| {
                let unseen = batch.read_for_update(&UNSEEN_DEVICE_CHANGE_BY_USER, &user)?;
                if unseen.is_some_and(|position| position <= span.upto) {
                    batch.delete(&UNSEEN_DEVICE_CHANGE_BY_USER, &user);
                }
                let announced = batch.read_for_update(&ANNOUNCED_LIST_BY_USER, &user)?;
                let changes = Changes::of(&list, announced.unwrap_or_default());
                queue(user, changes, &servers, batch)
            })
            .await
    }

    /// Sends the list of a user to the servers in a room that the user shared none with before.
    async fn introduce(&self, joined: Joined, span: &Span) -> Result<()> {
        let (user, servers) = (joined.user, self.newly_with(span, &joined)?);
        let Some(list) = self.list(user, &span.read)?.filter(|_| !servers.is_empty()) else {
            return Ok(());
        };
        self.resources
            .change(|batch| {
                let announced = batch.get(&ANNOUNCED_LIST_BY_USER, &user)?.unwrap_or_default();
                for device_id in &list.devices {
                    let edu = list.update(device_id, announced.stream_id);
                    let edu = Edu::DeviceListUpdate(edu);
                    queue_edu(batch, servers.clone(), &edu, Keep::UntilSent)?;
                }
                Ok(())
            })
            .await
    }

    /// The list of a user; `None` if it is no local one.
    fn list(&self, user: ShortUserId, read: &Snapshot) -> Result<Option<List>> {
        let user_id = self.resources.database.intern().user_id(read, user)?;
        let user_id = user_id.ok_or_else(|| Error::corrupt("a user has no user id"))?;
        if user_id.server_name() != self.resources.config.server.name {
            return Ok(None);
        }
        let with_names = self.resources.config.federation.device_names;
        let keys = public_keys(read, (user, &user_id), (&[], with_names))?;
        let devices = read.scan(&DEVICE_BY_ID, Range::prefix((user,))).keys();
        let devices = devices.map(|key| key.map(|(_, id)| id)).collect::<Result<_, _>>()?;
        Ok(Some(List { user_id, keys, devices }))
    }

    /// The other servers with a user in one of a user's rooms.
    fn servers_with(&self, read: &Snapshot, user: ShortUserId) -> Result<Vec<OwnedServerName>> {
        let mut servers = BTreeSet::new();
        for room in joined_rooms(read, user) {
            servers.extend(self.graph.servers_in(read, room?)?);
        }
        servers.remove(&self.resources.config.server.name);
        Ok(servers.into_iter().collect())
    }

    /// The other servers in a room that were in none of the user's rooms before the span.
    fn newly_with(
        &self,
        Span { read, after, .. }: &Span,
        &Joined { user, room, root }: &Joined,
    ) -> Result<Vec<OwnedServerName>> {
        let mut servers = self.graph.servers_at(read, room, root)?;
        servers.remove(&self.resources.config.server.name);
        for row in self.graph.rooms_of(read, user) {
            let (other, member) = row?;
            let was_there = member.membership == Membership::Join && member.position <= *after;
            if other != room && was_there && !servers.is_empty() {
                self.graph.servers_in(read, other)?.iter().for_each(|server| {
                    servers.remove(server);
                });
            }
        }
        Ok(servers.into_iter().collect())
    }

    /// The users whose lists have changed.
    fn changed(&self, Span { read, after, upto }: &Span) -> Result<BTreeSet<ShortUserId>> {
        let range = Range::after(after).and(Range::through(upto));
        let seen = read.scan(&DEVICE_LIST_CHANGE_BY_POSITION, range);
        let mut changed = seen.map(|row| Ok(row?.1)).collect::<Result<BTreeSet<_>>>()?;
        for row in read.scan(&UNSEEN_DEVICE_CHANGE_BY_USER, Range::all()) {
            let (user, position) = row?;
            if position <= *upto {
                changed.insert(user);
            }
        }
        Ok(changed)
    }

    /// The local users who have joined rooms, and are still there.
    fn joined(&self, span: &Span) -> Result<Vec<Joined>> {
        let (read, graph) = (&span.read, &self.graph);
        let mut joined = Vec::new();
        for (_, StreamEntry { room, event }) in span.events()? {
            let pdu = graph.load_event(read, event)?;
            let key = pdu.state_key.as_deref().filter(|_| membership::is_join(&pdu));
            let Some(user_id) = key.and_then(|key| <&UserId>::try_from(key).ok()) else { continue };
            if user_id.server_name() != graph.server_name() {
                continue;
            }
            let Some(place) = graph.place(read, event)? else { continue };
            if graph.membership_at(read, place.before, user_id)? == Some(Membership::Join) {
                continue;
            }
            let Some(user) = graph.intern().lookup_user(read, user_id)? else { continue };
            let member = graph.member(read, room, user)?;
            if member.is_some_and(|member| member.membership == Membership::Join) {
                joined.push(Joined { user, room, root: place.after });
            }
        }
        Ok(joined)
    }
}

impl Consumer for Announcements {
    async fn consume(&self, span: &Span) -> Result<bool> {
        let (changed, joined) = (self.changed(span)?, self.joined(span)?);
        let is_news = !changed.is_empty() || !joined.is_empty();
        for user in changed {
            self.announce(user, span).await?;
        }
        for joined in joined {
            self.introduce(joined, span).await?;
        }
        Ok(is_news)
    }
}

impl List {
    fn device(&self, device_id: &DeviceId) -> Device<'_> {
        let (keys, names) = (&self.keys.devices, &self.keys.names);
        Device { keys: keys.get(device_id), name: names.get(device_id) }
    }

    /// An update of a device that names none before it.
    fn update(&self, device_id: &OwnedDeviceId, stream_id: u64) -> DeviceListUpdateContent {
        let Device { keys, name } = self.device(device_id);
        let stream_id = UInt::new_saturating(stream_id);
        let user_id = self.user_id.clone();
        let mut content = DeviceListUpdateContent::new(user_id, device_id.clone(), stream_id);
        content.keys = keys.cloned();
        content.device_display_name = name.cloned();
        content
    }

    /// The next update of a device; one that is not in the list is deleted.
    fn next_update(&self, device_id: &OwnedDeviceId, is_deleted: bool, stream_id: &mut u64) -> Edu {
        let previous = (*stream_id > 0).then(|| UInt::new_saturating(*stream_id));
        *stream_id = stream_id.saturating_add(1);
        let mut content = self.update(device_id, *stream_id);
        content.prev_id.extend(previous);
        content.deleted = is_deleted.then_some(true);
        Edu::DeviceListUpdate(content)
    }
}

impl Changes {
    fn of(list: &List, mut announced: AnnouncedList) -> Self {
        let mut edus = Vec::new();
        let mut old: BTreeMap<_, _> = std::mem::take(&mut announced.devices).into_iter().collect();
        for device_id in &list.devices {
            let Device { keys, name } = list.device(device_id);
            let keys = keys.map_or("", |keys| keys.json().get());
            let digest = digest([keys, name.map_or("", |name| name)]);
            if old.remove(device_id) != Some(digest) {
                edus.push(list.next_update(device_id, false, &mut announced.stream_id));
            }
            announced.devices.push((device_id.clone(), digest));
        }
        for device_id in old.keys() {
            edus.push(list.next_update(device_id, true, &mut announced.stream_id));
        }
        let PublicKeys { master, self_signing, .. } = &list.keys;
        let cross_signing = digest_of(master.as_ref(), self_signing.as_ref());
        if announced.cross_signing != cross_signing && cross_signing != 0 {
            let mut content = SigningKeyUpdateContent::new(list.user_id.clone());
            content.master_key.clone_from(master);
            content.self_signing_key.clone_from(self_signing);
            edus.push(Edu::SigningKeyUpdate(content));
        }
        announced.cross_signing = cross_signing;
        Self { announced, edus }
    }
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
