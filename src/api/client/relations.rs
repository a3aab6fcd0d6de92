//! `/rooms/{roomId}/relations/{eventId}`

use std::sync::Arc;

use ruma::{
    UInt,
    api::client::relations::{
        get_relating_events, get_relating_events_with_rel_type,
        get_relating_events_with_rel_type_and_event_type,
    },
    serde::Raw,
};
use wick_account::Session;
use wick_core::Result;
use wick_rooms::history::{AskRelations, Chunk, RECURSION_DEPTH};
use wick_service::Services;

use super::{count, direction};
use crate::route::{Route, Ruma, route};

/// How many events are returned by default.
const DEFAULT_LIMIT: usize = 20;

pub(crate) fn routes() -> Vec<Route> {
    vec![
        route(get_relating_events),
        route(get_relating_events_with_rel_type),
        route(get_relating_events_with_rel_type_and_event_type),
    ]
}

/// The three requests and their answers differ in two fields.
macro_rules! ask {
    ($body:ident, $rel_type:expr, $event_type:expr) => {
        AskRelations {
            room_id: $body.room_id,
            event_id: $body.event_id,
            rel_type: $rel_type,
            event_type: $event_type,
            from: $body.from,
            to: $body.to,
            direction: direction($body.dir),
            limit: $body.limit.map_or(DEFAULT_LIMIT, count),
            recurse: $body.recurse,
        }
    };
}

macro_rules! answer {
    ($family:ident, $found:ident) => {{
        let chunk = $found.chunk.chunk.into_iter().map(Raw::from_json).collect();
        let mut response = $family::v1::Response::new(chunk);
        response.next_batch = $found.chunk.next_batch;
        response.prev_batch = $found.prev_batch;
        response.recursion_depth = $found.recursion_depth;
        Ok(response)
    }};
}

struct Found {
    chunk: Chunk,
    prev_batch: Option<String>,
    recursion_depth: Option<UInt>,
}

fn find(services: &Services, session: &Session, ask: AskRelations) -> Result<Found> {
    let chunk = services.history.relations(session, &ask)?;
    let recursion_depth = ask.recurse.then(|| RECURSION_DEPTH.into());
    Ok(Found { chunk, prev_batch: ask.from, recursion_depth })
}

/// `GET /_matrix/client/v1/rooms/{roomId}/relations/{eventId}`
async fn get_relating_events(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<get_relating_events::v1::Request>,
) -> Result<get_relating_events::v1::Response> {
    let found = find(&services, &sender, ask!(body, None, None))?;
    answer!(get_relating_events, found)
}

/// `GET /_matrix/client/v1/rooms/{roomId}/relations/{eventId}/{relType}`
async fn get_relating_events_with_rel_type(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<get_relating_events_with_rel_type::v1::Request>,
) -> Result<get_relating_events_with_rel_type::v1::Response> {
    let rel_type = Some(body.rel_type.to_string());
    let found = find(&services, &sender, ask!(body, rel_type, None))?;
    answer!(get_relating_events_with_rel_type, found)
}

/// `GET /_matrix/client/v1/rooms/{roomId}/relations/{eventId}/{relType}/{eventType}`
async fn get_relating_events_with_rel_type_and_event_type(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<get_relating_events_with_rel_type_and_event_type::v1::Request>,
) -> Result<get_relating_events_with_rel_type_and_event_type::v1::Response> {
    let rel_type = Some(body.rel_type.to_string());
    let event_type = Some(body.event_type.to_string());
    let found = find(&services, &sender, ask!(body, rel_type, event_type))?;
    answer!(get_relating_events_with_rel_type_and_event_type, found)
}
