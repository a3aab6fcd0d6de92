//! `/rooms/{roomId}/messages` and `/rooms/{roomId}/event`

use std::sync::Arc;

use ruma::{
    RoomId,
    api::client::{message::get_message_events, room::get_room_event},
    serde::Raw,
};
use wick_core::Result;
use wick_rooms::history::AskMessages;
use wick_service::Services;

use super::{count, direction};
use crate::{
    event_filter::Filtered,
    route::{Route, Ruma, Unread, route, route_unread},
};

pub(crate) fn routes() -> Vec<Route> {
    vec![route_unread(get_message_events), route(get_room_event)]
}

/// `GET /_matrix/client/v3/rooms/{roomId}/messages`
async fn get_message_events(
    services: Arc<Services>,
    request: Unread<Filtered<get_message_events::v3::Request>>,
) -> Result<get_message_events::v3::Response> {
    // Access to the room is checked first: its refusal precedes errors in the rest of the request.
    if let [room_id] = request.arguments()
        && let Ok(room_id) = <&RoomId>::try_from(room_id.as_str())
    {
        services.history.ensure_readable(&request.sender, room_id)?;
    }
    let Ruma { body, sender, .. } = request.read()?;
    let (body, filter) = body.split();
    let ask = AskMessages {
        room_id: body.room_id,
        from: body.from,
        to: body.to,
        direction: direction(body.dir),
        limit: count(body.limit),
        filter: filter(body.filter),
        skips_gaps: false,
    };
    let messages = services.messages(&sender, ask).await?;
    let mut response = get_message_events::v3::Response::new();
    response.start = messages.start;
    response.end = messages.end;
    response.chunk = messages.chunk.into_iter().map(Raw::from_json).collect();
    response.state = messages.state.into_iter().map(Raw::from_json).collect();
    Ok(response)
}

/// `GET /_matrix/client/v3/rooms/{roomId}/event/{eventId}`
async fn get_room_event(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<get_room_event::v3::Request>,
) -> Result<get_room_event::v3::Response> {
    let event = services.history.event(&sender, &body.room_id, &body.event_id)?;
    Ok(get_room_event::v3::Response::new(Raw::from_json(event)))
}
