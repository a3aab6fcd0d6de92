//! Inviting.

use ruma::{
    RoomId, UserId,
    canonical_json::{CanonicalJsonObject, CanonicalJsonValue},
    events::room::member::MembershipState,
};
use wick_account::Session;
use wick_core::{Error, Result};

use super::Rooms;

impl Rooms {
    /// Invites a user.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if the session's user may not, or if the invitee is in the room or banned from it.
    pub async fn invite(
        &self,
        session: &Session,
        room_id: &RoomId,
        invitee: &UserId,
        reason: Option<&str>,
    ) -> Result<()> {
        let content = self.invitation(invitee, reason, false)?;
        self.change(room_id, |room| {
            if room.membership(invitee)? == Some(MembershipState::Join) {
                return Err(Error::forbidden("this user is already in the room"));
            }
            self.append_member(room, &session.user_id, invitee, content.clone()).map(drop)
        })
        .await
    }

    /// The content of an invitation.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if the invitee is a user of another server and federation is off.
    pub fn invitation(
        &self,
        invitee: &UserId,
        reason: Option<&str>,
        is_direct: bool,
    ) -> Result<CanonicalJsonObject> {
        if !self.is_local(invitee) && !self.resources.config.federation.enabled {
            return Err(Error::forbidden(
                "this server does not federate: users of others cannot be invited",
            ));
        }
        let mut content = self.member_content(MembershipState::Invite, invitee, reason)?;
        if is_direct {
            content.insert("is_direct".to_owned(), CanonicalJsonValue::Bool(true));
        }
        Ok(content)
    }
}
