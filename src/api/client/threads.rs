//! `/rooms/{roomId}/threads`

use std::sync::Arc;

use ruma::{
    api::client::threads::get_threads::{self, v1::IncludeThreads},
    serde::Raw,
};
use wick_core::Result;
use wick_rooms::history::AskThreads;
use wick_service::Services;

use super::count;
use crate::route::{Route, Ruma, route};

/// How many threads are returned by default.
const DEFAULT_LIMIT: usize = 20;

pub(crate) fn routes() -> Vec<Route> {
    vec![route(get_threads)]
}

/// `GET /_matrix/client/v1/rooms/{roomId}/threads`
async fn get_threads(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<get_threads::v1::Request>,
) -> Result<get_threads::v1::Response> {
    let ask = AskThreads {
        room_id: body.room_id,
        participated: body.include == IncludeThreads::Participated,
        from: body.from,
        limit: body.limit.map_or(DEFAULT_LIMIT, count),
    };
    let threads = services.history.threads(&sender, &ask)?;
    let chunk = threads.chunk.into_iter().map(Raw::from_json).collect();
    let mut response = get_threads::v1::Response::new(chunk);
    response.next_batch = threads.next_batch;
    Ok(response)
}
