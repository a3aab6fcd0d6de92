//! Inviting users of other servers.
//!
//! Invariant: an invite becomes part of the room once the invited user's server has signed it, and not before.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#inviting-to-a-room>

use std::{collections::BTreeSet, sync::Arc};

use futures_util::{StreamExt, stream};
use ruma::{
    OwnedRoomId, OwnedUserId, RoomId, ServerName, UserId,
    api::error::ErrorKind,
    canonical_json::{CanonicalJsonObject, CanonicalJsonValue},
    events::StateEventType,
};
use ruma_federation_api::membership::{RawStrippedState, create_invite::v2 as create_invite};
use serde_json::value::RawValue;
use wick_account::Session;
use wick_core::{Draft, Error, Pdu, Result, rules};
use wick_room::{Assembly, Formatted, Received};
use wick_rooms::rooms::stripped_events;
use wick_runtime::Limit;

use crate::{RemoteRooms, rooms::passed_on};

/// How many users are invited at the same time: servers that do not answer hold up the others no longer than one does.
const AT_ONCE: usize = 16;

impl RemoteRooms {
    /// Invites a user of another server. Continues if the client hangs up.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if the session's user may not, or if the invited user's server refuses; a failure of that server.
    pub async fn invite(
        self: &Arc<Self>,
        session: &Arc<Session>,
        room_id: &RoomId,
        invitee: &UserId,
        (reason, is_direct): (Option<&str>, bool),
    ) -> Result<()> {
        let content = self.rooms.invitation(invitee, reason, is_direct)?;
        self.resources.limits.ensure(Limit::Invites, &session.user_id)?;
        let (remote, session) = (Arc::clone(self), Arc::clone(session));
        let (room_id, invitee) = (room_id.to_owned(), invitee.to_owned());
        let invite = async move {
            // The auth rules decide.
            let always = |_: &mut Assembly<'_>| Ok(());
            remote.invite_with(&session.user_id, room_id, &invitee, content, always).await
        };
        self.supervisor.complete("invite of another server's user", invite).await
    }

    /// Invites users of other servers, as far as they can be.
    pub async fn invite_all(
        self: &Arc<Self>,
        session: &Arc<Session>,
        room_id: &RoomId,
        invitees: BTreeSet<OwnedUserId>,
        is_direct: bool,
    ) {
        let invite = |invitee: OwnedUserId| async move {
            if let Err(error) = self.invite(session, room_id, &invitee, (None, is_direct)).await {
                tracing::warn!(%room_id, %invitee, %error, "a user cannot be invited");
            }
        };
        stream::iter(invitees.into_iter().map(invite))
            .buffer_unordered(AT_ONCE)
            .collect::<()>()
            .await;
    }

    /// Invites a user of another server in the name of a user of this one, unless `condition` fails once that server has
    /// signed the invite.
    pub(crate) async fn invite_with(
        &self,
        sender: &UserId,
        room_id: OwnedRoomId,
        invitee: &OwnedUserId,
        content: CanonicalJsonObject,
        condition: impl FnMut(&mut Assembly<'_>) -> Result<()> + Send,
    ) -> Result<()> {
        let event_type = StateEventType::RoomMember;
        let inviter = sender.to_owned();
        let draft = Draft::state(room_id.clone(), inviter, event_type, invitee.as_str(), content);
        let (version, pdu) =
            self.graph.propose(draft).await.map_err(|error| match error.kind() {
                Some(ErrorKind::NotFound) => Error::forbidden("you are not in this room"),
                _ => error,
            })?;
        let version_rules = rules::version_rules(&version)?;
        let state = self.invite_state(&room_id, sender)?;
        let request = create_invite::Request::new(
            room_id.clone(),
            pdu.event_id.clone(),
            version,
            pdu.json.clone(),
            state,
        );
        let server = invitee.server_name();
        let answer = self.federation.request(server, request).await.map_err(passed_on)?;
        let signed = with_signature_of(&pdu, server, &answer.event)?;
        let formatted = Formatted::check(&signed, Some(&room_id), &version_rules)?;
        if formatted.event_id() != pdu.event_id {
            return Err(Error::internal("a signed invite", "it has another event id"));
        }
        let keys = self.federation.keys.for_events(&[formatted.object()], &version_rules).await?;
        let keys = keys.into_iter().next().unwrap_or_default();
        let event = formatted.verify(&version_rules, &keys)?;
        let event = event.ok_or_else(|| Error::corrupt("this server's own key is not known"))?;
        let events = [event.into()];
        let received = self.graph.receive_if(&room_id, &events, condition).await?.pop();
        match received {
            Some(Received::Accepted(_) | Received::Known(_)) => Ok(()),
            Some(Received::Rejected(_, reason) | Received::Dropped(_, reason)) => {
                Err(Error::forbidden(reason))
            }
            _ => Err(Error::forbidden("the room has changed and does not allow the invite")),
        }
    }

    /// What the invited user may see of the room.
    fn invite_state(&self, room_id: &RoomId, inviter: &UserId) -> Result<Vec<RawStrippedState>> {
        let read = self.resources.database.latest();
        let Some(room) = self.graph.short(&read, room_id)? else { return Ok(Vec::new()) };
        let mut events = stripped_events(&self.graph, &read, room)?;
        let member = StateEventType::RoomMember;
        events.extend(self.graph.state_event_short(&read, room, &member, inviter.as_str())?);
        let pdu = |event| {
            let pdu = self.graph.load_event(&read, event)?;
            Ok(RawStrippedState::Pdu(pdu.json.clone()))
        };
        events.into_iter().map(pdu).collect()
    }
}

/// The event with the signatures that `server` added to it in its answer.
fn with_signature_of(pdu: &Pdu, server: &ServerName, answer: &RawValue) -> Result<Box<RawValue>> {
    let unsigned = || Error::forbidden("the invited user's server did not sign the invite");
    let answer: CanonicalJsonObject = serde_json::from_str(answer.get()).map_err(|_| unsigned())?;
    let theirs = answer
        .get("signatures")
        .and_then(CanonicalJsonValue::as_object)
        .and_then(|signatures| signatures.get(server.as_str()))
        .ok_or_else(unsigned)?;
    let mut event = pdu
        .to_canonical_object()
        .map_err(|error| Error::internal("a built event is not canonical", error))?;
    if let Some(CanonicalJsonValue::Object(signatures)) = event.get_mut("signatures") {
        signatures.insert(server.to_string(), theirs.clone());
    }
    rules::to_json(&event)
}
