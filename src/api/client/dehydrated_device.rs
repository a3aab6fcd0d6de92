//! `/dehydrated_device` (MSC3814).

use std::sync::Arc;

use ruma::{
    DeviceId,
    api::client::dehydrated_device::{
        delete_dehydrated_device::unstable as delete, get_dehydrated_device::unstable as get,
        get_events::unstable as post_events, put_dehydrated_device::unstable as put,
    },
    serde::Raw,
};
use serde_json::value::RawValue;
use wick_account::Session;
use wick_core::{Error, Result};
use wick_encryption::to_device::InboxPortion;
use wick_ruma::dehydrated_events as get_events;
use wick_service::Services;

use crate::route::{Route, Ruma, route};

pub(crate) fn routes() -> Vec<Route> {
    vec![
        route(put_dehydrated_device),
        route(get_dehydrated_device),
        route(delete_dehydrated_device),
        route(get_dehydrated_events),
        route(post_dehydrated_events),
    ]
}

/// `PUT /_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device`
async fn put_dehydrated_device(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<put::Request>,
) -> Result<put::Response> {
    Ok(put::Response::new(services.dehydrated_devices.put(&sender, body).await?))
}

/// `GET /_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device`
async fn get_dehydrated_device(
    services: Arc<Services>,
    Ruma { sender, .. }: Ruma<get::Request>,
) -> Result<get::Response> {
    let device = services.dehydrated_devices.get(sender.user)?;
    let device_data = RawValue::from_string(device.device_data)
        .map_err(|error| Error::internal("a dehydrated device", error))?;
    Ok(get::Response::new(device.device_id, Raw::from_json(device_data)))
}

/// `DELETE /_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device`
async fn delete_dehydrated_device(
    services: Arc<Services>,
    Ruma { sender, .. }: Ruma<delete::Request>,
) -> Result<delete::Response> {
    Ok(delete::Response::new(services.dehydrated_devices.delete(sender.user).await?))
}

/// `GET /_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device/{device_id}/events`
async fn get_dehydrated_events(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<get_events::Request>,
) -> Result<get_events::Response> {
    events(&services, &sender, &body.device_id, body.from.as_deref())
}

/// `POST` to the same path, the form of the MSC's first text. Ruma's response would have a `null` where there is no more.
async fn post_dehydrated_events(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<post_events::Request>,
) -> Result<get_events::Response> {
    let from = body.next_batch.as_deref();
    events(&services, &sender, &body.device_id, from)
}

fn events(
    services: &Services,
    session: &Session,
    device_id: &DeviceId,
    from: Option<&str>,
) -> Result<get_events::Response> {
    let InboxPortion { events, upto } =
        services.dehydrated_devices.events(session.user, device_id, from)?;
    let events = events.into_iter().map(Raw::from_json).collect();
    Ok(get_events::Response::new(events, upto.map(|position| position.0.to_string())))
}
