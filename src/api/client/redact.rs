//! `PUT /rooms/{roomId}/redact`

use std::sync::Arc;

use ruma::api::client::redact::redact_event;
use wick_core::Result;
use wick_rooms::rooms::Redact;
use wick_service::Services;

use super::when::only_now;
use crate::{
    route::{Route, Ruma, route},
    whole::Whole,
};

pub(crate) fn routes() -> Vec<Route> {
    vec![only_now(route(redact_event))]
}

/// `PUT /_matrix/client/v3/rooms/{roomId}/redact/{eventId}/{txnId}`
async fn redact_event(
    services: Arc<Services>,
    Ruma { body: Whole { request, body }, sender, .. }: Ruma<Whole<redact_event::v3::Request>>,
) -> Result<redact_event::v3::Response> {
    let redact = Redact {
        room_id: request.room_id,
        event_id: request.event_id,
        transaction_id: request.txn_id,
        content: body,
    };
    let sent = services.rooms.redact(&sender, redact).await?;
    Ok(redact_event::v3::Response::new(sent.event_id))
}
