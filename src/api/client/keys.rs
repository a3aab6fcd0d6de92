//! `/keys`: the public keys of devices and users.

use std::sync::Arc;

use ruma::{
    OneTimeKeyAlgorithm, UInt,
    api::client::keys::{claim_keys, get_keys, upload_keys},
};
use wick_core::Result;
use wick_service::Services;

use crate::route::{Route, Ruma, route};

pub(crate) fn routes() -> Vec<Route> {
    vec![route(upload_keys), route(get_keys), route(claim_keys)]
}

/// `POST /_matrix/client/v3/keys/upload`
async fn upload_keys(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<upload_keys::v3::Request>,
) -> Result<upload_keys::v3::Response> {
    let counts = services.device_keys.upload(&sender, &body).await?;
    let counts = counts.into_iter().map(|(algorithm, count)| {
        (OneTimeKeyAlgorithm::from(algorithm), UInt::try_from(count).unwrap_or(UInt::MAX))
    });
    Ok(upload_keys::v3::Response::new(counts.collect()))
}

/// `POST /_matrix/client/v3/keys/query`
async fn get_keys(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<get_keys::v3::Request>,
) -> Result<get_keys::v3::Response> {
    services.device_keys.query(&sender, &body.device_keys)
}

/// `POST /_matrix/client/v3/keys/claim`
async fn claim_keys(
    services: Arc<Services>,
    Ruma { body, .. }: Ruma<claim_keys::v3::Request>,
) -> Result<claim_keys::v3::Response> {
    services.device_keys.claim(&body.one_time_keys).await
}
