//! `/invite`: invites of local users by users of other servers.

use std::sync::Arc;

use ruma_federation_api::membership::create_invite::v2 as create_invite;
use wick_core::Result;
use wick_remote::Invite;
use wick_service::Services;

use crate::route::{Route, Ruma, route};

pub(super) fn routes() -> Vec<Route> {
    vec![route(invite)]
}

/// `PUT /_matrix/federation/v2/invite/{roomId}/{eventId}`
async fn invite(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<create_invite::Request>,
) -> Result<create_invite::Response> {
    let invite = Invite {
        room_id: body.room_id,
        event_id: body.event_id,
        version: body.room_version,
        event: body.event,
        state: body.invite_room_state,
    };
    let event = services.federated()?.rooms.take_invite(&sender, invite).await?;
    Ok(create_invite::Response::new(event))
}
