//! `/user/{userId}/filter`: filters to be named later.

use std::sync::Arc;

use ruma::api::client::filter::{create_filter, get_filter};
use wick_core::{Error, Result};
use wick_service::Services;

use super::own;
use crate::route::{Route, Ruma, route};

pub(crate) fn routes() -> Vec<Route> {
    vec![route(create_filter), route(get_filter)]
}

/// `POST /_matrix/client/v3/user/{userId}/filter`
async fn create_filter(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<create_filter::v3::Request>,
) -> Result<create_filter::v3::Response> {
    own(&sender, &body.user_id)?;
    let filter_id = services.filters.create(sender.user, &body.filter).await?;
    Ok(create_filter::v3::Response::new(filter_id))
}

/// `GET /_matrix/client/v3/user/{userId}/filter/{filterId}`
async fn get_filter(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<get_filter::v3::Request>,
) -> Result<get_filter::v3::Response> {
    own(&sender, &body.user_id)?;
    let filter = services
        .filters
        .get(sender.user, &body.filter_id)?
        .ok_or_else(|| Error::not_found("there is no filter with this id"))?;
    Ok(get_filter::v3::Response::new(filter))
}
