//! `/rooms/{roomId}/typing`

use std::sync::Arc;

use wick_core::Result;
use wick_ruma::typing;
use wick_service::Services;

use super::own;
use crate::route::{Route, Ruma, route};

pub(crate) fn routes() -> Vec<Route> {
    vec![route(create_typing_event)]
}

/// `PUT /_matrix/client/v3/rooms/{roomId}/typing/{userId}`
async fn create_typing_event(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<typing::Request>,
) -> Result<typing::Response> {
    own(&sender, &body.user_id)?;
    services.typing.set(&sender, &body.room_id, body.typing, body.timeout).await?;
    Ok(typing::Response::new())
}
