//! What users of this server do in rooms that other servers have.
//!
//! Invariants: a use case goes on if its client hangs up; it asks a bounded number of servers.

use std::sync::Arc;

use ruma::{OwnedRoomId, OwnedServerName, RoomId, ServerName, UserId, api::error::ErrorKind};
use wick_account::Users;
use wick_core::{Error, RemoteFailure, RemoteReason, Result, ShortRoomId, ShortUserId};
use wick_database::schema::{remote::RemoteMembership, room::Membership};
use wick_federation::Federation;
use wick_inbound::Inbound;
use wick_outbound::InFlight;
use wick_room::{Graph, membership};
use wick_rooms::Rooms;
use wick_runtime::{KeyLocks, Resources, Supervisor};

use crate::{Peers, join::JOINS_AT_ONCE};

/// How many servers are asked for one room at most.
const MAX_SERVERS: usize = 8;

/// Rooms of other servers.
pub struct RemoteRooms {
    pub(crate) resources: Resources,
    pub(crate) graph: Arc<Graph>,
    pub(crate) supervisor: Arc<Supervisor>,
    pub(crate) users: Arc<Users>,
    pub(crate) rooms: Arc<Rooms>,
    pub(crate) federation: Arc<Federation>,
    pub(crate) inbound: Arc<Inbound<Peers>>,
    /// Held for each room that is being joined: the second user finds it here.
    pub(crate) joining: KeyLocks<OwnedRoomId>,
    /// The joins that are under way, by user.
    pub(crate) joins: InFlight,
}

impl RemoteRooms {
    /// Rooms that are reached through `federation`.
    #[must_use]
    pub fn new(
        resources: Resources,
        graph: Arc<Graph>,
        supervisor: Arc<Supervisor>,
        (users, rooms): (Arc<Users>, Arc<Rooms>),
        (federation, inbound): (Arc<Federation>, Arc<Inbound<Peers>>),
    ) -> Arc<Self> {
        let (most, most_by_user) = JOINS_AT_ONCE;
        Arc::new(Self {
            resources,
            graph,
            supervisor,
            users,
            rooms,
            federation,
            inbound,
            joining: KeyLocks::default(),
            joins: InFlight::new(most, most_by_user),
        })
    }

    /// Whether a user of this server is in the room.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn is_here(&self, room_id: &RoomId) -> Result<bool> {
        let read = self.resources.database.latest();
        match self.graph.short(&read, room_id)? {
            Some(room) => self.graph.has_local_member(&read, room),
            None => Ok(false),
        }
    }

    /// The membership of a user in a room that is not here.
    pub(crate) fn remote_membership(
        &self,
        user: ShortUserId,
        room_id: &RoomId,
    ) -> Result<Option<RemoteMembership>> {
        let read = self.resources.database.latest();
        match self.graph.short(&read, room_id)? {
            Some(room) => self.graph.remote_membership(&read, room, user),
            None => Ok(None),
        }
    }

    /// The servers to ask for a room: those of `via` and of an invite or a knock; without `via` also the one that the room's
    /// id names.
    pub(crate) fn candidates(
        &self,
        user: ShortUserId,
        room_id: &RoomId,
        via: Vec<OwnedServerName>,
    ) -> Result<Vec<OwnedServerName>> {
        let is_open = via.is_empty();
        let mut servers = via;
        if let Some(membership) = self.remote_membership(user, room_id)? {
            servers.extend(membership.servers);
        }
        let read = self.resources.database.latest();
        if let Some(room) = self.graph.short(&read, room_id)? {
            servers.extend(self.inviter(room, user)?);
        }
        if is_open {
            servers.extend(room_id.server_name().map(ToOwned::to_owned));
        }
        let mut candidates = Vec::new();
        for server in servers {
            if server != self.graph.server_name() && !candidates.contains(&server) {
                candidates.push(server);
            }
        }
        candidates.truncate(MAX_SERVERS);
        Ok(candidates)
    }

    /// The server of the inviter, if the user was invited as the room was last known here.
    fn inviter(&self, room: ShortRoomId, user: ShortUserId) -> Result<Option<OwnedServerName>> {
        let read = self.resources.database.latest();
        let Some(member) = self.graph.member(&read, room, user)? else { return Ok(None) };
        let event = self.graph.load_event(&read, member.event)?;
        let is_invite = membership::of(&event) == Some(Membership::Invite);
        Ok(is_invite.then(|| event.sender.server_name().to_owned()))
    }

    pub(crate) fn is_local(&self, user_id: &UserId) -> bool {
        user_id.server_name() == self.graph.server_name()
    }
}

/// What servers answered that were asked one after another.
#[derive(Default)]
pub(crate) struct Failures(Option<Error>);

impl Failures {
    /// Notes the failure of a server.
    ///
    /// # Errors
    /// If this server itself failed.
    pub(crate) fn note(&mut self, server: &ServerName, error: Error) -> Result<()> {
        if let Error::Internal(_) = error {
            return Err(error);
        }
        tracing::debug!(%server, %error, "a server cannot help with a room");
        let error = passed_on(error);
        if self.0.as_ref().is_none_or(|known| weight(&error) > weight(known)) {
            self.0 = Some(error);
        }
        Ok(())
    }

    /// The failure that explains most; `M_NOT_FOUND` if there was no server to ask.
    pub(crate) fn into_error(self) -> Error {
        let unknown = "no server is known that could be asked for that room";
        self.0.unwrap_or_else(|| Error::not_found(unknown))
    }
}

/// How much an error explains.
fn weight(error: &Error) -> u8 {
    match error.kind() {
        Some(ErrorKind::IncompatibleRoomVersion(_) | ErrorKind::UnsupportedRoomVersion) => 4,
        Some(ErrorKind::Forbidden | ErrorKind::InviteBlocked) => 3,
        Some(ErrorKind::NotFound) => 1,
        Some(_) => 2,
        None => 0,
    }
}

/// The refusal of another server as the user's own server passes it on, if it explains itself. Other failures stay as
/// they are.
pub(crate) fn passed_on(error: Error) -> Error {
    let Error::Remote(RemoteFailure { message, reason, server }) = error else { return error };
    match reason {
        RemoteReason::Refused { kind: Some(kind), .. }
            if matches!(*kind, ErrorKind::UnableToAuthorizeJoin | ErrorKind::UnableToGrantJoin) =>
        {
            Error::forbidden(format!("{server}: {message}"))
        }
        RemoteReason::Refused { status, kind: Some(kind) }
            if matches!(
                *kind,
                ErrorKind::Forbidden
                    | ErrorKind::NotFound
                    | ErrorKind::IncompatibleRoomVersion(_)
                    | ErrorKind::UnsupportedRoomVersion
                    | ErrorKind::InviteBlocked
                    | ErrorKind::BadState
            ) =>
        {
            Error::refused_with(status, *kind, format!("{server}: {message}"))
        }
        reason => RemoteFailure { message, reason, server }.into(),
    }
}
