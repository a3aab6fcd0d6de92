//! `/rooms/{roomId}/hierarchy` and `/room_summary/{roomIdOrAlias}`

use std::sync::Arc;

use ruma::{
    api::client::{
        room::get_summary,
        space::{SpaceHierarchyRoomsChunk, get_hierarchy},
    },
    serde::Raw,
};
use wick_core::Result;
use wick_rooms::spaces::AskHierarchy;
use wick_service::Services;

use super::count;
use crate::route::{Route, Ruma, route};

/// How many rooms are returned by default.
const DEFAULT_LIMIT: usize = 50;

pub(crate) fn routes() -> Vec<Route> {
    let mut summary = route(get_summary);
    // As older clients ask.
    summary
        .paths
        .push("/_matrix/client/unstable/im.nheko.summary/summary/{room_id_or_alias}".to_owned());
    vec![route(get_hierarchy), summary]
}

/// `GET /_matrix/client/v1/rooms/{roomId}/hierarchy`
async fn get_hierarchy(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<get_hierarchy::v1::Request>,
) -> Result<get_hierarchy::v1::Response> {
    let ask = AskHierarchy {
        room_id: body.room_id,
        from: body.from,
        limit: body.limit.map_or(DEFAULT_LIMIT, count),
        max_depth: body.max_depth.map(Into::into),
        suggested_only: body.suggested_only,
    };
    let hierarchy = services.hierarchy(&sender, &ask).await?;
    let mut response = get_hierarchy::v1::Response::new();
    response.next_batch = hierarchy.next_batch;
    response.rooms.extend(hierarchy.rooms.into_iter().map(|(summary, children)| {
        let children = children.into_iter().map(Raw::from_json).collect();
        SpaceHierarchyRoomsChunk::new(summary, children)
    }));
    Ok(response)
}

/// `GET /_matrix/client/v1/room_summary/{roomIdOrAlias}`
async fn get_summary(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<get_summary::v1::Request>,
) -> Result<get_summary::v1::Response> {
    let (room_id, servers) = services.room_named(&body.room_id_or_alias).await?;
    let via = body.via.into_iter().chain(servers).collect();
    let (summary, membership) = services.room_summary(sender.session(), &room_id, via).await?;
    let mut response = get_summary::v1::Response::new(summary);
    response.membership = membership;
    Ok(response)
}
