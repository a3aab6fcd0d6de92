//! What becomes of a user's memberships when the account changes: the profile goes into the member
//! events of joined rooms; a deactivated user's expiring events end, their delayed ones are cancelled, and
//! they leave.
//!
//! Invariant: what is to be done is written with the account's change and removed when it is done,
//! so that a crash in between only delays it.

use std::sync::Arc;

use futures_util::{TryStreamExt, stream};
use ruma::{
    OwnedRoomId, RoomId, UserId,
    canonical_json::{CanonicalJsonObject, CanonicalJsonValue},
    events::{StateEventType, room::member::MembershipState},
};
use wick_account::Users;
use wick_core::{Draft, Error, Result, ShortUserId};
use wick_database::schema::room::Membership;
use wick_people::{
    Profiles,
    profile::{AVATAR_URL, DISPLAY_NAME, MemberProfile},
};
use wick_room::{Assembly, Effects, Graph, membership};
use wick_runtime::{KeyLocks, Resources};
use wick_timers::Expiry;

use crate::Delayed;

/// How many rooms are changed at a time; they share syncs of the log.
pub(crate) const AT_ONCE: usize = 32;

/// Changes memberships with accounts.
pub struct Memberships {
    resources: Resources,
    graph: Arc<Graph>,
    users: Arc<Users>,
    profiles: Arc<Profiles>,
    expiry: Arc<Expiry>,
    delayed: Arc<Delayed>,
    /// Held for each user whose profile is being spread.
    spreading: KeyLocks<ShortUserId>,
}

impl Memberships {
    /// Memberships in these rooms.
    #[must_use]
    pub fn new(
        resources: Resources,
        graph: Arc<Graph>,
        users: Arc<Users>,
        profiles: Arc<Profiles>,
        expiry: Arc<Expiry>,
        delayed: Arc<Delayed>,
    ) -> Self {
        let spreading = KeyLocks::default();
        Self { resources, graph, users, profiles, expiry, delayed, spreading }
    }

    /// Puts the profile of a user into their member events where it is not there already. Of several calls at
    /// once one does it at a time, and with the latest profile, so that changes do not queue up.
    ///
    /// # Errors
    /// If the database refuses. Rooms that refuse keep the old member event.
    pub async fn spread_profile(&self, user: ShortUserId, user_id: &UserId) -> Result<()> {
        let _one_at_a_time = self.spreading.take(user).await;
        while let Some(change) = self.profiles.to_spread(user)? {
            let rooms = self.rooms_with(user, |membership| membership == Membership::Join)?;
            stream::iter(rooms.into_iter().map(Ok))
                .try_for_each_concurrent(AT_ONCE, |room_id| async move {
                    // A newer change begins anew.
                    if self.profiles.to_spread(user)? != Some(change) {
                        return Ok(());
                    }
                    self.in_room(&room_id, |room| self.renew(room, user, user_id)).await
                })
                .await?;
            self.profiles.note_spread(user, change).await?;
        }
        Ok(())
    }

    /// Takes a deactivated user out of all rooms, after the terminal events of their expiring events, which
    /// could not be sent later.
    ///
    /// # Errors
    /// If the database refuses.
    pub async fn depart(&self, user: ShortUserId) -> Result<()> {
        let read = self.resources.database.published();
        let user_id = self.graph.user_id(&read, user)?;
        self.expiry.expire_all_of(&user_id).await?;
        self.delayed.erase_all_of(user).await?;
        let (rooms, user_id) = (
            self.rooms_with(user, |membership| {
                matches!(membership, Membership::Join | Membership::Invite | Membership::Knock)
            })?,
            &*user_id,
        );
        stream::iter(rooms.into_iter().map(Ok))
            .try_for_each_concurrent(AT_ONCE, |room_id| async move {
                self.in_room(&room_id, |room| leave(room, user_id)).await
            })
            .await?;
        self.users.remove_stored(user).await?;
        self.users.note_departed(user).await
    }

    /// Deactivates guests that have sent no request for too long, and takes them out of their rooms.
    ///
    /// # Errors
    /// If the database refuses.
    pub async fn remove_unused_guests(&self) -> Result<()> {
        let users = Arc::clone(&self.users);
        let unused =
            self.resources.workers.run(&"unused guests", move || users.unused_guests()).await?;
        for user in unused {
            if self.users.deactivate_unused_guest(user).await? {
                self.depart(user).await?;
            }
        }
        Ok(())
    }

    /// Finishes what a crash has interrupted.
    ///
    /// # Errors
    /// If the database refuses.
    pub async fn resume(&self) -> Result<()> {
        for user in self.users.departing()? {
            self.depart(user).await?;
        }
        for user in self.profiles.all_to_spread()? {
            let read = self.resources.database.published();
            let user_id = self.graph.user_id(&read, user)?;
            self.spread_profile(user, &user_id).await?;
        }
        Ok(())
    }

    /// Changes one room, and continues if the auth rules or the policy server of the room refuse it, or that server has no
    /// answer: the other rooms must not wait for it.
    async fn in_room(
        &self,
        room_id: &RoomId,
        change: impl FnMut(&mut Assembly<'_>) -> Result<()>,
    ) -> Result<()> {
        match self.graph.transact(room_id, change).await {
            Err(error) if !error.is_internal() => {
                tracing::debug!(%room_id, %error, "a room keeps a member event as it is");
                Ok(())
            }
            result => result,
        }
    }

    fn rooms_with(
        &self,
        user: ShortUserId,
        wanted: impl Fn(Membership) -> bool,
    ) -> Result<Vec<OwnedRoomId>> {
        let read = self.resources.database.published();
        let mut rooms = Vec::new();
        for row in self.graph.rooms_of(&read, user) {
            let (room, member) = row?;
            if wanted(member.membership) {
                let room_id = self.graph.intern().room_id(&read, room)?;
                rooms.push(room_id.ok_or_else(|| Error::corrupt("a room has no room id"))?);
            }
        }
        Ok(rooms)
    }

    /// Reads the profile for each attempt, so that of two changes the later one stays.
    fn renew(&self, room: &mut Assembly<'_>, user: ShortUserId, user_id: &UserId) -> Result<()> {
        let member = room.state_event(&StateEventType::RoomMember, user_id.as_str())?;
        let Some(member) = member else { return Ok(()) };
        let content = membership::content(&member)?;
        let profile = self.profiles.member_profile(user)?;
        let is_same = content.displayname() == profile.display_name.as_deref()
            && content.avatar_url() == profile.avatar_url.as_deref();
        if content.membership != MembershipState::Join || is_same {
            return Ok(());
        }
        append(room, user_id, MembershipState::Join, &profile)
    }
}

fn leave(room: &mut Assembly<'_>, user_id: &UserId) -> Result<()> {
    match room.membership(user_id)? {
        Some(MembershipState::Join | MembershipState::Invite | MembershipState::Knock) => {
            append(room, user_id, MembershipState::Leave, &MemberProfile::default())
        }
        _ => Ok(()),
    }
}

/// Appends the member event of a local user in their own name.
pub(crate) fn append(
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
