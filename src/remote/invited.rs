//! Invites of local users by users of other servers.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#inviting-to-a-room>

use ruma::{
    OwnedEventId, OwnedRoomId, RoomVersionId, ServerName, UserId,
    api::error::{ErrorKind, IncompatibleRoomVersionErrorData},
    events::{StateEventType, TimelineEventType, room::member::MembershipState},
    room_version_rules::RoomVersionRules,
};
use ruma_federation_api::membership::RawStrippedState;
use serde_json::value::RawValue;
use wick_account::invite_filter::InviteFilter;
use wick_core::{Error, Pdu, Position, Result, ShortUserId, rules};
use wick_database::schema::{remote::RemoteMembership, room::Membership};
use wick_room::{Formatted, Verified, membership};
use wick_runtime::Limit;

use crate::{
    RemoteRooms,
    stripped::{strip, strip_all},
};

/// An invite as another server sends it.
pub struct Invite {
    /// The room.
    pub room_id: OwnedRoomId,
    /// The invite's id.
    pub event_id: OwnedEventId,
    /// The room's version.
    pub version: RoomVersionId,
    /// The invite, signed by the inviter's server.
    pub event: Box<RawValue>,
    /// What the invited user may see of the room.
    pub state: Vec<RawStrippedState>,
}

impl RemoteRooms {
    /// Takes in the invite of a local user that `origin` sends, and returns it with the signature of this server. The user
    /// gets to know of it here if this server has no member in the room, otherwise when the room's servers send it.
    ///
    /// # Errors
    /// `M_INCOMPATIBLE_ROOM_VERSION`, `M_MISSING_PARAM` if the state lacks the create event that the version needs,
    /// `M_BAD_JSON` or `M_INVALID_PARAM` if it is no such invite, `M_FORBIDDEN` if it is not signed, or if the user is
    /// joined, banned or deactivated, `M_INVITE_BLOCKED` if the user does not want it, `M_NOT_FOUND` if there is no such user, `M_LIMIT_EXCEEDED` if the user gets too
    /// many invites.
    pub async fn take_invite(&self, origin: &ServerName, invite: Invite) -> Result<Box<RawValue>> {
        let rules = rules::version_rules(&invite.version).map_err(|_| {
            let data = IncompatibleRoomVersionErrorData::new(invite.version.clone());
            let message = "this server does not support the room's version";
            Error::refused(ErrorKind::IncompatibleRoomVersion(data), message)
        })?;
        let event = self.verify_invite(origin, &invite, &rules).await?;
        let user = self.invited(event.pdu())?;
        self.resources.limits.ensure(Limit::Invites, &("of another server", user))?;
        let latest = self.resources.database.latest();
        InviteFilter::of(&latest, user)?.ensure_not_blocked(&event.pdu().sender)?;
        self.ensure_invitable(origin, &invite.room_id, event.pdu())?;
        let mut object = event
            .pdu()
            .to_canonical_object()
            .map_err(|error| Error::internal("a verified event is not canonical", error))?;
        let signed = self.graph.countersign(&mut object, &rules)?;
        let mut state = strip_all(&invite.state);
        state.extend(strip(&signed));
        let membership = RemoteMembership {
            membership: Membership::Invite,
            version: invite.version.to_string(),
            event_id: invite.event_id,
            event: signed.get().to_owned(),
            state,
            servers: vec![origin.to_owned()],
            position: Position(0),
        };
        let change = |there: Option<RemoteMembership>| {
            let is_known = there.is_some_and(|there| there.event_id == membership.event_id);
            Ok((!is_known).then(|| membership.clone()))
        };
        self.graph.change_remote_membership(&invite.room_id, user, change).await?;
        Ok(signed)
    }

    async fn verify_invite(
        &self,
        origin: &ServerName,
        invite: &Invite,
        rules: &RoomVersionRules,
    ) -> Result<Verified> {
        if rules::room_id_is_create_hash(rules) && !has_create(&invite.state) {
            let message = "invite_room_state lacks the create event";
            return Err(Error::refused(ErrorKind::MissingParam, message));
        }
        let formatted = Formatted::check(&invite.event, Some(&invite.room_id), rules)?;
        if formatted.event_id() != invite.event_id {
            return Err(Error::invalid_param("the event has another event id"));
        }
        let keys = self.federation.keys.for_events(&[formatted.object()], rules).await?;
        let keys = keys.into_iter().next().unwrap_or_default();
        let event = formatted.verify(rules, &keys)?;
        let event =
            event.ok_or_else(|| Error::forbidden("the event's signing key is not known"))?;
        let pdu = event.pdu();
        let is_invite = pdu.event_type == TimelineEventType::RoomMember
            && membership::content(pdu)
                .is_ok_and(|content| content.membership == MembershipState::Invite);
        if !is_invite || pdu.room_id != invite.room_id {
            return Err(Error::bad_json("the event is no invite to that room"));
        }
        if pdu.sender.server_name() != origin {
            return Err(Error::forbidden("the inviter is a user of another server"));
        }
        Ok(event)
    }

    /// The local user that an invite is for.
    fn invited(&self, pdu: &Pdu) -> Result<ShortUserId> {
        let user_id = pdu.state_key.as_deref().and_then(|key| <&UserId>::try_from(key).ok());
        let user_id = user_id.filter(|user_id| self.is_local(user_id));
        let user_id = user_id
            .ok_or_else(|| Error::invalid_param("the invited user is not one of this server"))?;
        let unknown = || Error::not_found("this server has no such user");
        let (user, _) = self.users.get(user_id)?.ok_or_else(unknown)?;
        if !self.users.is_active(user_id)? {
            return Err(Error::forbidden("the invited user is deactivated"));
        }
        Ok(user)
    }

    /// Refuses an invite to a room that is here if it cannot become part of it.
    fn ensure_invitable(
        &self,
        origin: &ServerName,
        room_id: &OwnedRoomId,
        pdu: &Pdu,
    ) -> Result<()> {
        let read = self.resources.database.latest();
        let Some(room) = self.graph.short(&read, room_id)? else { return Ok(()) };
        if !self.graph.has_local_member(&read, room)? {
            return Ok(());
        }
        if !self.graph.acl(&read, room)?.allows(origin) {
            return Err(Error::forbidden("the room's server ACL denies this server"));
        }
        let key = pdu.state_key.as_deref().unwrap_or_default();
        let member = self.graph.state_event(&read, room, &StateEventType::RoomMember, key)?;
        match member.as_deref().and_then(membership::of) {
            Some(Membership::Join) => Err(Error::forbidden("this user is already in the room")),
            Some(Membership::Ban) => Err(Error::forbidden("this user is banned from the room")),
            _ => Ok(()),
        }
    }
}

/// Whether stripped state has a whole create event.
fn has_create(state: &[RawStrippedState]) -> bool {
    #[derive(serde::Deserialize)]
    struct Typed {
        #[serde(rename = "type")]
        event_type: String,
    }
    state.iter().any(|event| match event {
        RawStrippedState::Pdu(pdu) => serde_json::from_str::<Typed>(pdu.get())
            .is_ok_and(|event| event.event_type == "m.room.create"),
        _ => false,
    })
}
