//! The member events of local users that follow from something else than a request about the room: an account that
//! was deactivated, a profile that changed, a room that guests can no longer join.
//!
//! Invariants: what becomes of a member event is decided on the account, the profile and the room as they are when it is
//! written; an event for which the room's policy server has no answer is noted as a row until it is written or refused, so
//! that neither an outage nor a crash drops it; of one room, one attempt at a time finds out whether that server answers.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::{TryStreamExt, stream};
use ruma::{
    UserId,
    canonical_json::{CanonicalJsonObject, CanonicalJsonValue},
    events::{StateEventType, room::member::MembershipState},
};
use wick_core::{BackOff, Draft, Error, Result, ShortRoomId, ShortUserId};
use wick_database::{
    Batch, Range, Read,
    schema::users::{ACCOUNT_BY_USER, GUEST_BY_USER, POSTPONED_BY_MEMBER, PostponedMember},
};
use wick_people::{
    Profiles,
    profile::{AVATAR_URL, DISPLAY_NAME, MemberProfile},
};
use wick_room::{Assembly, Effects, Graph, membership};
use wick_runtime::{Resources, Supervisor};

use crate::rooms::guests_can_join;

/// How many rooms are changed at a time; they share syncs of the log.
pub(crate) const AT_ONCE: usize = 32;

/// How often postponed member events are looked at.
const LOOKED_AT_EVERY: Duration = Duration::from_secs(60);

/// The wait after a policy server had no answer.
const BACK_OFF: BackOff = BackOff::new(Duration::from_secs(60), Duration::from_secs(3600));

/// How many postponed member events are tried again in one pass.
const MAX_DUE: usize = 1000;

/// Writes member events.
pub(crate) struct MemberEvents {
    resources: Resources,
    graph: Arc<Graph>,
    profiles: Arc<Profiles>,
}

impl MemberEvents {
    pub(crate) fn new(resources: Resources, graph: Arc<Graph>, profiles: Arc<Profiles>) -> Self {
        Self { resources, graph, profiles }
    }

    /// Tries postponed member events again until the server stops.
    pub(crate) fn start(self: &Arc<Self>, supervisor: &Supervisor) {
        let events = Arc::clone(self);
        supervisor.spawn_periodic("postponed member events", LOOKED_AT_EVERY, move || {
            let events = Arc::clone(&events);
            async move { events.retry_due().await }
        });
    }

    /// Writes the member event of a user in one room as it has to be, unless it is so. Returns `false` if the room's policy
    /// server has no answer: then it is tried again later. A room whose auth rules or policy server refuse the event keeps
    /// the old one.
    ///
    /// # Errors
    /// If the database refuses.
    pub(crate) async fn settle(&self, room: ShortRoomId, user: ShortUserId) -> Result<bool> {
        let read = self.resources.database.published();
        let user_id = self.graph.user_id(&read, user)?;
        let room_id = self.graph.intern().room_id(&read, room)?;
        let room_id = room_id.ok_or_else(|| Error::corrupt("a room has no room id"))?;
        let change = |assembly: &mut Assembly<'_>| {
            forget(assembly.batch(), (room, user))?;
            self.settle_in(assembly, user, &user_id)
        };
        match self.graph.transact(&room_id, change).await {
            Ok(()) => Ok(true),
            Err(error @ Error::Remote(_)) => {
                tracing::info!(%room_id, %error, "a member event waits for the room's policy server");
                self.postpone(room, &[user]).await?;
                Ok(false)
            }
            Err(error) if !error.is_internal() => {
                tracing::info!(%room_id, %error, "a room keeps a member event as it is");
                self.resources.change(|batch| forget(batch, (room, user))).await?;
                Ok(true)
            }
            Err(error) => Err(error),
        }
    }

    fn settle_in(
        &self,
        assembly: &mut Assembly<'_>,
        user: ShortUserId,
        user_id: &UserId,
    ) -> Result<()> {
        let member = assembly.state_event(&StateEventType::RoomMember, user_id.as_str())?;
        let Some(member) = member else { return Ok(()) };
        let content = membership::content(&member)?;
        let is_joined = match content.membership {
            MembershipState::Join => true,
            MembershipState::Invite | MembershipState::Knock => false,
            _ => return Ok(()),
        };
        let (room, batch) = (assembly.room(), assembly.batch());
        let Some(account) = batch.read_for_update(&ACCOUNT_BY_USER, &user)? else { return Ok(()) };
        let is_guest = batch.read_for_update(&GUEST_BY_USER, &user)?.is_some();
        let is_over = account.deactivated.is_some()
            || (is_joined && is_guest && !guests_can_join(&self.graph, &*batch, room)?);
        if is_over {
            let profile = MemberProfile::default();
            return append(assembly, user_id, MembershipState::Leave, &profile);
        }
        let profile = self.profiles.member_profile(user)?;
        let is_same = content.displayname() == profile.display_name.as_deref()
            && content.avatar_url() == profile.avatar_url.as_deref();
        if !is_joined || is_same {
            return Ok(());
        }
        append(assembly, user_id, MembershipState::Join, &profile)
    }

    /// Notes member events to be tried again, each later than the last time.
    async fn postpone(&self, room: ShortRoomId, users: &[ShortUserId]) -> Result<()> {
        let now = self.resources.clock.now();
        self.resources
            .change(|batch| {
                for user in users {
                    let key = (room, *user);
                    let row = batch.read_for_update(&POSTPONED_BY_MEMBER, &key)?;
                    let earlier = row.map_or(0, |row| row.attempts);
                    let retry_at = now.after(BACK_OFF.after(earlier));
                    let attempts = earlier.saturating_add(1);
                    batch.put(&POSTPONED_BY_MEMBER, &key, &PostponedMember { attempts, retry_at });
                }
                Ok(())
            })
            .await
    }

    async fn retry_due(self: &Arc<Self>) -> Result<()> {
        let events = Arc::clone(self);
        let due = self.resources.workers.run(&"postponed members", move || events.due()).await?;
        stream::iter(due.into_iter().map(Ok))
            .try_for_each_concurrent(AT_ONCE, |(room, users)| async move {
                let mut rest = users.iter();
                while let Some(user) = rest.next() {
                    if !self.settle(room, *user).await? {
                        // The others of the room need the same server.
                        return self.postpone(room, rest.as_slice()).await;
                    }
                }
                Ok(())
            })
            .await
    }

    /// The postponed member events that are due, by room.
    fn due(&self) -> Result<BTreeMap<ShortRoomId, Vec<ShortUserId>>> {
        let now = self.resources.clock.now();
        let read = self.resources.database.latest();
        let mut due = BTreeMap::<_, Vec<_>>::new();
        let mut count = 0;
        for row in read.scan(&POSTPONED_BY_MEMBER, Range::all()) {
            let ((room, user), postponed) = row?;
            if postponed.retry_at > now {
                continue;
            }
            due.entry(room).or_default().push(user);
            count += 1;
            if count >= MAX_DUE {
                break;
            }
        }
        Ok(due)
    }
}

/// Deletes the row of a postponed member event, if there is one.
fn forget(batch: &mut Batch, key: (ShortRoomId, ShortUserId)) -> Result<()> {
    if batch.read_for_update(&POSTPONED_BY_MEMBER, &key)?.is_some() {
        batch.delete(&POSTPONED_BY_MEMBER, &key);
    }
    Ok(())
}

/// Appends the member event of a local user in their own name.
fn append(
    room: &mut Assembly<'_>,
    user_id: &UserId,
    membership: MembershipState,
    profile: &MemberProfile,
) -> Result<()> {
    let mut content = CanonicalJsonObject::new();
    let mut set = |key: &str, value: Option<&str>| {
        if let Some(value) = value {
            content.insert(key.into(), CanonicalJsonValue::String(value.into()));
        }
    };
    set("membership", Some(membership.as_str()));
    set(DISPLAY_NAME, profile.display_name.as_deref());
    set(AVATAR_URL, profile.avatar_url.as_deref());
    let draft = Draft::state(
        room.room_id().to_owned(),
        user_id.to_owned(),
        StateEventType::RoomMember,
        user_id,
        content,
    );
    room.append(draft, Effects::default()).map(drop)
}
