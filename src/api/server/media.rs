//! Media of this server, for other servers.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#content-repository>

use std::sync::Arc;

use ruma_federation_api::authenticated_media::{
    get_content::v1 as get_content, get_content_thumbnail::v1 as get_content_thumbnail,
};
use wick_core::Result;
use wick_service::Services;

use crate::{
    client::media::{serve, wanted},
    route::{Route, Ruma, route},
};

pub(super) fn routes() -> Vec<Route> {
    vec![route(get_content_of_own), route(get_thumbnail_of_own)]
}

/// `GET /_matrix/federation/v1/media/download/{mediaId}`
async fn get_content_of_own(
    services: Arc<Services>,
    Ruma { body, .. }: Ruma<get_content::Request>,
) -> Result<serve::Streamed> {
    let own_name = &services.config.server.name;
    let content = services.media.content(own_name, &body.media_id, body.timeout_ms).await?;
    serve::framed(&services, content).await
}

/// `GET /_matrix/federation/v1/media/thumbnail/{mediaId}`
async fn get_thumbnail_of_own(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<get_content_thumbnail::Request>,
) -> Result<serve::Streamed> {
    let wanted = wanted(body.width, body.height, body.method.as_ref(), body.animated)?;
    let own_name = &services.config.server.name;
    let content = services.media.content(own_name, &body.media_id, body.timeout_ms).await?;
    let content = services.media.thumbnail(&sender, content, wanted).await?;
    serve::framed(&services, content).await
}
