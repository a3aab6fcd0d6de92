//! Joins and leaves of users of other servers, over this one: `make_join`, `send_join`, `make_leave`, `send_leave`.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#joining-rooms>

use std::sync::Arc;

use ruma::{
    EventId, OwnedEventId, OwnedRoomId, RoomId, RoomVersionId, ServerName, UserId,
    api::error::{ErrorKind, IncompatibleRoomVersionErrorData},
    canonical_json::{CanonicalJsonObject, CanonicalJsonValue},
    events::{StateEventType, TimelineEventType, room::member::MembershipState},
    room_version_rules::RoomVersionRules,
};
use serde_json::value::RawValue;
use wick_core::{Draft, Error, Pdu, Result};
use wick_database::schema::outgoing::FORWARDED_BY_EVENT;
use wick_room::{Received, Verified};

use crate::{
    Inbound, Peer,
    fetch::{self, Fetch},
    verify::{self, Check},
};

impl<P: Peer> Inbound<P> {
    /// A member event of `user`, a user of `origin`, for that server to sign. `versions` are the room versions that it
    /// supports. A join to a restricted room names the user that authorises it.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if no user of this server is in the room, `M_INCOMPATIBLE_ROOM_VERSION`; `M_FORBIDDEN` if the room's
    /// ACL or its auth rules refuse it, or if the user is of another server; as [`Authorisation::user`](wick_rooms::restricted::Authorisation::user).
    pub fn make_member_event(
        &self,
        origin: &ServerName,
        room_id: &OwnedRoomId,
        user: &UserId,
        membership: &MembershipState,
        versions: &[RoomVersionId],
    ) -> Result<(RoomVersionId, CanonicalJsonObject)> {
        let (version, _) = self.resident(origin, room_id)?;
        if user.server_name() != origin {
            return Err(Error::forbidden("a server can ask for its own users alone"));
        }
        if !versions.contains(&version) {
            let data = IncompatibleRoomVersionErrorData::new(version);
            let message = "the asking server does not support the room's version";
            return Err(Error::refused(ErrorKind::IncompatibleRoomVersion(data), message));
        }
        let text = CanonicalJsonValue::String(membership.to_string());
        let mut content = CanonicalJsonObject::from([("membership".to_owned(), text)]);
        if *membership == MembershipState::Join {
            self.name_authorising_user(room_id, user, &mut content)?;
        }
        let draft = Draft::state(
            room_id.clone(),
            user.to_owned(),
            StateEventType::RoomMember,
            user.as_str(),
            content,
        );
        Ok((version, self.graph.template(draft)?))
    }

    /// Takes in a member event that was made by [`Inbound::make_member_event`] and signed, and adds the
    /// signature of this server if one of its users authorises it. Returns the event once it is durable.
    ///
    /// # Errors
    /// `M_BAD_JSON` or `M_INVALID_PARAM` if it is another event than was asked for, `M_NOT_FOUND` if no user of this server
    /// is in the room, `M_FORBIDDEN` if the room's ACL or its auth rules refuse it; as [`Authorisation::user`](wick_rooms::restricted::Authorisation::user).
    pub async fn take_member_event(
        self: &Arc<Self>,
        origin: &ServerName,
        room_id: &OwnedRoomId,
        event_id: &EventId,
        event: Box<RawValue>,
        membership: &MembershipState,
    ) -> Result<Box<RawValue>> {
        let (version, rules) = self.resident(origin, room_id)?;
        let event = match membership {
            MembershipState::Join => self.countersign(room_id, &rules, event)?,
            _ => event,
        };
        let room = (&**room_id, &rules);
        let check = verify::check_all(&self.resources, &self.peer, room, vec![event]).await?.pop();
        let event = match check {
            Some(Check::Good(event)) => event,
            Some(Check::Bad(reason)) => return Err(Error::bad_json(reason)),
            _ => return Err(Error::forbidden("a key that the event is signed with is not known")),
        };
        if event.event_id() != event_id {
            return Err(Error::invalid_param("the event has another event id"));
        }
        check_member_event(event.pdu(), origin, membership)?;
        let is_new = self.graph.event_by_id(&self.resources.database.latest(), event_id)?.is_none();
        if is_new {
            self.note_forwarded(event_id, true).await?;
        }
        let taken = self.take(origin, (room_id, &version, &rules), event.clone()).await;
        if let Err(error) = taken {
            if is_new {
                self.note_forwarded(event_id, false).await?;
            }
            return Err(error);
        }
        Ok(event.pdu().json.clone())
    }

    /// Notes whether an event goes on to the servers in its room: its own server reaches them over this one.
    async fn note_forwarded(&self, event_id: &EventId, is_forwarded: bool) -> Result<()> {
        self.resources
            .change(|batch| {
                if is_forwarded {
                    batch.put(&FORWARDED_BY_EVENT, event_id, &());
                } else {
                    batch.delete(&FORWARDED_BY_EVENT, event_id);
                }
                Ok(())
            })
            .await
    }

    async fn take(
        &self,
        origin: &ServerName,
        (room_id, version, rules): (&OwnedRoomId, &RoomVersionId, &RoomVersionRules),
        event: Verified,
    ) -> Result<OwnedEventId> {
        let id = event.event_id().to_owned();
        let received = self.receive_in_room(room_id, vec![event.clone().into()]).await?.pop();
        let received = match received {
            Some(Received::Missing(_)) => {
                let deadline = self.resources.clock.monotonic() + fetch::FIRST_TRY;
                let room = (room_id, version, rules);
                let mut fetch = Fetch::new(self, room, origin, &event, deadline)?;
                fetch.complete(event.clone(), true).await?
            }
            Some(other) => other,
            None => return Err(Error::corrupt("an event was received without an answer")),
        };
        match received {
            Received::Accepted(_) => Ok(id),
            // Repeated. What was soft-failed or is over by now shows its sender nothing of the room.
            Received::Known(_) if self.is_current(room_id, &event)? => Ok(id),
            Received::Known(_) => {
                Err(Error::forbidden("the room as it is now does not have the event"))
            }
            Received::Rejected(_, reason) | Received::Dropped(_, reason) => {
                Err(Error::forbidden(reason))
            }
            Received::SoftFailed(_) => {
                Err(Error::forbidden("the room as it is now does not allow the event"))
            }
            Received::Later(_) => Err(Error::forbidden("the room's policy server does not answer")),
            Received::Missing(_) | Received::Outlier(_) => {
                Err(Error::bad_json("what the event refers to cannot be had"))
            }
        }
    }

    /// Whether a member event is the current one of its user.
    fn is_current(&self, room_id: &RoomId, event: &Verified) -> Result<bool> {
        let read = self.resources.database.latest();
        let Some(room) = self.graph.short(&read, room_id)? else { return Ok(false) };
        let user = event.pdu().sender.as_str();
        let current = self.graph.state_event(&read, room, &StateEventType::RoomMember, user)?;
        Ok(current.is_some_and(|current| current.event_id == event.event_id()))
    }

    /// The version of a room in which a user of this server is, and from which `origin` is not kept away.
    fn resident(
        &self,
        origin: &ServerName,
        room_id: &OwnedRoomId,
    ) -> Result<(RoomVersionId, RoomVersionRules)> {
        let unknown = || Error::not_found("this server is not in that room");
        let version = self.version_of(room_id)?.ok_or_else(unknown)?;
        if !self.is_member(room_id)? {
            return Err(unknown());
        }
        let read = self.resources.database.latest();
        let room = self.graph.short(&read, room_id)?.ok_or_else(unknown)?;
        if !self.graph.acl(&read, room)?.allows(origin) {
            return Err(Error::forbidden("the room's server ACL denies this server"));
        }
        Ok(version)
    }
}

/// Checks that an event is a member event of a user of `origin` about themselves, with this membership.
///
/// # Errors
/// `M_BAD_JSON` if it is not.
pub(crate) fn check_member_event(
    pdu: &Pdu,
    origin: &ServerName,
    membership: &MembershipState,
) -> Result<()> {
    let is_own = pdu.is_state(&TimelineEventType::RoomMember, pdu.sender.as_str());
    if !is_own || pdu.sender.server_name() != origin {
        let message = "the event is no member event of a user of this server about themselves";
        return Err(Error::bad_json(message));
    }
    let content = wick_room::membership::content(pdu);
    if !content.is_ok_and(|content| content.membership == *membership) {
        return Err(Error::bad_json("the event has another membership"));
    }
    Ok(())
}
