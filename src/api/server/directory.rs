//! The room directory and spaces, for other servers.

use std::sync::Arc;

use ruma::{
    directory::{Filter, RoomNetwork},
    serde::Raw,
};
use ruma_federation_api::{
    directory::{
        get_public_rooms::v1 as get_public_rooms,
        get_public_rooms_filtered::v1 as get_public_rooms_filtered,
    },
    query::get_room_information::v1 as get_room_information,
    space::{SpaceHierarchyParentSummary, get_hierarchy::v1 as get_hierarchy},
};
use wick_core::Result;
use wick_service::Services;

use crate::{
    client::directory::Listed,
    reply::Json,
    route::{Route, Ruma, route},
};

pub(super) fn routes() -> Vec<Route> {
    vec![route(room_of_alias), route(public_rooms), route(filtered_public_rooms), route(hierarchy)]
}

/// `GET /_matrix/federation/v1/query/directory`
async fn room_of_alias(
    services: Arc<Services>,
    Ruma { body, .. }: Ruma<get_room_information::Request>,
) -> Result<get_room_information::Response> {
    let (room_id, servers) = services.resolve_local_alias(&body.room_alias)?;
    Ok(get_room_information::Response::new(room_id, servers))
}

/// `GET /_matrix/federation/v1/publicRooms`
async fn public_rooms(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<get_public_rooms::Request>,
) -> Result<Json<Listed>> {
    if let RoomNetwork::ThirdParty(_) = body.room_network {
        return Ok(Json(Listed::default()));
    }
    let limit = body.limit.map(u64::from);
    let page = services.rooms.public_rooms(&sender, Filter::default(), limit, body.since).await?;
    Ok(Json(page.into()))
}

/// `POST /_matrix/federation/v1/publicRooms`
async fn filtered_public_rooms(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<get_public_rooms_filtered::Request>,
) -> Result<Json<Listed>> {
    if let RoomNetwork::ThirdParty(_) = body.room_network {
        return Ok(Json(Listed::default()));
    }
    let limit = body.limit.map(u64::from);
    let page = services.rooms.public_rooms(&sender, body.filter, limit, body.since).await?;
    Ok(Json(page.into()))
}

/// `GET /_matrix/federation/v1/hierarchy/{roomId}`
async fn hierarchy(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<get_hierarchy::Request>,
) -> Result<get_hierarchy::Response> {
    let spaces = &services.spaces;
    let found = spaces.hierarchy_for_server(&sender, &body.room_id, body.suggested_only).await?;
    let children_state = found.children_state.into_iter().map(Raw::from_json).collect();
    let room = SpaceHierarchyParentSummary::new(found.room, children_state);
    let mut response = get_hierarchy::Response::new(room);
    (response.children, response.inaccessible_children) = (found.children, found.inaccessible);
    Ok(response)
}
