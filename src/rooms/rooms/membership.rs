//! The one way in which memberships change, whichever endpoint asked for it.
//!
//! <https://spec.matrix.org/v1.18/client-server-api/#room-membership>

use ruma::{
    OwnedEventId, UserId,
    api::error::ErrorKind,
    canonical_json::CanonicalJsonObject,
    events::{StateEventType, TimelineEventType, room::member::MembershipState},
};
use wick_account::invite_filter::InviteFilter;
use wick_core::{Draft, Error, Result};
use wick_database::{Read, schema::users::GUEST_BY_USER};
use wick_people::profile::MemberProfile;
use wick_room::{Assembly, Effects};
use wick_runtime::Limit;

use super::{
    EventRequest, Rooms,
    append::{SendOutcome, append},
    content, guests_can_join,
};
use crate::restricted::{self, AUTHORISED_VIA};

impl Rooms {
    /// Appends the member event of `target` with this content. Returns the existing event if nothing would
    /// change.
    ///
    /// # Errors
    /// `M_BAD_JSON` if the content has no membership, `M_FORBIDDEN` if `sender` may not, `M_INVITE_BLOCKED` if `target`
    /// does not want an invite by `sender`.
    pub(super) fn append_member(
        &self,
        room: &mut Assembly<'_>,
        sender: &UserId,
        target: &UserId,
        content: CanonicalJsonObject,
    ) -> Result<OwnedEventId> {
        let sent = self.append_member_with(room, sender, target, content, Effects::default())?;
        Ok(sent.event_id().clone())
    }

    /// The same, with `effects` in the batch if there is an event to append.
    ///
    /// # Errors
    /// As [`Rooms::append_member`].
    pub(super) fn append_member_with(
        &self,
        room: &mut Assembly<'_>,
        sender: &UserId,
        target: &UserId,
        content: CanonicalJsonObject,
        effects: Effects,
    ) -> Result<SendOutcome> {
        // Refuses a content that would expire: member events cannot.
        let (mut content, _) = self.prepare(sender, &TimelineEventType::RoomMember, content)?;
        let membership = content::text(&content, "membership")
            .map(MembershipState::from)
            .ok_or_else(|| Error::bad_json("the content of a member event has a membership"))?;
        content.remove(AUTHORISED_VIA);
        if membership == MembershipState::Invite {
            self.ensure_wants_invite(room.batch(), target, sender)?;
        }
        let current = room.state_event(&StateEventType::RoomMember, target.as_str())?;
        let before = current.as_deref().map(wick_room::membership::content).transpose()?;
        let before = before.map(|content| content.membership);
        let joins = sender == target
            && membership == MembershipState::Join
            && before != Some(MembershipState::Join);
        if joins {
            self.ensure_admits(room, target)?;
        }
        if joins {
            let short = room.room();
            let read = &*room.batch();
            if let Some(by) = restricted::authorise(&self.graph, read, short, target)?.user(403)? {
                content::set_text(&mut content, AUTHORISED_VIA, by);
            }
        }
        if let Some(current) = current
            && current.sender == sender
            && content::is_same(&current, &content)
        {
            return Ok(SendOutcome::existing(current.event_id.clone()));
        }
        // One that was scheduled was counted then, and an earlier attempt has counted.
        if effects.finish.is_none() && room.is_first_attempt() {
            self.count_membership(sender, before.as_ref(), &membership)?;
        }
        let room_id = room.room_id().to_owned();
        let draft = Draft::state(
            room_id,
            sender.to_owned(),
            StateEventType::RoomMember,
            target.as_str(),
            content,
        );
        append(room, draft, effects, None)
    }

    /// Refuses an invite that a local user does not want.
    ///
    /// # Errors
    /// `M_INVITE_BLOCKED`.
    pub(super) fn ensure_wants_invite(
        &self,
        read: &impl Read,
        target: &UserId,
        inviter: &UserId,
    ) -> Result<()> {
        let user = self.graph.intern().lookup_user(read, target)?;
        match user.filter(|_| self.is_local(target)) {
            Some(user) => InviteFilter::of(read, user)?.ensure_not_blocked(inviter),
            None => Ok(()),
        }
    }

    /// Refuses the join of a guest to a room that guests cannot join.
    ///
    /// <https://spec.matrix.org/v1.18/client-server-api/#server-behaviour-16>
    fn ensure_admits(&self, room: &mut Assembly<'_>, user_id: &UserId) -> Result<()> {
        let short = room.room();
        let read = &*room.batch();
        let user = self.graph.intern().lookup_user(read, user_id)?;
        let is_guest = match user {
            Some(user) => read.contains(&GUEST_BY_USER, &user)?,
            None => false,
        };
        if is_guest && !guests_can_join(&self.graph, read, short)? {
            let message = "guests cannot join this room";
            return Err(Error::refused(ErrorKind::GuestAccessForbidden, message));
        }
        Ok(())
    }

    /// Counts a change of membership: an invitation or a join as such, a change of a member's own event as a
    /// message. Leaving, removing and banning are always possible.
    fn count_membership(
        &self,
        sender: &UserId,
        before: Option<&MembershipState>,
        membership: &MembershipState,
    ) -> Result<()> {
        let limit = match membership {
            MembershipState::Invite => Limit::Invites,
            MembershipState::Join if before == Some(&MembershipState::Join) => Limit::Messages,
            MembershipState::Join | MembershipState::Knock => Limit::Joins,
            _ => return Ok(()),
        };
        self.resources.limits.ensure(limit, sender)
    }

    /// Counts a membership that is to be set later as what it is. It is not counted when it is set.
    ///
    /// # Errors
    /// `M_LIMIT_EXCEEDED`.
    pub(crate) fn count_scheduled_membership(
        &self,
        sender: &UserId,
        request: &EventRequest,
    ) -> Result<()> {
        match content::text(&request.content, "membership").map(MembershipState::from) {
            Some(membership) if request.event_type == TimelineEventType::RoomMember => {
                self.count_membership(sender, None, &membership)
            }
            _ => Ok(()),
        }
    }

    /// The content of a new member event, with the user's profile unless it is a leave or a ban.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn member_content(
        &self,
        membership: MembershipState,
        user_id: &UserId,
        reason: Option<&str>,
    ) -> Result<CanonicalJsonObject> {
        let mut content = CanonicalJsonObject::new();
        content::set_text(&mut content, "membership", membership.as_str());
        content::set_optional(&mut content, "reason", reason);
        if matches!(
            membership,
            MembershipState::Join | MembershipState::Invite | MembershipState::Knock
        ) {
            self.fill_in_profile(&mut content, user_id)?;
        }
        Ok(content)
    }

    /// Adds the fields of the user's profile that the content does not have.
    pub(super) fn fill_in_profile(
        &self,
        content: &mut CanonicalJsonObject,
        user_id: &UserId,
    ) -> Result<()> {
        let MemberProfile { display_name, avatar_url } = self.member_profile(user_id)?;
        for (key, value) in [("displayname", display_name), ("avatar_url", avatar_url)] {
            if !content.contains_key(key) {
                content::set_optional(content, key, value.as_deref());
            }
        }
        Ok(())
    }

    /// The profile of a local user; an empty one for other user ids.
    pub(super) fn member_profile(&self, user_id: &UserId) -> Result<MemberProfile> {
        let latest = self.resources.database.latest();
        let user = self.graph.intern().lookup_user(&latest, user_id)?;
        match user.filter(|_| self.is_local(user_id)) {
            Some(user) => self.profiles.member_profile(user),
            None => Ok(MemberProfile::default()),
        }
    }
}
