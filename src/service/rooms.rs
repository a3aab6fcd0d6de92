//! Use cases of rooms that may be here or at other servers: each goes to the local one where federation is off.

use std::{collections::BTreeSet, sync::Arc};

use ruma::{
    OwnedRoomId, OwnedServerName, RoomAliasId, RoomId, RoomOrAliasId, ServerName, UInt, UserId,
    api::{client::room::create_room, error::ErrorKind},
    canonical_json::CanonicalJsonObject,
    directory::{Filter, RoomNetwork},
    events::room::member::MembershipState,
    profile::UserProfile,
    room::RoomSummary,
};
use wick_account::Session;
use wick_core::{Error, Result, ShortUserId};
use wick_rooms::rooms::Page;

use crate::Services;

/// How many other servers are named with a room's alias.
const MAX_SERVERS: usize = 50;

impl Services {
    /// The room that an id or an alias refers to, with servers that are in it: none for an id.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if it is an alias that no room has; a failure of the alias's server.
    pub async fn room_named(
        &self,
        name: &RoomOrAliasId,
    ) -> Result<(OwnedRoomId, Vec<OwnedServerName>)> {
        match <&RoomAliasId>::try_from(name) {
            Ok(alias) => self.resolve_alias(alias).await,
            Err(room_id) => Ok((room_id.to_owned(), Vec::new())),
        }
    }

    /// The room with an alias, with servers that are in it.
    ///
    /// # Errors
    /// As [`Services::room_named`].
    pub async fn resolve_alias(
        &self,
        alias: &RoomAliasId,
    ) -> Result<(OwnedRoomId, Vec<OwnedServerName>)> {
        let own = &self.config.server.name;
        match &self.federated {
            Some(federated) if alias.server_name() != own => federated.rooms.resolve(alias).await,
            _ => self.resolve_local_alias(alias),
        }
    }

    /// The room with an alias of this server, with servers that are in it, this one first.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if there is no such alias.
    pub fn resolve_local_alias(
        &self,
        alias: &RoomAliasId,
    ) -> Result<(OwnedRoomId, Vec<OwnedServerName>)> {
        let room_id = self.rooms.resolve(alias)?;
        let own = &self.config.server.name;
        let mut servers = vec![own.clone()];
        let read = self.database.published();
        if let Some(room) = self.graph.short(&read, &room_id)? {
            let others = self.graph.servers_in(&read, room)?.into_iter();
            servers.extend(others.filter(|server| server != own).take(MAX_SERVERS));
        }
        Ok((room_id, servers))
    }

    /// Joins a room, over one of the servers of `via` if needed.
    ///
    /// # Errors
    /// As [`RemoteRooms::join`](wick_remote::RemoteRooms::join).
    pub async fn join(
        &self,
        session: &Arc<Session>,
        room_id: &RoomId,
        via: Vec<OwnedServerName>,
        extra: CanonicalJsonObject,
    ) -> Result<()> {
        match &self.federated {
            Some(federated) => federated.rooms.join(session, room_id, via, extra).await,
            None => self.rooms.join(session, room_id, extra).await,
        }
    }

    /// A page of the directory of another server.
    ///
    /// # Errors
    /// `M_NOT_FOUND` where federation is off; as [`RemoteRooms::public_rooms`](wick_remote::RemoteRooms::public_rooms).
    pub async fn public_rooms_of(
        &self,
        server: &ServerName,
        (filter, network): (Filter, RoomNetwork),
        limit: Option<UInt>,
        since: Option<String>,
    ) -> Result<Page> {
        let Some(federated) = &self.federated else {
            return Err(Error::not_found("this server knows no other directory"));
        };
        federated.rooms.public_rooms(server, (filter, network), limit, since).await
    }

    /// Leaves a room, rejects an invite, retracts a knock.
    ///
    /// # Errors
    /// As [`Rooms::leave`](wick_rooms::Rooms::leave).
    pub async fn leave(
        &self,
        session: &Arc<Session>,
        room_id: &RoomId,
        reason: Option<&str>,
    ) -> Result<()> {
        match &self.federated {
            Some(federated) => federated.rooms.leave(session, room_id, reason).await,
            None => self.rooms.leave(&session.user_id, room_id, reason).await,
        }
    }

    /// Knocks on a room, over one of the servers of `via` if needed.
    ///
    /// # Errors
    /// As [`RemoteRooms::knock`](wick_remote::RemoteRooms::knock).
    pub async fn knock(
        &self,
        session: &Arc<Session>,
        room_id: &RoomId,
        via: Vec<OwnedServerName>,
        reason: Option<&str>,
    ) -> Result<()> {
        match &self.federated {
            Some(federated) => federated.rooms.knock(session, room_id, via, reason).await,
            None => self.rooms.knock(session, room_id, reason).await,
        }
    }

    /// Invites a user.
    ///
    /// # Errors
    /// As [`Rooms::invite`](wick_rooms::Rooms::invite) and [`RemoteRooms::invite`](wick_remote::RemoteRooms::invite).
    pub async fn invite(
        &self,
        session: &Arc<Session>,
        room_id: &RoomId,
        invitee: &UserId,
        reason: Option<&str>,
    ) -> Result<()> {
        match &self.federated {
            Some(federated) if invitee.server_name() != self.config.server.name => {
                federated.rooms.invite(session, room_id, invitee, (reason, false)).await
            }
            _ => self.rooms.invite(session, room_id, invitee, reason).await,
        }
    }

    /// Makes a room, and invites the users of other servers once it is there. It stays if one of them cannot be invited.
    /// Continues if the client hangs up.
    ///
    /// # Errors
    /// As [`Rooms::create`](wick_rooms::Rooms::create).
    pub async fn create_room(
        &self,
        session: &Arc<Session>,
        request: create_room::v3::Request,
    ) -> Result<OwnedRoomId> {
        let own = &self.config.server.name;
        let invitees: BTreeSet<_> =
            request.invite.iter().filter(|user| user.server_name() != own).cloned().collect();
        let Some(federated) = self.federated.as_ref().filter(|_| !invitees.is_empty()) else {
            return self.rooms.create(session, request).await;
        };
        let (rooms, remote) = (Arc::clone(&self.rooms), Arc::clone(&federated.rooms));
        let (session, is_direct) = (Arc::clone(session), request.is_direct);
        let create = async move {
            let room_id = rooms.create(&session, request).await?;
            remote.invite_all(&session, &room_id, invitees, is_direct).await;
            Ok(room_id)
        };
        self.supervisor.complete("room with users of other servers", create).await
    }

    /// The profile of a user, of this server or of another one.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if there is none; as [`RemoteRooms::profile`](wick_remote::RemoteRooms::profile).
    pub async fn profile(&self, user_id: &UserId) -> Result<UserProfile> {
        match &self.federated {
            Some(federated) if user_id.server_name() != self.config.server.name => {
                federated.rooms.profile(user_id).await
            }
            _ => {
                let unknown = || Error::not_found("this user has no profile");
                self.profiles.get(user_id)?.ok_or_else(unknown)
            }
        }
    }

    /// What can be known of a room without being in it, with the membership of the session's user. A room that is not
    /// here is asked of the servers of `via`, if there is a session.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if the room is unknown or not shown.
    pub async fn room_summary(
        &self,
        session: Option<&Session>,
        room_id: &RoomId,
        via: Vec<OwnedServerName>,
    ) -> Result<(RoomSummary, Option<MembershipState>)> {
        match (self.spaces.summary(session, room_id), &self.federated, session) {
            (Err(error), Some(federated), Some(session))
                if error.kind() == Some(&ErrorKind::NotFound)
                    && !federated.rooms.is_here(room_id)? =>
            {
                let summary = federated.rooms.summary(session, room_id, via).await?;
                Ok((summary, None))
            }
            (summary, ..) => summary,
        }
    }

    /// Rejects the invites and retracts the knocks of a user in rooms of other servers.
    pub(crate) async fn leave_remote_rooms(&self, user: ShortUserId) -> Result<()> {
        match &self.federated {
            Some(federated) => federated.rooms.leave_all(user).await,
            None => Ok(()),
        }
    }
}
