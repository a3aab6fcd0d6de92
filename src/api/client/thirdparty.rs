//! `/thirdparty`: this server is bridged to nothing.

use std::{collections::BTreeMap, sync::Arc};

use ruma::api::client::thirdparty::{
    get_location_for_protocol, get_location_for_room_alias, get_protocol, get_protocols,
    get_user_for_protocol, get_user_for_user_id,
};
use wick_core::{Error, Result};
use wick_service::Services;

use crate::route::{Route, Ruma, route};

pub(crate) fn routes() -> Vec<Route> {
    vec![
        route(get_protocols),
        route(get_protocol),
        route(get_location_for_protocol),
        route(get_location_for_room_alias),
        route(get_user_for_protocol),
        route(get_user_for_user_id),
    ]
}

/// `GET /_matrix/client/v3/thirdparty/protocols`
async fn get_protocols(
    _: Arc<Services>,
    _: Ruma<get_protocols::v3::Request>,
) -> Result<get_protocols::v3::Response> {
    Ok(get_protocols::v3::Response::new(BTreeMap::new()))
}

/// `GET /_matrix/client/v3/thirdparty/protocol/{protocol}`
async fn get_protocol(
    _: Arc<Services>,
    _: Ruma<get_protocol::v3::Request>,
) -> Result<get_protocol::v3::Response> {
    Err(unknown())
}

/// `GET /_matrix/client/v3/thirdparty/location/{protocol}`
async fn get_location_for_protocol(
    _: Arc<Services>,
    _: Ruma<get_location_for_protocol::v3::Request>,
) -> Result<get_location_for_protocol::v3::Response> {
    Err(unknown())
}

/// `GET /_matrix/client/v3/thirdparty/location`
async fn get_location_for_room_alias(
    _: Arc<Services>,
    _: Ruma<get_location_for_room_alias::v3::Request>,
) -> Result<get_location_for_room_alias::v3::Response> {
    Ok(get_location_for_room_alias::v3::Response::new(Vec::new()))
}

/// `GET /_matrix/client/v3/thirdparty/user/{protocol}`
async fn get_user_for_protocol(
    _: Arc<Services>,
    _: Ruma<get_user_for_protocol::v3::Request>,
) -> Result<get_user_for_protocol::v3::Response> {
    Err(unknown())
}

/// `GET /_matrix/client/v3/thirdparty/user`
async fn get_user_for_user_id(
    _: Arc<Services>,
    _: Ruma<get_user_for_user_id::v3::Request>,
) -> Result<get_user_for_user_id::v3::Response> {
    Ok(get_user_for_user_id::v3::Response::new(Vec::new()))
}

fn unknown() -> Error {
    Error::not_found("this server is bridged to nothing")
}
