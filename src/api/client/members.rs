//! Room memberships: `/members`, `/joined_members`, `/joined_rooms`, `/mutual_rooms`.

use std::{collections::BTreeMap, sync::Arc};

use ruma::{
    OwnedUserId, UInt,
    api::client::membership::{get_member_events, get_mutual_rooms, joined_members, joined_rooms},
    serde::Raw,
};
use serde::Serialize;
use wick_core::Result;
use wick_rooms::history::AskMembers;
use wick_service::Services;

use crate::{
    reply::Json,
    route::{Route, Ruma, route},
};

pub(crate) fn routes() -> Vec<Route> {
    vec![
        route(get_member_events),
        route(joined_members),
        route(joined_rooms),
        route(get_mutual_rooms),
        route(get_mutual_rooms_unstable),
    ]
}

/// `GET /_matrix/client/v3/rooms/{roomId}/members`
async fn get_member_events(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<get_member_events::v3::Request>,
) -> Result<get_member_events::v3::Response> {
    let ask = AskMembers {
        room_id: body.room_id,
        at: body.at,
        membership: body.membership,
        not_membership: body.not_membership,
    };
    let members = services.history.members(&sender, &ask)?;
    let chunk = members.into_iter().map(Raw::from_json).collect();
    Ok(get_member_events::v3::Response::new(chunk))
}

/// Ruma's response leaves out what is not known; clients expect both keys.
#[derive(Serialize)]
struct JoinedMembers {
    joined: BTreeMap<OwnedUserId, Known>,
}

/// The profile of a member in a room.
#[derive(Serialize)]
struct Known {
    display_name: Option<String>,
    avatar_url: Option<String>,
}

/// `GET /_matrix/client/v3/rooms/{roomId}/joined_members`
async fn joined_members(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<joined_members::v3::Request>,
) -> Result<Json<JoinedMembers>> {
    let members = services.history.joined_members(&sender, &body.room_id)?;
    let joined = members.into_iter().map(|member| {
        let known = Known { display_name: member.display_name, avatar_url: member.avatar_url };
        (member.user_id, known)
    });
    Ok(Json(JoinedMembers { joined: joined.collect() }))
}

/// `GET /_matrix/client/v3/joined_rooms`
async fn joined_rooms(
    services: Arc<Services>,
    Ruma { sender, .. }: Ruma<joined_rooms::v3::Request>,
) -> Result<joined_rooms::v3::Response> {
    Ok(joined_rooms::v3::Response::new(services.history.joined_rooms(&sender)?))
}

/// `GET /_matrix/client/v1/mutual_rooms`
async fn get_mutual_rooms(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<get_mutual_rooms::v1::Request>,
) -> Result<get_mutual_rooms::v1::Response> {
    let rooms = services.history.mutual_rooms(&sender, &body.user_id)?;
    let count = UInt::try_from(rooms.len()).unwrap_or(UInt::MAX);
    Ok(get_mutual_rooms::v1::Response::new(count, rooms))
}

/// `GET /_matrix/client/unstable/uk.half-shot.msc2666/user/mutual_rooms`
async fn get_mutual_rooms_unstable(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<get_mutual_rooms::unstable::Request>,
) -> Result<get_mutual_rooms::unstable::Response> {
    let rooms = services.history.mutual_rooms(&sender, &body.user_id)?;
    Ok(get_mutual_rooms::unstable::Response::new(rooms))
}
