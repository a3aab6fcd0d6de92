//! Events, states and history of rooms, for the other servers in them.

use std::sync::Arc;

use ruma_federation_api::{
    authorization::get_event_authorization::v1 as get_event_authorization,
    backfill::get_backfill::v1 as get_backfill,
    event::{
        get_event::v1 as get_event, get_event_by_timestamp::v1 as get_event_by_timestamp,
        get_missing_events::v1 as get_missing_events, get_room_state::v1 as get_room_state,
        get_room_state_ids::v1 as get_room_state_ids,
    },
};
use wick_core::Result;
use wick_inbound::MissingEvents;
use wick_service::Services;

use super::event_lists::EventLists;
use crate::{
    client::{count, direction},
    route::{Route, Ruma, route},
};

pub(super) fn routes() -> Vec<Route> {
    vec![
        route(event),
        route(state),
        route(state_ids),
        route(auth_chain),
        route(missing_events),
        route(backfill),
        route(event_by_timestamp),
    ]
}

/// `GET /_matrix/federation/v1/event/{eventId}`
async fn event(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<get_event::Request>,
) -> Result<get_event::Response> {
    let event = services.federated()?.answers.event(&sender, &body.event_id).await?;
    let (name, now) = (services.config.server.name.clone(), services.clock.now());
    Ok(get_event::Response::new(name, now.matrix(), event))
}

/// `GET /_matrix/federation/v1/state/{roomId}`
async fn state(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<get_room_state::Request>,
) -> Result<EventLists> {
    let answers = &services.federated()?.answers;
    let found = answers.state(&sender, &body.room_id, &body.event_id).await?;
    let lists = [("pdus", found.state), ("auth_chain", found.auth_chain)];
    EventLists::new(&services, sender, lists)
}

/// `GET /_matrix/federation/v1/state_ids/{roomId}`
async fn state_ids(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<get_room_state_ids::Request>,
) -> Result<get_room_state_ids::Response> {
    let answers = &services.federated()?.answers;
    let found = answers.state_ids(&sender, &body.room_id, &body.event_id).await?;
    Ok(get_room_state_ids::Response::new(found.auth_chain, found.state))
}

/// `GET /_matrix/federation/v1/event_auth/{roomId}/{eventId}`
async fn auth_chain(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<get_event_authorization::Request>,
) -> Result<EventLists> {
    let answers = &services.federated()?.answers;
    let chain = answers.event_auth(&sender, &body.room_id, &body.event_id).await?;
    EventLists::new(&services, sender, [("auth_chain", chain)])
}

/// `POST /_matrix/federation/v1/get_missing_events/{roomId}`
async fn missing_events(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<get_missing_events::Request>,
) -> Result<get_missing_events::Response> {
    let wanted = MissingEvents {
        room_id: body.room_id,
        earliest: body.earliest_events,
        latest: body.latest_events,
        limit: count(body.limit),
    };
    let answers = &services.federated()?.answers;
    let events = answers.missing_events(&sender, wanted, body.min_depth.into()).await?;
    Ok(get_missing_events::Response::new(events))
}

/// `GET /_matrix/federation/v1/backfill/{roomId}`
async fn backfill(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<get_backfill::Request>,
) -> Result<get_backfill::Response> {
    let answers = &services.federated()?.answers;
    let events = answers.backfill(&sender, &body.room_id, body.v, count(body.limit)).await?;
    let (name, now) = (services.config.server.name.clone(), services.clock.now());
    Ok(get_backfill::Response::new(name, now.matrix(), events))
}

/// `GET /_matrix/federation/v1/timestamp_to_event/{roomId}`
async fn event_by_timestamp(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<get_event_by_timestamp::Request>,
) -> Result<get_event_by_timestamp::Response> {
    let (at, direction) = (body.ts.into(), direction(body.dir));
    let answers = &services.federated()?.answers;
    let (event, at) = answers.timestamp_to_event(&sender, &body.room_id, at, direction).await?;
    Ok(get_event_by_timestamp::Response::new(event, at.matrix()))
}
