//! `/publicRooms` and `/directory/list/room/{roomId}`

use std::sync::Arc;

use ruma::{
    OwnedServerName, UInt,
    api::client::{
        directory::{
            get_public_rooms, get_public_rooms_filtered, get_room_visibility, set_room_visibility,
        },
        room::Visibility,
    },
    directory::{Filter, RoomNetwork},
};
use wick_core::{Error, Result};
use wick_service::{Services, rooms::Page};

use crate::route::{Route, Ruma, route};

pub(crate) fn routes() -> Vec<Route> {
    vec![
        route(get_public_rooms),
        route(get_public_rooms_filtered),
        route(get_room_visibility),
        route(set_room_visibility),
    ]
}

/// `GET /_matrix/client/v3/publicRooms`
async fn get_public_rooms(
    services: Arc<Services>,
    Ruma { body, .. }: Ruma<get_public_rooms::v3::Request>,
) -> Result<get_public_rooms::v3::Response> {
    ensure_here(&services, body.server.as_ref())?;
    let limit = body.limit.map(u64::from);
    let page = services.rooms.public_rooms(&Filter::default(), limit, body.since.as_deref())?;
    let Page { rooms, next, previous, total } = page;
    let mut response = get_public_rooms::v3::Response::new(rooms);
    response.next_batch = next;
    response.prev_batch = previous;
    response.total_room_count_estimate = Some(count(total));
    Ok(response)
}

/// `POST /_matrix/client/v3/publicRooms`
async fn get_public_rooms_filtered(
    services: Arc<Services>,
    Ruma { body, .. }: Ruma<get_public_rooms_filtered::v3::Request>,
) -> Result<get_public_rooms_filtered::v3::Response> {
    ensure_here(&services, body.server.as_ref())?;
    let mut response = get_public_rooms_filtered::v3::Response::new();
    if let RoomNetwork::ThirdParty(_) = body.room_network {
        // There is none.
        return Ok(response);
    }
    let limit = body.limit.map(u64::from);
    let page = services.rooms.public_rooms(&body.filter, limit, body.since.as_deref())?;
    response.chunk = page.rooms;
    response.next_batch = page.next;
    response.prev_batch = page.previous;
    response.total_room_count_estimate = Some(count(page.total));
    Ok(response)
}

/// `GET /_matrix/client/v3/directory/list/room/{roomId}`
async fn get_room_visibility(
    services: Arc<Services>,
    Ruma { body, .. }: Ruma<get_room_visibility::v3::Request>,
) -> Result<get_room_visibility::v3::Response> {
    let listed = services.rooms.is_listed(&body.room_id)?;
    let visibility = if listed { Visibility::Public } else { Visibility::Private };
    Ok(get_room_visibility::v3::Response::new(visibility))
}

/// `PUT /_matrix/client/v3/directory/list/room/{roomId}`
async fn set_room_visibility(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<set_room_visibility::v3::Request>,
) -> Result<set_room_visibility::v3::Response> {
    let listed = match body.visibility {
        Visibility::Public => true,
        Visibility::Private => false,
        _ => return Err(Error::invalid_param("there is no such visibility")),
    };
    services.rooms.list(&sender, &body.room_id, listed).await?;
    Ok(set_room_visibility::v3::Response::new())
}

fn ensure_here(services: &Services, server: Option<&OwnedServerName>) -> Result<()> {
    match server {
        Some(server) if *server != services.config.server.name => {
            Err(Error::not_found("this server does not federate and knows no other directory"))
        }
        _ => Ok(()),
    }
}

fn count(total: usize) -> UInt {
    UInt::new_saturating(u64::try_from(total).unwrap_or(u64::MAX))
}
