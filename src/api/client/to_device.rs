//! `/sendToDevice`: messages from device to device.

use std::sync::Arc;

use ruma::api::client::to_device::send_event_to_device;
use wick_core::Result;
use wick_service::Services;

use crate::route::{Route, Ruma, route};

pub(crate) fn routes() -> Vec<Route> {
    vec![route(send_event_to_device)]
}

/// `PUT /_matrix/client/v3/sendToDevice/{eventType}/{txnId}`
async fn send_event_to_device(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<send_event_to_device::v3::Request>,
) -> Result<send_event_to_device::v3::Response> {
    let event_type = body.event_type.to_string();
    services.to_device.send(&sender, &event_type, body.txn_id.as_str(), &body.messages).await?;
    Ok(send_event_to_device::v3::Response::new())
}
