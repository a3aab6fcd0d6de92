//! `/rooms/{roomId}/timestamp_to_event`

use std::sync::Arc;

use ruma::api::client::room::get_event_by_timestamp;
use wick_core::Result;
use wick_service::Services;

use super::direction;
use crate::route::{Route, Ruma, route};

pub(crate) fn routes() -> Vec<Route> {
    vec![route(get_event_by_timestamp)]
}

/// `GET /_matrix/client/v1/rooms/{roomId}/timestamp_to_event`
async fn get_event_by_timestamp(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<get_event_by_timestamp::v1::Request>,
) -> Result<get_event_by_timestamp::v1::Response> {
    let (at, direction) = (body.ts.into(), direction(body.dir));
    let (event, at) = services.event_at(&sender, &body.room_id, at, direction).await?;
    Ok(get_event_by_timestamp::v1::Response::new(event, at.matrix()))
}
