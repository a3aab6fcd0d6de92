//! `/devices`: the devices of the user.

use std::sync::Arc;

use axum::response::Response;
use ruma::api::client::device::{
    delete_device, delete_devices, get_device, get_devices, update_device,
};
use wick_account::uia::{Confirmation, Finished};
use wick_core::{Error, Result};
use wick_service::Services;

use crate::{
    reply::{Answer, Reply},
    route::{Route, Ruma, Unread, route, route_unread},
};

pub(crate) fn routes() -> Vec<Route> {
    vec![
        route(get_devices),
        route(get_device),
        route(update_device),
        route_unread(delete_device).repeatable(deleted),
        route_unread(delete_devices).repeatable(deleted),
    ]
}

/// `GET /_matrix/client/v3/devices`
async fn get_devices(
    services: Arc<Services>,
    Ruma { sender, .. }: Ruma<get_devices::v3::Request>,
) -> Result<get_devices::v3::Response> {
    Ok(get_devices::v3::Response::new(services.devices.list(sender.user)?))
}

/// `GET /_matrix/client/v3/devices/{deviceId}`
async fn get_device(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<get_device::v3::Request>,
) -> Result<get_device::v3::Response> {
    let device = services
        .devices
        .get(sender.user, &body.device_id)?
        .ok_or_else(|| Error::not_found("there is no such device"))?;
    Ok(get_device::v3::Response::new(device))
}

/// `PUT /_matrix/client/v3/devices/{deviceId}`
async fn update_device(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<update_device::v3::Request>,
) -> Result<update_device::v3::Response> {
    services.devices.rename(&sender, &body.device_id, body.display_name).await?;
    Ok(update_device::v3::Response::new())
}

/// `DELETE /_matrix/client/v3/devices/{deviceId}`
async fn delete_device(
    services: Arc<Services>,
    request: Unread<delete_device::v3::Request>,
) -> Result<Answer<delete_device::v3::Response>> {
    let identity = request.identity();
    let Ruma { body, sender, .. } = request.read()?;
    let operation = format!("delete {}", body.device_id);
    match services.uia.confirm(&sender, &operation, &identity, body.auth.as_ref()).await? {
        Confirmation::Challenge(challenge) => Ok(Answer::Challenge(challenge)),
        Confirmation::Confirmed(proof) => {
            services.devices.remove(sender.user, &[body.device_id], &proof).await?;
            Ok(Answer::Done(delete_device::v3::Response::new()))
        }
    }
}

/// `POST /_matrix/client/v3/delete_devices`
async fn delete_devices(
    services: Arc<Services>,
    request: Unread<delete_devices::v3::Request>,
) -> Result<Answer<delete_devices::v3::Response>> {
    let identity = request.identity();
    let Ruma { body, sender, .. } = request.read()?;
    let operation = format!("delete {}", serde_json::json!(body.devices));
    match services.uia.confirm(&sender, &operation, &identity, body.auth.as_ref()).await? {
        Confirmation::Challenge(challenge) => Ok(Answer::Challenge(challenge)),
        Confirmation::Confirmed(proof) => {
            services.devices.remove(sender.user, &body.devices, &proof).await?;
            Ok(Answer::Done(delete_devices::v3::Response::new()))
        }
    }
}

fn deleted(_: Finished) -> Result<Response> {
    delete_devices::v3::Response::new().into_http()
}
