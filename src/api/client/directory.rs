//! `/publicRooms` and `/directory/list/room/{roomId}`

use std::{mem, sync::Arc};

use ruma::{
    OwnedServerName,
    api::client::{
        directory::{
            get_public_rooms, get_public_rooms_filtered, get_room_visibility, set_room_visibility,
        },
        room::Visibility,
    },
    directory::{Filter, PublicRoomsChunk, RoomNetwork},
    room::JoinRuleKind,
};
use serde::Serialize;
use wick_core::{Error, Result};
use wick_rooms::rooms::Page;
use wick_service::Services;

use crate::{
    address::limit_key,
    reply::Json,
    route::{Route, Ruma, route},
};

pub(crate) fn routes() -> Vec<Route> {
    vec![
        route(get_public_rooms),
        route(get_public_rooms_filtered),
        route(get_room_visibility),
        route(set_room_visibility),
    ]
}

/// A page of the directory. Ruma's leaves out a join rule that is the default; clients look for it.
#[derive(Default, Serialize)]
pub(crate) struct Listed {
    chunk: Vec<Listing>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_batch: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prev_batch: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total_room_count_estimate: Option<usize>,
}

#[derive(Serialize)]
struct Listing {
    join_rule: JoinRuleKind,
    #[serde(flatten)]
    room: PublicRoomsChunk,
}

impl From<Page> for Listed {
    fn from(page: Page) -> Self {
        let listing = |mut room: PublicRoomsChunk| {
            // What is left behind is the default, and not written a second time.
            Listing { join_rule: mem::take(&mut room.join_rule), room }
        };
        Self {
            chunk: page.rooms.into_iter().map(listing).collect(),
            next_batch: page.next,
            prev_batch: page.previous,
            total_room_count_estimate: Some(page.total),
        }
    }
}

/// `GET /_matrix/client/v3/publicRooms`
async fn get_public_rooms(
    services: Arc<Services>,
    Ruma { body, address, .. }: Ruma<get_public_rooms::v3::Request>,
) -> Result<Json<Listed>> {
    if let Some(server) = elsewhere(&services, body.server) {
        let all = (Filter::default(), RoomNetwork::Matrix);
        let page = services.public_rooms_of(&server, all, body.limit, body.since).await?;
        return Ok(Json(page.into()));
    }
    let limit = body.limit.map(u64::from);
    let (filter, asker) = (Filter::default(), limit_key(address));
    let page = services.rooms.public_rooms(&asker, filter, limit, body.since).await?;
    Ok(Json(page.into()))
}

/// `POST /_matrix/client/v3/publicRooms`
async fn get_public_rooms_filtered(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<get_public_rooms_filtered::v3::Request>,
) -> Result<Json<Listed>> {
    if let Some(server) = elsewhere(&services, body.server) {
        let wanted = (body.filter, body.room_network);
        let page = services.public_rooms_of(&server, wanted, body.limit, body.since).await?;
        return Ok(Json(page.into()));
    }
    if let RoomNetwork::ThirdParty(_) = body.room_network {
        // There is none.
        return Ok(Json(Listed::default()));
    }
    let limit = body.limit.map(u64::from);
    let asker = &sender.user_id;
    let page = services.rooms.public_rooms(asker, body.filter, limit, body.since).await?;
    Ok(Json(page.into()))
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

/// The server whose directory is asked for, if it is another one.
fn elsewhere(services: &Services, server: Option<OwnedServerName>) -> Option<OwnedServerName> {
    server.filter(|server| *server != services.config.server.name)
}
