//! `/rooms/{roomId}/context/{eventId}`

use std::sync::Arc;

use ruma::{api::client::context::get_context, serde::Raw};
use wick_core::Result;
use wick_rooms::history::AskContext;
use wick_service::Services;

use super::count;
use crate::{
    event_filter::Filtered,
    route::{Route, Ruma, route},
};

pub(crate) fn routes() -> Vec<Route> {
    vec![route(get_context)]
}

/// `GET /_matrix/client/v3/rooms/{roomId}/context/{eventId}`
async fn get_context(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<Filtered<get_context::v3::Request>>,
) -> Result<get_context::v3::Response> {
    let (body, filter) = body.split();
    let limit = count(body.limit);
    let ask = AskContext {
        room_id: body.room_id,
        event_id: body.event_id,
        before: limit / 2,
        after: limit - limit / 2,
        filter: filter(body.filter),
    };
    let context = services.history.context(&sender, &ask)?;
    let mut response = get_context::v3::Response::new();
    response.start = Some(context.start);
    response.end = Some(context.end);
    response.event = Some(Raw::from_json(context.event));
    response.events_before = context.before.into_iter().map(Raw::from_json).collect();
    response.events_after = context.after.into_iter().map(Raw::from_json).collect();
    response.state = context.state.into_iter().map(Raw::from_json).collect();
    Ok(response)
}
