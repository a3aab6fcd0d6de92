//! `/user`: devices and keys of local users, for other servers.

use std::sync::Arc;

use ruma::UInt;
use ruma_federation_api::{
    device::get_devices::v1 as get_devices,
    keys::{claim_keys::v1 as claim_keys, get_keys::v1 as get_keys},
};
use wick_core::Result;
use wick_service::Services;

use crate::route::{Route, Ruma, route};

pub(super) fn routes() -> Vec<Route> {
    vec![route(devices), route(query_keys), route(claim)]
}

/// `GET /_matrix/federation/v1/user/devices/{userId}`
async fn devices(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<get_devices::Request>,
) -> Result<get_devices::Response> {
    let wanted = [(body.user_id.clone(), Vec::new())].into();
    let found = services.device_keys.query_for_server(&sender, wanted).await?;
    let mut response = get_devices::Response::new(body.user_id, UInt::MIN);
    for (_, mut keys) in found {
        response.stream_id = UInt::new_saturating(keys.stream_id);
        let devices = keys.devices.into_iter().map(|(id, device_keys)| {
            let name = keys.names.remove(&id);
            let mut device = get_devices::UserDevice::new(id, device_keys);
            device.device_display_name = name;
            device
        });
        response.devices = devices.collect();
        (response.master_key, response.self_signing_key) = (keys.master, keys.self_signing);
    }
    Ok(response)
}

/// `POST /_matrix/federation/v1/user/keys/query`
async fn query_keys(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<get_keys::Request>,
) -> Result<get_keys::Response> {
    let mut response = get_keys::Response::default();
    for (user_id, keys) in services.device_keys.query_for_server(&sender, body.device_keys).await? {
        response.master_keys.extend(keys.master.map(|key| (user_id.clone(), key)));
        response.self_signing_keys.extend(keys.self_signing.map(|key| (user_id.clone(), key)));
        response.device_keys.insert(user_id, keys.devices);
    }
    Ok(response)
}

/// `POST /_matrix/federation/v1/user/keys/claim`
async fn claim(
    services: Arc<Services>,
    Ruma { body, .. }: Ruma<claim_keys::Request>,
) -> Result<claim_keys::Response> {
    // The failures have no place in this response.
    let claimed = services.device_keys.claim_for_server(&body.one_time_keys).await?;
    Ok(claim_keys::Response::new(claimed.one_time_keys))
}
