//! Memberships in rooms in which this server has no member: invites and knocks over other servers.

use ruma::{OwnedEventId, OwnedServerName};
use serde::{Deserialize, Serialize};
use wick_core::{Position, ShortRoomId, ShortUserId};

use super::room::Membership;
use crate::postcard_value;

/// A membership of a local user in a room that is not here. Its event is not part of the graph: the auth rules cannot
/// judge it, so nothing but the membership itself may rest on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteMembership {
    /// Invite, knock, leave or ban.
    pub membership: Membership,
    /// The room's version.
    pub version: String,
    /// The member event's id.
    pub event_id: OwnedEventId,
    /// The member event, as it was signed.
    pub event: String,
    /// What the user may see of the room, as stripped state.
    pub state: Vec<String>,
    /// Servers that are in the room, as far as is known.
    pub servers: Vec<OwnedServerName>,
    /// When it became current.
    pub position: Position,
}

/// The user and the room of an invite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteInvite {
    /// The invited user.
    pub user: ShortUserId,
    /// The room.
    pub room: ShortRoomId,
}

postcard_value!(RemoteMembership, version = 1);
postcard_value!(RemoteInvite, version = 1);

tables! {
    /// By user and room: the membership in a room in which this server has no member. Written when an invite comes, a
    /// knock is sent or either ends; deleted when a user of this server joins, or when the user forgets the room; read
    /// by sync; rebuilt from nothing else.
    REMOTE_BY_MEMBER: (ShortUserId, ShortRoomId) => RemoteMembership, Random, wakes_user;

    /// The invites among them by position. Written and deleted with [`REMOTE_BY_MEMBER`], from which it can be rebuilt; read
    /// by push.
    REMOTE_INVITE_BY_STREAM: Position => RemoteInvite, Sequential;
}
