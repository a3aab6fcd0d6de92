//! What becomes of a user's memberships when the account changes: the profile goes into the member
//! events of joined rooms; a deactivated user's expiring events end, their delayed ones are cancelled, and
//! they leave.
//!
//! Invariant: what is to be done is written with the account's change and removed when it is done,
//! so that a crash in between only delays it.

use std::sync::Arc;

use futures_util::{TryStreamExt, stream};
use wick_account::Users;
use wick_core::{Result, ShortRoomId, ShortUserId};
use wick_database::schema::room::Membership;
use wick_people::Profiles;
use wick_room::Graph;
use wick_runtime::{KeyLocks, Resources, Supervisor};
use wick_timers::Expiry;

use crate::{
    Delayed,
    member_events::{AT_ONCE, MemberEvents},
};

/// Changes memberships with accounts.
pub struct Memberships {
    pub(crate) member_events: Arc<MemberEvents>,
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
        let member_events =
            MemberEvents::new(resources.clone(), Arc::clone(&graph), Arc::clone(&profiles));
        let (member_events, spreading) = (Arc::new(member_events), KeyLocks::default());
        Self { member_events, resources, graph, users, profiles, expiry, delayed, spreading }
    }

    /// Tries again what waits for the policy servers of rooms, until the server stops.
    pub fn start(&self, supervisor: &Supervisor) {
        self.member_events.start(supervisor);
    }

    /// Puts the profile of a user into their member events where it is not there already. Of several calls at
    /// once one does it at a time, and with the latest profile, so that changes do not queue up. Rooms whose policy server
    /// has no answer get it later.
    ///
    /// # Errors
    /// If the database refuses. Rooms that refuse keep the old member event.
    pub async fn spread_profile(&self, user: ShortUserId) -> Result<()> {
        let _one_at_a_time = self.spreading.take(user).await;
        while let Some(change) = self.profiles.to_spread(user)? {
            let rooms = self.rooms_with(user, |membership| membership == Membership::Join)?;
            stream::iter(rooms.into_iter().map(Ok))
                .try_for_each_concurrent(AT_ONCE, |room| async move {
                    // A newer change begins anew.
                    if self.profiles.to_spread(user)? != Some(change) {
                        return Ok(());
                    }
                    self.member_events.settle(room, user).await.map(drop)
                })
                .await?;
            self.profiles.note_spread(user, change).await?;
        }
        Ok(())
    }

    /// Takes a deactivated user out of all rooms, after the terminal events of their expiring events, which
    /// could not be sent later. Rooms whose policy server has no answer are left later.
    ///
    /// # Errors
    /// If the database refuses.
    pub async fn depart(&self, user: ShortUserId) -> Result<()> {
        let read = self.resources.database.published();
        let user_id = self.graph.user_id(&read, user)?;
        self.expiry.expire_all_of(&user_id).await?;
        self.delayed.erase_all_of(user).await?;
        let rooms = self.rooms_with(user, |membership| {
            matches!(membership, Membership::Join | Membership::Invite | Membership::Knock)
        })?;
        stream::iter(rooms.into_iter().map(Ok))
            .try_for_each_concurrent(AT_ONCE, |room| async move {
                self.member_events.settle(room, user).await.map(drop)
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
            self.spread_profile(user).await?;
        }
        Ok(())
    }

    fn rooms_with(
        &self,
        user: ShortUserId,
        wanted: impl Fn(Membership) -> bool,
    ) -> Result<Vec<ShortRoomId>> {
        let read = self.resources.database.published();
        let mut rooms = Vec::new();
        for row in self.graph.rooms_of(&read, user) {
            let (room, member) = row?;
            if wanted(member.membership) {
                rooms.push(room);
            }
        }
        Ok(rooms)
    }
}
