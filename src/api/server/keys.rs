//! Signing keys: this server's own, and as a notary those of others.

use std::sync::Arc;

use ruma_federation_api::discovery::{
    get_remote_server_keys::v2 as get_remote_server_keys,
    get_remote_server_keys_batch::v2 as get_remote_server_keys_batch,
    get_server_keys::v2 as get_server_keys,
};
use wick_core::{Result, Timestamp};
use wick_service::Services;

use crate::route::{Route, Ruma, route};

pub(super) fn routes() -> Vec<Route> {
    vec![route(get_keys).uncounted(), route(get_remote_keys), route(get_remote_keys_batch)]
}

/// `GET /_matrix/key/v2/server`
async fn get_keys(
    services: Arc<Services>,
    _: Ruma<get_server_keys::Request>,
) -> Result<get_server_keys::Response> {
    Ok(get_server_keys::Response::new(services.federation()?.keys.published()?))
}

/// `GET /_matrix/key/v2/query/{serverName}`
async fn get_remote_keys(
    services: Arc<Services>,
    Ruma { body, .. }: Ruma<get_remote_server_keys::Request>,
) -> Result<get_remote_server_keys::Response> {
    let until = Timestamp::from(body.minimum_valid_until_ts);
    let keys = services.federation()?.keys.attest_until(&body.server_name, until).await?;
    Ok(get_remote_server_keys::Response::new(keys.into_iter().collect()))
}

/// `POST /_matrix/key/v2/query`
async fn get_remote_keys_batch(
    services: Arc<Services>,
    Ruma { body, .. }: Ruma<get_remote_server_keys_batch::Request>,
) -> Result<get_remote_server_keys_batch::Response> {
    let keys = services.federation()?.keys.attest(&body.server_keys).await?;
    Ok(get_remote_server_keys_batch::Response::new(keys))
}
