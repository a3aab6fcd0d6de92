//! `/user/{userId}/rooms/{roomId}/tags`

use std::sync::Arc;

use ruma::api::client::tag::{create_tag, delete_tag, get_tags};
use wick_core::Result;
use wick_service::Services;

use super::own;
use crate::route::{Route, Ruma, route};

pub(crate) fn routes() -> Vec<Route> {
    vec![route(get_tags), route(create_tag), route(delete_tag)]
}

/// `GET /_matrix/client/v3/user/{userId}/rooms/{roomId}/tags`
async fn get_tags(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<get_tags::v3::Request>,
) -> Result<get_tags::v3::Response> {
    own(&sender, &body.user_id)?;
    let tags = services.account_data.tags(sender.user, &body.room_id)?;
    Ok(get_tags::v3::Response::new(tags))
}

/// `PUT /_matrix/client/v3/user/{userId}/rooms/{roomId}/tags/{tag}`
async fn create_tag(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<create_tag::v3::Request>,
) -> Result<create_tag::v3::Response> {
    own(&sender, &body.user_id)?;
    services.account_data.set_tag(sender.user, &body.room_id, &body.tag, body.tag_info).await?;
    Ok(create_tag::v3::Response::new())
}

/// `DELETE /_matrix/client/v3/user/{userId}/rooms/{roomId}/tags/{tag}`
async fn delete_tag(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<delete_tag::v3::Request>,
) -> Result<delete_tag::v3::Response> {
    own(&sender, &body.user_id)?;
    services.account_data.delete_tag(sender.user, &body.room_id, &body.tag).await?;
    Ok(delete_tag::v3::Response::new())
}
