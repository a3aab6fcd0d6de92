//! Invites by third-party identifiers: a user of another server invites an address, and an identity server finds out whose it
//! is. Addresses and identity servers stay outside of this server: it takes part as the server of the inviter and as that of
//! the invited user.
//!
//! Invariants: the auth rules judge the identity server's signature, by the keys in the room's
//! `m.room.third_party_invite`; the invite is an invite like others on its way to the user's server; what the identity server
//! signed for a user makes one invite, whatever became of that since.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#third-party-invites>

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use ruma::{
    OwnedRoomId, OwnedServerName, OwnedUserId, ServerName, UserId,
    canonical_json::{CanonicalJsonObject, CanonicalJsonValue},
    events::{
        StateEventType, TimelineEventType,
        room::member::{SignedContent, ThirdPartyInvite},
    },
    serde::Raw,
};
use ruma_federation_api::thirdparty::exchange_invite::v1 as exchange_invite;
use serde::Deserialize;
use wick_account::invite_filter::InviteFilter;
use wick_core::{Draft, Error, Pdu, Result, event::pdu::SharedPdu};
use wick_database::{Read, schema::room::Membership};
use wick_federation::Bounds;
use wick_room::{Assembly, Effects, membership};
use wick_runtime::Limit;

use crate::{RemoteRooms, rooms::Failures};

/// How many invites of a request are exchanged at the same time.
const AT_ONCE: usize = 2;

/// How many memberships of a user are walked back at most to find an invite with the same token.
const MAX_MEMBERSHIPS: usize = 100;

/// The bounds of an answer. Requests without authentication name the server that is asked.
const EXCHANGE: Bounds = Bounds { bytes: 64 << 10, time: Duration::from_secs(10) };

/// An invite of the user that a third-party identifier turned out to be.
#[derive(Clone, Debug)]
pub struct BoundInvite {
    /// The room.
    pub room_id: OwnedRoomId,
    /// The inviter of the identifier.
    pub sender: OwnedUserId,
    /// The user it belongs to.
    pub invitee: OwnedUserId,
    /// What the identity server signed: the invited user and the token of the invite.
    pub signed: Raw<SignedContent>,
}

impl RemoteRooms {
    /// Makes the invite of a user of `origin` whose third-party identifier a user of this server has invited.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if the room is not here, `M_FORBIDDEN` if the inviter is no user of this server, if the room or its auth
    /// rules do not allow the invite, or if the server of the invited user refuses it; `M_BAD_JSON` if what is signed is no
    /// object; `M_INVITE_BLOCKED`; `M_LIMIT_EXCEEDED` if `origin` asks too often; a failure of the invited user's server.
    pub async fn exchange_invite(
        self: &Arc<Self>,
        origin: &ServerName,
        invite: BoundInvite,
    ) -> Result<()> {
        self.resources.limits.ensure(Limit::Invites, &("third-party invites", origin))?;
        let read = self.resources.database.latest();
        let unknown = || Error::not_found("this server is not in that room");
        let room = self.graph.short(&read, &invite.room_id)?.ok_or_else(unknown)?;
        if !self.graph.has_local_member(&read, room)? {
            return Err(unknown());
        }
        if !self.graph.acl(&read, room)?.allows(origin) {
            return Err(Error::forbidden("the room's server ACL denies this server"));
        }
        if invite.invitee.server_name() != origin {
            return Err(Error::forbidden("the invited user is not one of this server"));
        }
        drop(read);
        self.make_invite(invite).await
    }

    /// Takes in that an invited third-party identifier belongs to a user of this server. What becomes of each
    /// invite is logged.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if there is no such user, `M_FORBIDDEN` if it is deactivated.
    pub async fn take_bound(
        self: &Arc<Self>,
        user_id: &UserId,
        invites: Vec<BoundInvite>,
    ) -> Result<()> {
        let user_id = Some(user_id).filter(|user_id| self.is_local(user_id));
        let unknown = || Error::not_found("this server has no such user");
        let user_id = user_id.ok_or_else(unknown)?;
        self.users.get(user_id)?.ok_or_else(unknown)?;
        if !self.users.is_active(user_id)? {
            return Err(Error::forbidden("the user is deactivated"));
        }
        let invites = invites.into_iter().filter(|invite| invite.invitee == user_id);
        stream::iter(invites)
            .for_each_concurrent(AT_ONCE, |invite| async move {
                let (room_id, sender) = (invite.room_id.clone(), invite.sender.clone());
                match self.request_invite(invite).await {
                    Ok(()) => tracing::debug!(%room_id, %sender, "a third-party invite is an invite now"),
                    Err(error) => {
                        tracing::info!(%room_id, %sender, %error, "a third-party invite cannot be exchanged");
                    }
                }
            })
            .await;
        Ok(())
    }

    /// Has an invite made by the server of the inviter, or by the one that the room's id names.
    async fn request_invite(self: &Arc<Self>, invite: BoundInvite) -> Result<()> {
        self.resources.limits.ensure(Limit::Invites, &("of an identifier", &invite.invitee))?;
        if self.is_local(&invite.sender) {
            return self.make_invite(invite).await;
        }
        let BoundInvite { room_id, sender, invitee, signed } = invite;
        let servers = [Some(sender.server_name()), room_id.server_name()];
        let mut servers: Vec<OwnedServerName> =
            servers.into_iter().flatten().map(ToOwned::to_owned).collect();
        servers.dedup();
        let mut failures = Failures::default();
        for server in servers {
            // The server of the inviter knows the name that the identifier has in the room.
            let third_party = ThirdPartyInvite::new(invitee.localpart().to_owned(), signed.clone());
            let request = exchange_invite::Request::with_third_party_invite(
                room_id.clone(),
                sender.clone(),
                invitee.clone(),
                third_party,
            )
            .map_err(|error| Error::internal("a third-party invite", error))?;
            match self.federation.request_within(&server, request, EXCHANGE).await {
                Ok(_) => return Ok(()),
                Err(error) => failures.note(&server, error)?,
            }
        }
        Err(failures.into_error())
    }

    /// Sends an invite in the name of the identifier's inviter, a user of this server.
    async fn make_invite(self: &Arc<Self>, invite: BoundInvite) -> Result<()> {
        if !self.is_local(&invite.sender) {
            return Err(Error::forbidden("the inviter is a user of another server"));
        }
        let token = invite.token()?;
        let Some(content) = self.bound_content(&invite, &token)? else { return Ok(()) };
        let BoundInvite { room_id, sender, invitee, .. } = invite;
        let remote = Arc::clone(self);
        let make = async move {
            // The auth rules let such an invite replace a join.
            let is_wanted = |room: &mut Assembly<'_>| {
                let member = room.state_event(&StateEventType::RoomMember, invitee.as_str())?;
                remote.can_be_invited_by(&*room.batch(), member, &token)
            };
            if !remote.is_local(&invitee) {
                let condition = |room: &mut Assembly<'_>| match is_wanted(room)? {
                    true => Ok(()),
                    false => Err(Error::forbidden("this user is invited already")),
                };
                return remote.invite_with(&sender, room_id, &invitee, content, condition).await;
            }
            let event_type = StateEventType::RoomMember;
            let draft =
                Draft::state(room_id.clone(), sender, event_type, invitee.as_str(), content);
            let invite = |room: &mut Assembly<'_>| match is_wanted(room)? {
                true => room.append(draft.clone(), Effects::default()).map(drop),
                false => Ok(()),
            };
            remote.graph.transact(&room_id, invite).await
        };
        self.supervisor.complete("third-party invite", make).await
    }

    /// The content of the invite, with the name that the room has for the identifier. `None` if the user is invited already.
    fn bound_content(
        &self,
        invite: &BoundInvite,
        token: &str,
    ) -> Result<Option<CanonicalJsonObject>> {
        #[derive(Deserialize)]
        struct Named {
            display_name: String,
        }
        let BoundInvite { room_id, sender, invitee, signed } = invite;
        let read = self.resources.database.latest();
        let room = self.graph.short(&read, room_id)?;
        let room = room.ok_or_else(|| Error::not_found("this server is not in that room"))?;
        let member = |user: &UserId| {
            self.graph.state_event(&read, room, &StateEventType::RoomMember, user.as_str())
        };
        // The auth rules ask whether the inviter may invite, not whether they are still there.
        if member(sender)?.as_deref().and_then(membership::of) != Some(Membership::Join) {
            return Err(Error::forbidden("the inviter is not in the room"));
        }
        if !self.can_be_invited_by(&read, member(invitee)?, token)? {
            return Ok(None);
        }
        if let Some(user) = self.graph.intern().lookup_user(&read, invitee)?
            && self.is_local(invitee)
        {
            InviteFilter::of(&read, user)?.ensure_not_blocked(sender)?;
        }
        let signed: CanonicalJsonObject =
            serde_json::from_str(signed.json().get()).map_err(|_| not_an_object())?;
        let event_type = StateEventType::RoomThirdPartyInvite;
        let invited = self.graph.state_event(&read, room, &event_type, token)?;
        let invited = invited.ok_or_else(|| Error::forbidden("the room has no such invite"))?;
        let name = invited.content_as::<Named>().map(|named| named.display_name);
        let third_party = CanonicalJsonObject::from([
            ("display_name".to_owned(), CanonicalJsonValue::String(name.unwrap_or_default())),
            ("signed".to_owned(), CanonicalJsonValue::Object(signed)),
        ]);
        let mut content = self.rooms.invitation(invitee, None, false)?;
        let third_party = CanonicalJsonValue::Object(third_party);
        content.insert("third_party_invite".to_owned(), third_party);
        Ok(Some(content))
    }

    /// Whether a user with this member event can be invited by a token; `false` if they are invited already.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if they are joined, or if the token has invited them before.
    fn can_be_invited_by(
        &self,
        read: &impl Read,
        member: Option<SharedPdu>,
        token: &str,
    ) -> Result<bool> {
        match member.as_deref().and_then(membership::of) {
            Some(Membership::Join) => {
                return Err(Error::forbidden("this user is already in the room"));
            }
            Some(Membership::Invite) => return Ok(false),
            _ => {}
        }
        // Each member event of a user has the one that it replaces among its auth events.
        let mut next = member;
        for _ in 0..MAX_MEMBERSHIPS {
            let Some(member) = next else { break };
            if token_of(&member).is_some_and(|signed| signed.token == token) {
                return Err(Error::forbidden("this user was invited by that token before"));
            }
            next = self.replaced_by(read, &member)?;
        }
        Ok(true)
    }

    /// The member event of the same user that a member event replaces.
    fn replaced_by(&self, read: &impl Read, member: &Pdu) -> Result<Option<SharedPdu>> {
        let user = member.state_key.as_deref().unwrap_or_default();
        for id in &member.auth_events {
            let event = self.graph.event_by_id(read, id)?;
            let event = event.map(|(_, event)| event);
            let is_member =
                |event: &SharedPdu| event.is_state(&TimelineEventType::RoomMember, user);
            if let Some(event) = event.filter(is_member) {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }
}

impl BoundInvite {
    /// The token of the invite in the room.
    fn token(&self) -> Result<String> {
        let signed: Token =
            serde_json::from_str(self.signed.json().get()).map_err(|_| not_an_object())?;
        Ok(signed.token.as_str().unwrap_or_default().to_owned())
    }
}

/// What the server itself reads of what an identity server signed.
#[derive(Deserialize)]
struct Token {
    #[serde(default)]
    token: serde_json::Value,
}

/// The token by which a member event invites, if it does by one.
fn token_of(member: &Pdu) -> Option<Token> {
    #[derive(Deserialize)]
    struct Content {
        third_party_invite: Signed,
    }
    #[derive(Deserialize)]
    struct Signed {
        signed: Token,
    }
    Some(member.content_as::<Content>().ok()?.third_party_invite.signed)
}

fn not_an_object() -> Error {
    Error::bad_json("what the identity server signed is no object")
}
