//! `/createRoom` and what else concerns a room as a whole.

use std::sync::Arc;

use ruma::api::client::room::create_room;
use wick_core::Result;
use wick_service::{Limit, Services};

use crate::route::{Route, Ruma, route};

pub(crate) fn routes() -> Vec<Route> {
    vec![route(create_room).limited(Limit::Rooms)]
}

/// `POST /_matrix/client/v3/createRoom`
async fn create_room(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<create_room::v3::Request>,
) -> Result<create_room::v3::Response> {
    let room_id = services.rooms.create(&sender, body).await?;
    Ok(create_room::v3::Response::new(room_id))
}
