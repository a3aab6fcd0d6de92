//! `GET /rooms/{roomId}/state`

use std::sync::Arc;

use ruma::{
    api::client::state::{
        get_state_event_for_key::{self, v3::StateEventFormat},
        get_state_events,
    },
    serde::Raw,
};
use wick_core::Result;
use wick_rooms::rooms::StateFormat;
use wick_service::Services;

use crate::route::{Route, Ruma, route};

pub(crate) fn routes() -> Vec<Route> {
    vec![route(get_state_events), route(get_state_event_for_key)]
}

/// `GET /_matrix/client/v3/rooms/{roomId}/state`
async fn get_state_events(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<get_state_events::v3::Request>,
) -> Result<get_state_events::v3::Response> {
    let state = services.rooms.state(&sender, &body.room_id)?;
    let state = state.into_iter().map(Raw::from_json).collect();
    Ok(get_state_events::v3::Response::new(state))
}

/// `GET /_matrix/client/v3/rooms/{roomId}/state/{eventType}/{stateKey}`
async fn get_state_event_for_key(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<get_state_event_for_key::v3::Request>,
) -> Result<get_state_event_for_key::v3::Response> {
    let format = match body.format {
        StateEventFormat::Event => StateFormat::Event,
        _ => StateFormat::Content,
    };
    let tuple = (&body.event_type, &*body.state_key);
    let shown = services.rooms.state_event(&sender, &body.room_id, tuple, format)?;
    Ok(get_state_event_for_key::v3::Response::new(shown))
}
