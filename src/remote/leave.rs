//! The end of invites and knocks in rooms of other servers: by the user, and by the other side.
//!
//! Invariant: what a user rejects or retracts is over here, whether or not another server can be reached.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#leaving-rooms-rejecting-invites>

use std::sync::Arc;

use ruma::{
    OwnedRoomId, OwnedUserId, RoomId, RoomVersionId, ServerName, UserId,
    canonical_json::{CanonicalJsonObject, CanonicalJsonValue},
    events::room::member::MembershipState,
};
use ruma_federation_api::membership::{
    create_leave_event::v2 as send_leave, prepare_leave_event::v1 as make_leave,
};
use serde_json::value::RawValue;
use wick_account::Session;
use wick_core::{Error, Result, ShortUserId, rules};
use wick_database::schema::{remote::RemoteMembership, room::Membership};
use wick_room::{Formatted, membership, remote_sender};

use crate::{
    RemoteRooms,
    template::{Member, Signed},
};

/// How many events of a transaction are looked at: as many as it has at most.
const MAX_EVENTS: usize = 50;

/// The memberships that can be ended.
const OPEN: [Membership; 2] = [Membership::Invite, Membership::Knock];

impl RemoteRooms {
    /// Leaves a room; if this server has no member in it, rejects the invite or retracts the knock. Continues if the client
    /// hangs up.
    ///
    /// # Errors
    /// As [`Rooms::leave`](wick_rooms::Rooms::leave).
    pub async fn leave(
        self: &Arc<Self>,
        session: &Arc<Session>,
        room_id: &RoomId,
        reason: Option<&str>,
    ) -> Result<()> {
        let there = self.remote_membership(session.user, room_id)?;
        let there = match there.filter(|there| OPEN.contains(&there.membership)) {
            Some(there) if !self.is_here(room_id)? => there,
            _ => return self.rooms.leave(&session.user_id, room_id, reason).await,
        };
        let content =
            self.rooms.member_content(MembershipState::Leave, &session.user_id, reason)?;
        let (remote, session) = (Arc::clone(self), Arc::clone(session));
        let room_id = room_id.to_owned();
        let leave = async move {
            let member = Member { room_id: &room_id, user_id: &session.user_id, content };
            remote.leave_remote(session.user, &room_id, there, &member).await
        };
        self.supervisor.complete("leave over another server", leave).await
    }

    /// Rejects all invites of a user and retracts all knocks, in rooms that are not here.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn leave_all(&self, user: ShortUserId) -> Result<()> {
        let read = self.resources.database.latest();
        let user_id = self.graph.user_id(&read, user)?;
        for (room_id, there) in self.graph.remote_memberships(&read, user)? {
            if !OPEN.contains(&there.membership) {
                continue;
            }
            let content = self.rooms.member_content(MembershipState::Leave, &user_id, None)?;
            let member = Member { room_id: &room_id, user_id: &user_id, content };
            self.leave_remote(user, &room_id, there, &member).await?;
        }
        Ok(())
    }

    async fn leave_remote(
        &self,
        user: ShortUserId,
        room_id: &OwnedRoomId,
        there: RemoteMembership,
        member: &Member<'_>,
    ) -> Result<()> {
        let mut left = None;
        for server in self.candidates(user, room_id, there.servers.clone())? {
            match self.leave_by(&server, room_id, &there.version, member).await {
                Ok(signed) => {
                    left = Some(signed);
                    break;
                }
                Err(error @ Error::Internal(_)) => return Err(error),
                Err(error) => tracing::info!(%server, %error, "a server does not take a leave"),
            }
        }
        let left = match left {
            Some(left) => left,
            None => self.leave_alone(member, &there)?,
        };
        self.end(room_id, user, (&there, &left)).await
    }

    async fn leave_by(
        &self,
        server: &ServerName,
        room_id: &OwnedRoomId,
        version: &str,
        member: &Member<'_>,
    ) -> Result<Signed> {
        let request = make_leave::Request::new(room_id.clone(), member.user_id.to_owned());
        let draft = self.federation.request(server, request).await?;
        let version = draft.room_version.or_else(|| RoomVersionId::try_from(version).ok());
        let signed = self.sign(member, version, &draft.event)?;
        let (id, pdu) = (signed.event_id.clone(), signed.json.clone());
        self.federation.request(server, send_leave::Request::new(room_id.clone(), id, pdu)).await?;
        Ok(signed)
    }

    /// A leave that no other server knows of.
    fn leave_alone(&self, member: &Member<'_>, there: &RemoteMembership) -> Result<Signed> {
        let version = RoomVersionId::try_from(there.version.as_str())
            .map_err(|error| Error::internal("a room's version cannot be read", error))?;
        let event: CanonicalJsonObject = serde_json::from_str(&there.event)
            .map_err(|error| Error::internal("a stored member event", error))?;
        let before = || {
            CanonicalJsonValue::Array(vec![CanonicalJsonValue::String(there.event_id.to_string())])
        };
        let mut leave = CanonicalJsonObject::new();
        leave.insert("auth_events".to_owned(), before());
        leave.insert("prev_events".to_owned(), before());
        let depth = event.get("depth").cloned();
        leave.insert(
            "depth".to_owned(),
            depth.unwrap_or_else(|| CanonicalJsonValue::Integer(1.into())),
        );
        self.sign_member(leave, member, version)
    }

    async fn end(
        &self,
        room_id: &RoomId,
        user: ShortUserId,
        (ended, left): (&RemoteMembership, &Signed),
    ) -> Result<()> {
        let change = |there: Option<RemoteMembership>| {
            let is_there = there.is_some_and(|there| there.event_id == ended.event_id);
            Ok(is_there.then(|| RemoteMembership {
                membership: Membership::Leave,
                event_id: left.event_id.clone(),
                event: left.json.get().to_owned(),
                state: Vec::new(),
                ..ended.clone()
            }))
        };
        self.graph.change_remote_membership(room_id, user, change).await.map(drop)
    }

    /// Looks for events of a transaction of `origin` that end invites or knocks of local users in rooms that are not here.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn take_ends(&self, origin: &ServerName, events: &[Box<RawValue>]) -> Result<()> {
        for event in events.iter().take(MAX_EVENTS) {
            self.take_end(origin, event).await?;
        }
        Ok(())
    }

    /// Takes in an event if it ends the invite or the knock of a local user in a room that is not here. Nothing here can
    /// judge it; an invite is taken back by its sender alone, and a knock refused by the server that took it.
    async fn take_end(&self, origin: &ServerName, event: &RawValue) -> Result<()> {
        let Some((room_id, user_id)) = target(event).filter(|(_, user)| self.is_local(user)) else {
            return Ok(());
        };
        let read = self.resources.database.latest();
        let (Some(room), Some(user)) =
            (self.graph.short(&read, &room_id)?, self.graph.intern().lookup_user(&read, &user_id)?)
        else {
            return Ok(());
        };
        let there = self.graph.remote_membership(&read, room, user)?;
        let is_open = |there: &RemoteMembership| OPEN.contains(&there.membership);
        let Some(there) = there.filter(|there| is_open(there)) else { return Ok(()) };
        if !there.servers.iter().any(|server| server == origin) {
            return Ok(());
        }
        match self.verify_end(&there, &room_id, event).await {
            Ok(left) => self.end(&room_id, user, (&there, &left)).await,
            Err(error @ Error::Internal(_)) => Err(error),
            Err(error) => {
                tracing::debug!(%origin, %error, "an event ends no invite");
                Ok(())
            }
        }
    }

    async fn verify_end(
        &self,
        there: &RemoteMembership,
        room_id: &RoomId,
        event: &RawValue,
    ) -> Result<Signed> {
        let version = RoomVersionId::try_from(there.version.as_str())
            .map_err(|error| Error::internal("a room's version cannot be read", error))?;
        let rules = rules::version_rules(&version)?;
        let formatted = Formatted::check(event, Some(room_id), &rules)?;
        let keys = self.federation.keys.for_events(&[formatted.object()], &rules).await?;
        let keys = keys.into_iter().next().unwrap_or_default();
        let event = formatted.verify(&rules, &keys)?;
        let event =
            event.ok_or_else(|| Error::forbidden("the event's signing key is not known"))?;
        let pdu = event.pdu();
        if there.membership == Membership::Invite && remote_sender(there)? != pdu.sender {
            return Err(Error::forbidden("another user than the inviter takes an invite back"));
        }
        match membership::of(pdu) {
            Some(Membership::Leave | Membership::Ban) => {
                let (event_id, json) = (pdu.event_id.clone(), pdu.json.clone());
                Ok(Signed { event_id, json, version })
            }
            _ => Err(Error::bad_json("the event is no leave")),
        }
    }
}

/// The room and the user of a member event.
fn target(event: &RawValue) -> Option<(OwnedRoomId, OwnedUserId)> {
    #[derive(serde::Deserialize)]
    struct OfMember {
        #[serde(rename = "type")]
        event_type: String,
        room_id: OwnedRoomId,
        state_key: String,
    }
    let event: OfMember = serde_json::from_str(event.get()).ok()?;
    let user_id = UserId::parse(event.state_key).ok()?;
    (event.event_type == "m.room.member").then_some((event.room_id, user_id))
}
