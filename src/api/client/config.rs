//! `/user/{userId}/account_data` and the same by room.

use std::sync::Arc;

use ruma::{
    api::client::config::{
        get_global_account_data, get_room_account_data, set_global_account_data,
        set_room_account_data,
    },
    serde::Raw,
};
use wick_core::{Error, Result};
use wick_ruma::account_data::{delete_global_account_data, delete_room_account_data};
use wick_service::Services;

use super::own;
use crate::route::{Route, Ruma, route};

pub(crate) fn routes() -> Vec<Route> {
    vec![
        route(get_global_account_data),
        route(get_room_account_data),
        route(set_global_account_data),
        route(set_room_account_data),
        route(delete_global_account_data),
        route(delete_room_account_data),
    ]
}

/// `GET /_matrix/client/v3/user/{userId}/account_data/{type}`
async fn get_global_account_data(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<get_global_account_data::v3::Request>,
) -> Result<get_global_account_data::v3::Response> {
    own(&sender, &body.user_id)?;
    let content = services
        .account_data
        .get(sender.user, None, &body.event_type.to_string())?
        .ok_or_else(nothing)?;
    Ok(get_global_account_data::v3::Response::new(Raw::from_json(content)))
}

/// `GET /_matrix/client/v3/user/{userId}/rooms/{roomId}/account_data/{type}`
async fn get_room_account_data(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<get_room_account_data::v3::Request>,
) -> Result<get_room_account_data::v3::Response> {
    own(&sender, &body.user_id)?;
    let content = services
        .account_data
        .get(sender.user, Some(&body.room_id), &body.event_type.to_string())?
        .ok_or_else(nothing)?;
    Ok(get_room_account_data::v3::Response::new(Raw::from_json(content)))
}

/// `PUT /_matrix/client/v3/user/{userId}/account_data/{type}`
async fn set_global_account_data(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<set_global_account_data::v3::Request>,
) -> Result<set_global_account_data::v3::Response> {
    own(&sender, &body.user_id)?;
    let (event_type, content) = (body.event_type.to_string(), body.data.json());
    services.account_data.set(sender.user, None, &event_type, content).await?;
    Ok(set_global_account_data::v3::Response::new())
}

/// `PUT /_matrix/client/v3/user/{userId}/rooms/{roomId}/account_data/{type}`
async fn set_room_account_data(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<set_room_account_data::v3::Request>,
) -> Result<set_room_account_data::v3::Response> {
    own(&sender, &body.user_id)?;
    let (event_type, content) = (body.event_type.to_string(), body.data.json());
    services.account_data.set(sender.user, Some(&body.room_id), &event_type, content).await?;
    Ok(set_room_account_data::v3::Response::new())
}

/// `DELETE …/user/{userId}/account_data/{type}` (MSC3391)
async fn delete_global_account_data(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<delete_global_account_data::Request>,
) -> Result<delete_global_account_data::Response> {
    own(&sender, &body.user_id)?;
    services.account_data.delete(sender.user, None, &body.event_type.to_string()).await?;
    Ok(delete_global_account_data::Response::new())
}

/// `DELETE …/user/{userId}/rooms/{roomId}/account_data/{type}` (MSC3391)
async fn delete_room_account_data(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<delete_room_account_data::Request>,
) -> Result<delete_room_account_data::Response> {
    own(&sender, &body.user_id)?;
    let event_type = body.event_type.to_string();
    services.account_data.delete(sender.user, Some(&body.room_id), &event_type).await?;
    Ok(delete_room_account_data::Response::new())
}

fn nothing() -> Error {
    Error::not_found("there is no account data of this type")
}
