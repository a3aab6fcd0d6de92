//! `/directory/room/{roomAlias}`

use std::sync::Arc;

use ruma::api::client::alias::{create_alias, delete_alias, get_alias};
use wick_core::Result;
use wick_service::Services;

use crate::route::{Route, Ruma, route};

pub(crate) fn routes() -> Vec<Route> {
    vec![route(get_alias), route(create_alias), route(delete_alias)]
}

/// `GET /_matrix/client/v3/directory/room/{roomAlias}`
async fn get_alias(
    services: Arc<Services>,
    Ruma { body, .. }: Ruma<get_alias::v3::Request>,
) -> Result<get_alias::v3::Response> {
    let (room_id, servers) = services.resolve_alias(&body.room_alias).await?;
    Ok(get_alias::v3::Response::new(room_id, servers))
}

/// `PUT /_matrix/client/v3/directory/room/{roomAlias}`
async fn create_alias(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<create_alias::v3::Request>,
) -> Result<create_alias::v3::Response> {
    services.rooms.add_alias(&sender, &body.room_alias, &body.room_id).await?;
    Ok(create_alias::v3::Response::new())
}

/// `DELETE /_matrix/client/v3/directory/room/{roomAlias}`
async fn delete_alias(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<delete_alias::v3::Request>,
) -> Result<delete_alias::v3::Response> {
    services.rooms.delete_alias(&sender, &body.room_alias).await?;
    Ok(delete_alias::v3::Response::new())
}
