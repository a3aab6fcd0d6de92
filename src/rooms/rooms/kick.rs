//! Kicking, banning and unbanning.

use ruma::{RoomId, UserId, events::room::member::MembershipState};
use wick_account::Session;
use wick_core::{Error, Result};

use super::{Rooms, ensure_joined};

impl Rooms {
    /// Kicks a user from a room, or retracts their invite or rejects their knock.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if the session's user may not, or the target is not joined, invited or knocking.
    pub async fn kick(
        &self,
        session: &Session,
        room_id: &RoomId,
        target: &UserId,
        reason: Option<&str>,
    ) -> Result<()> {
        let there = [MembershipState::Join, MembershipState::Invite, MembershipState::Knock];
        let only = (there.as_slice(), "this user is not in the room");
        self.set_membership(session, room_id, target, MembershipState::Leave, (reason, Some(only)))
            .await
    }

    /// Bans a user, whether or not they are in the room.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if the session's user may not.
    pub async fn ban(
        &self,
        session: &Session,
        room_id: &RoomId,
        target: &UserId,
        reason: Option<&str>,
    ) -> Result<()> {
        self.set_membership(session, room_id, target, MembershipState::Ban, (reason, None)).await
    }

    /// Ends a ban.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if the session's user may not, or the target is not banned.
    pub async fn unban(
        &self,
        session: &Session,
        room_id: &RoomId,
        target: &UserId,
        reason: Option<&str>,
    ) -> Result<()> {
        let only = ([MembershipState::Ban].as_slice(), "this user is not banned");
        self.set_membership(session, room_id, target, MembershipState::Leave, (reason, Some(only)))
            .await
    }

    /// Sets the membership of a user whose present membership is one of `from`.
    async fn set_membership(
        &self,
        session: &Session,
        room_id: &RoomId,
        target: &UserId,
        membership: MembershipState,
        (reason, only): (Option<&str>, Option<(&[MembershipState], &'static str)>),
    ) -> Result<()> {
        let content = self.member_content(membership, target, reason)?;
        self.change(room_id, |room| {
            ensure_joined(room, &session.user_id)?;
            if let Some((from, otherwise)) = only
                && !room.membership(target)?.is_some_and(|now| from.contains(&now))
            {
                return Err(Error::forbidden(otherwise));
            }
            self.append_member(room, &session.user_id, target, content.clone()).map(drop)
        })
        .await
    }
}
