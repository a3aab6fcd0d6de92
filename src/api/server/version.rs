//! What this server is, and where it is reached: `/version`, `/.well-known/matrix/server`.

use std::sync::Arc;

use ruma::ServerName;
use ruma_federation_api::discovery::{
    discover_homeserver,
    get_server_version::v1::{self as get_server_version, Server},
};
use wick_core::{Error, Result};
use wick_service::Services;

use crate::route::{Route, Ruma, route};

pub(super) fn routes() -> Vec<Route> {
    vec![route(get_version).uncounted(), route(discover_server).uncounted()]
}

/// `GET /_matrix/federation/v1/version`
async fn get_version(
    _: Arc<Services>,
    _: Ruma<get_server_version::Request>,
) -> Result<get_server_version::Response> {
    let mut server = Server::new();
    server.name = Some("wick".to_owned());
    server.version = Some(env!("CARGO_PKG_VERSION").to_owned());
    let mut response = get_server_version::Response::new();
    response.server = Some(server);
    Ok(response)
}

/// `GET /.well-known/matrix/server`
async fn discover_server(
    services: Arc<Services>,
    _: Ruma<discover_homeserver::Request>,
) -> Result<discover_homeserver::Response> {
    let announced = ServerName::parse(&*services.config.server.well_known_server)
        .map_err(|_| Error::not_found("this server announces no other name"))?;
    Ok(discover_homeserver::Response::new(announced))
}
