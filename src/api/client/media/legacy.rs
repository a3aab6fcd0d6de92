//! The deprecated endpoints below `/_matrix/media/v3`, which need no access token. They serve media as far as the configuration
//! allows: with a freeze (MSC3916), that of this server which is older. The configuration is served to users who are logged in.

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

use super::{anonymous_thumbnail, find, find_any, max_upload, serve, serve::Streamed, wanted};
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
    let content = unfrozen(&services, media, (body.allow_remote, body.timeout_ms)).await?;
    serve::download(&services, &headers, content).await
}

/// `GET /_matrix/media/v3/download/{serverName}/{mediaId}/{fileName}`
async fn get_content_as_filename(
    services: Arc<Services>,
    request: Unread<get_content_as_filename::v3::Request>,
) -> Result<Streamed> {
    let (Ruma { body, .. }, headers, _) = request.read_head()?;
    let media = (&*body.server_name, &*body.media_id);
    let mut content = unfrozen(&services, media, (body.allow_remote, body.timeout_ms)).await?;
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
    let content = unfrozen(&services, media, (body.allow_remote, body.timeout_ms)).await?;
    anonymous_thumbnail(&services, &headers, address, (content, wanted)).await
}

/// Media that may be had without an access token, of other servers too if the request allows it.
async fn unfrozen(
    services: &Services,
    media: (&ServerName, &str),
    (allow_remote, patience): (bool, Duration),
) -> Result<Content> {
    let frozen = || Error::not_found("there is no such media here: use /_matrix/client/v1/media");
    let config = &services.config.media;
    if !config.legacy {
        return Err(frozen());
    }
    let freeze = config.legacy_freeze.saturating_mul(1000);
    let content = match allow_remote && freeze == 0 {
        true => find_any(services, media, patience).await?,
        false => find(services, media, patience).await?,
    };
    if freeze > 0 && content.uploaded.0 >= freeze {
        return Err(frozen());
    }
    Ok(content)
}
