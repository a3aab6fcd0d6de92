//! `GET /rooms/{roomId}/initialSync` and `GET /events`: previews of rooms.

use std::sync::Arc;

use ruma::{
    api::client::{
        peeking::{
            get_current_state::{self, v3::PaginationChunk},
            listen_to_new_events,
        },
        room::Visibility,
    },
    serde::Raw,
};
use serde::Serialize;
use serde_json::value::RawValue;
use wick_core::Result;
use wick_service::Services;
use wick_sync::account_data;

use crate::{
    reply::Json,
    route::{Route, Ruma, route},
};

pub(crate) fn routes() -> Vec<Route> {
    vec![route(get_current_state), route(listen_to_new_events)]
}

/// `GET /_matrix/client/v3/rooms/{roomId}/initialSync`
async fn get_current_state(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<get_current_state::v3::Request>,
) -> Result<get_current_state::v3::Response> {
    let preview = services.history.preview(sender, body.room_id.clone()).await?;
    let listed = services.rooms.is_listed(&body.room_id)?;
    let mut response = get_current_state::v3::Response::new(body.room_id);
    let chunk = preview.messages.chunk.into_iter().map(Raw::from_json).collect();
    let mut messages = PaginationChunk::new(chunk, preview.messages.end.unwrap_or_default());
    messages.start = Some(preview.messages.start);
    response.messages = Some(messages);
    response.membership = preview.membership;
    response.state = preview.state.into_iter().map(Raw::from_json).collect();
    response.visibility = Some(if listed { Visibility::Public } else { Visibility::Private });
    let account_data = account_data::events(&preview.account_data, |_| true)?;
    response.account_data = account_data.into_iter().map(Raw::from_json).collect();
    Ok(response)
}

/// New events of a room. Ruma's response leaves an empty chunk out; clients expect one.
#[derive(Serialize)]
struct NewEvents {
    chunk: Vec<Box<RawValue>>,
    start: String,
    end: Option<String>,
}

/// `GET /_matrix/client/v3/events`
async fn listen_to_new_events(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<listen_to_new_events::v3::Request>,
) -> Result<Json<NewEvents>> {
    let (from, timeout) = (body.from.as_deref(), body.timeout.unwrap_or_default());
    let news = services.sync.peek(&sender, &body.room_id, from, timeout).await?;
    Ok(Json(NewEvents { chunk: news.chunk, start: news.start, end: news.end }))
}
