//! Joins to rooms whose join rule is restricted: which member of this server authorises them.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#restricted-rooms>

use std::cmp::Reverse;

use ruma::{
    OwnedRoomId, OwnedUserId, RoomId, UserId,
    api::error::ErrorKind,
    events::{StateEventType, room::power_levels::UserPowerLevel},
};
use serde::Deserialize;
use wick_core::{Error, Result, ShortRoomId};
use wick_database::{Read, schema::room::Membership};
use wick_room::Graph;

/// The field of a member event that names the authorising user.
pub const AUTHORISED_VIA: &str = "join_authorised_via_users_server";

/// Whether a join is authorised, as far as this server knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authorisation {
    /// The join needs no authorising user.
    Unneeded,
    /// This member of this server authorises it.
    By(OwnedUserId),
    /// The user is in none of the rooms whose members may join.
    Denied,
    /// The user is in none of those that this server is in.
    Unknown,
    /// The user may join, but no member of this server may invite.
    NoInviter,
}

impl Authorisation {
    /// The authorising user, if the join needs one. `unable` is the status where another server may know better: 400 for
    /// a request of a server.
    ///
    /// # Errors
    /// `M_FORBIDDEN`, `M_UNABLE_TO_AUTHORISE_JOIN`, `M_UNABLE_TO_GRANT_JOIN`.
    pub fn user(self, unable: u16) -> Result<Option<OwnedUserId>> {
        match self {
            Self::Unneeded => Ok(None),
            Self::By(user) => Ok(Some(user)),
            Self::Denied => {
                Err(Error::forbidden("the user is in none of the rooms whose members may join"))
            }
            Self::Unknown => {
                let message = "this server is not in all of the rooms whose members may join";
                Err(Error::refused_with(unable, ErrorKind::UnableToAuthorizeJoin, message))
            }
            Self::NoInviter => {
                let message = "no member of this server could have invited the user";
                Err(Error::refused_with(unable, ErrorKind::UnableToGrantJoin, message))
            }
        }
    }
}

/// Whether the join of a user to a room is authorised, and by which member of this server.
///
/// # Errors
/// If the database cannot be read.
pub fn authorise(
    graph: &Graph,
    read: &impl Read,
    room: ShortRoomId,
    user_id: &UserId,
) -> Result<Authorisation> {
    let membership = graph.membership(read, room, user_id)?;
    if matches!(membership, Some(Membership::Join | Membership::Invite | Membership::Ban)) {
        return Ok(Authorisation::Unneeded);
    }
    let Some(rooms) = allowed_rooms(graph, read, room)? else {
        return Ok(Authorisation::Unneeded);
    };
    let mut denied = Authorisation::Denied;
    for allowed in rooms {
        match is_in(graph, read, &allowed, user_id)? {
            Some(true) => {
                let inviter = possible_inviter(graph, read, room)?;
                return Ok(inviter.map_or(Authorisation::NoInviter, Authorisation::By));
            }
            Some(false) => {}
            None => denied = Authorisation::Unknown,
        }
    }
    Ok(denied)
}

/// The rooms whose members may join a room; `None` if its join rule is not restricted.
///
/// # Errors
/// If the database cannot be read.
pub fn allowed_rooms(
    graph: &Graph,
    read: &impl Read,
    room: ShortRoomId,
) -> Result<Option<Vec<OwnedRoomId>>> {
    let rules = graph.state_event(read, room, &StateEventType::RoomJoinRules, "")?;
    let rules = rules.and_then(|rules| rules.content_as::<JoinRules>().ok());
    let is_restricted =
        |rules: &JoinRules| matches!(&*rules.join_rule, "restricted" | "knock_restricted");
    let Some(rules) = rules.filter(is_restricted) else { return Ok(None) };
    let allowed = rules.allow.into_iter().filter_map(|allowed| {
        let allowed = serde_json::from_value::<Allowed>(allowed).ok()?;
        (allowed.kind == "m.room_membership").then_some(allowed.room_id)
    });
    Ok(Some(allowed.collect()))
}

/// Whether a user is in a room; `None` if this server is not.
fn is_in(
    graph: &Graph,
    read: &impl Read,
    room_id: &RoomId,
    user_id: &UserId,
) -> Result<Option<bool>> {
    let Some(room) = graph.short(read, room_id)? else { return Ok(None) };
    if !graph.has_local_member(read, room)? {
        return Ok(None);
    }
    Ok(Some(graph.membership(read, room, user_id)? == Some(Membership::Join)))
}

/// A joined member of this server who could invite: those with the most power first.
fn possible_inviter(
    graph: &Graph,
    read: &impl Read,
    room: ShortRoomId,
) -> Result<Option<OwnedUserId>> {
    let levels = graph.power_levels(read, room)?;
    let is_local = |user: &UserId| user.server_name() == graph.server_name();
    let mut candidates: Vec<OwnedUserId> = levels.users.keys().cloned().collect();
    if let Some(creators) = &levels.rules.privileged_creators {
        candidates.extend(creators.iter().cloned());
    }
    candidates.sort_by_key(|user| Reverse(levels.for_user(user)));
    for user in candidates {
        if is_local(&user)
            && levels.user_can_invite(&user)
            && graph.membership(read, room, &user)? == Some(Membership::Join)
        {
            return Ok(Some(user));
        }
    }
    if UserPowerLevel::Int(levels.users_default) >= UserPowerLevel::Int(levels.invite) {
        for member in graph.members(read, room, Membership::Join) {
            let user_id = graph.user_id(read, member?.0)?;
            if is_local(&user_id) && levels.user_can_invite(&user_id) {
                return Ok(Some(user_id));
            }
        }
    }
    Ok(None)
}

#[derive(Deserialize)]
struct JoinRules {
    join_rule: String,
    #[serde(default)]
    allow: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct Allowed {
    #[serde(rename = "type")]
    kind: String,
    room_id: OwnedRoomId,
}
