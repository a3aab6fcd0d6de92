//! `/join/{roomIdOrAlias}`, `/rooms/{roomId}/join` and `/knock/{roomIdOrAlias}`

use std::sync::Arc;

use ruma::{
    api::client::{
        knock::knock_room,
        membership::{join_room_by_id, join_room_by_id_or_alias},
    },
    canonical_json::CanonicalJsonObject,
};
use wick_core::Result;
use wick_service::Services;

use crate::{
    route::{Route, Ruma, route},
    whole::Whole,
};

pub(crate) fn routes() -> Vec<Route> {
    vec![route(join_room_by_id), route(join_room_by_id_or_alias), route(knock_room)]
}

/// `POST /_matrix/client/v3/rooms/{roomId}/join`
async fn join_room_by_id(
    services: Arc<Services>,
    Ruma { body: Whole { request, body }, sender, .. }: Ruma<Whole<join_room_by_id::v3::Request>>,
) -> Result<join_room_by_id::v3::Response> {
    let room_id = request.room_id;
    services.join(&sender, &room_id, Vec::new(), member_content(body)).await?;
    Ok(join_room_by_id::v3::Response::new(room_id))
}

/// `POST /_matrix/client/v3/join/{roomIdOrAlias}`
async fn join_room_by_id_or_alias(
    services: Arc<Services>,
    Ruma { body: Whole { request, body }, sender, .. }: Ruma<
        Whole<join_room_by_id_or_alias::v3::Request>,
    >,
) -> Result<join_room_by_id_or_alias::v3::Response> {
    let (room_id, servers) = services.room_named(&request.room_id_or_alias).await?;
    let via = request.via.into_iter().chain(servers).collect();
    services.join(&sender, &room_id, via, member_content(body)).await?;
    Ok(join_room_by_id_or_alias::v3::Response::new(room_id))
}

/// `POST /_matrix/client/v3/knock/{roomIdOrAlias}`
async fn knock_room(
    services: Arc<Services>,
    Ruma { body: Whole { request, .. }, sender, .. }: Ruma<Whole<knock_room::v3::Request>>,
) -> Result<knock_room::v3::Response> {
    let (room_id, servers) = services.room_named(&request.room_id_or_alias).await?;
    let via = request.via.into_iter().chain(servers).collect();
    services.knock(&sender, &room_id, via, request.reason.as_deref()).await?;
    Ok(knock_room::v3::Response::new(room_id))
}

/// What of a body becomes part of the member event.
fn member_content(mut body: CanonicalJsonObject) -> CanonicalJsonObject {
    body.remove("third_party_signed");
    body.remove("membership");
    body
}
