//! The deprecated endpoints below `/_matrix/media/v3`, which need no access token. They serve media of this server alone,
//! and only as far as the configuration allows (the freeze of MSC3916). The configuration is served to users who are logged in.

#![expect(deprecated, reason = "these are the deprecated endpoints")]

use std::{sync::Arc, time::Duration};

use ruma::{
    ServerName,
    api::client::media::{
        get_content, get_content_as_filename, get_content_thumbnail, get_media_config,
    },
};
use wick_core::{Error, Result};
use wick_media::Content;
use wick_service::Services;

use super::{anonymous_thumbnail, find, max_upload, serve, serve::Streamed, wanted};
use crate::route::{Route, Ruma, Unread, route, route_unread};

pub(super) fn routes() -> Vec<Route> {
    vec![
        route(get_media_config),
        route_unread(get_content),
        route_unread(get_content_as_filename),
        route_unread(get_content_thumbnail),
    ]
}

/// `GET /_matrix/media/v3/config`
async fn get_media_config(
    services: Arc<Services>,
    _: Ruma<get_media_config::v3::Request>,
) -> Result<get_media_config::v3::Response> {
    Ok(get_media_config::v3::Response::new(max_upload(&services)))
}

/// `GET /_matrix/media/v3/download/{serverName}/{mediaId}`
async fn get_content(
    services: Arc<Services>,
    request: Unread<get_content::v3::Request>,
) -> Result<Streamed> {
    let (Ruma { body, .. }, headers, _) = request.read_head()?;
    let media = (&*body.server_name, &*body.media_id);
    let content = unfrozen(&services, media, body.timeout_ms).await?;
    serve::download(&services, &headers, content).await
}

/// `GET /_matrix/media/v3/download/{serverName}/{mediaId}/{fileName}`
async fn get_content_as_filename(
    services: Arc<Services>,
    request: Unread<get_content_as_filename::v3::Request>,
) -> Result<Streamed> {
    let (Ruma { body, .. }, headers, _) = request.read_head()?;
    let media = (&*body.server_name, &*body.media_id);
    let mut content = unfrozen(&services, media, body.timeout_ms).await?;
    content.file_name = Some(body.filename);
    serve::download(&services, &headers, content).await
}

/// `GET /_matrix/media/v3/thumbnail/{serverName}/{mediaId}`
async fn get_content_thumbnail(
    services: Arc<Services>,
    request: Unread<get_content_thumbnail::v3::Request>,
) -> Result<Streamed> {
    let (Ruma { body, address, .. }, headers, _) = request.read_head()?;
    let wanted = wanted(body.width, body.height, body.method.as_ref(), body.animated)?;
    let media = (&*body.server_name, &*body.media_id);
    let content = unfrozen(&services, media, body.timeout_ms).await?;
    anonymous_thumbnail(&services, &headers, address, (content, wanted)).await
}

/// Media that may be had without an access token.
async fn unfrozen(
    services: &Services,
    media: (&ServerName, &str),
    patience: Duration,
) -> Result<Content> {
    let frozen = || Error::not_found("there is no such media here: use /_matrix/client/v1/media");
    let config = &services.config.media;
    if !config.legacy {
        return Err(frozen());
    }
    let content = find(services, media, patience).await?;
    let freeze = config.legacy_freeze.saturating_mul(1000);
    if freeze > 0 && content.uploaded.0 >= freeze {
        return Err(frozen());
    }
    Ok(content)
}
