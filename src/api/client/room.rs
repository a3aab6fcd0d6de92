//! `/createRoom` and what else concerns a room as a whole.

use std::sync::Arc;

use ruma::api::client::room::{aliases, create_room, upgrade_room};
use wick_core::Result;
use wick_runtime::Limit;
use wick_service::Services;

use crate::route::{Route, Ruma, Unread, route, route_unread};

pub(crate) fn routes() -> Vec<Route> {
    vec![
        route_unread(create_room).limited(Limit::Rooms),
        route(aliases),
        route(upgrade_room).limited(Limit::Rooms),
    ]
}

/// `POST /_matrix/client/v3/createRoom`
async fn create_room(
    services: Arc<Services>,
    request: Unread<create_room::v3::Request>,
) -> Result<create_room::v3::Response> {
    let Ruma { body, sender, .. } = request.read_with_body()?;
    let room_id = services.create_room(&sender, body).await?;
    Ok(create_room::v3::Response::new(room_id))
}

/// `GET /_matrix/client/v3/rooms/{roomId}/aliases`
async fn aliases(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<aliases::v3::Request>,
) -> Result<aliases::v3::Response> {
    Ok(aliases::v3::Response::new(services.rooms.aliases(&sender, &body.room_id)?))
}

/// `POST /_matrix/client/v3/rooms/{roomId}/upgrade`
async fn upgrade_room(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<upgrade_room::v3::Request>,
) -> Result<upgrade_room::v3::Response> {
    let more = &body.additional_creators;
    let new = services.rooms.upgrade(&sender, &body.room_id, body.new_version.clone(), more);
    Ok(upgrade_room::v3::Response::new(new.await?))
}
