//! The content repository: uploads, downloads, thumbnails, previews.
//! <https://spec.matrix.org/v1.19/client-server-api/#content-repository>

mod legacy;
mod preview;
pub(crate) mod serve;
mod upload;

use std::{net::IpAddr, sync::Arc, time::Duration};

use http::HeaderMap;
use ruma::{
    ServerName, UInt,
    api::client::authenticated_media::{
        get_content, get_content_as_filename, get_content_thumbnail, get_media_config,
    },
    media::Method,
};
use wick_core::{Error, Result, config::ThumbnailMethod};
use wick_media::{Content, Wanted};
use wick_service::Services;

use self::serve::Streamed;
use crate::{
    address::limit_key,
    route::{Route, Ruma, Unread, route, route_unread},
};

pub(crate) fn routes() -> Vec<Route> {
    let mut routes = vec![
        route(get_media_config),
        route_unread(get_content),
        route_unread(get_content_as_filename),
        route_unread(get_content_thumbnail),
    ];
    routes.extend(upload::routes());
    routes.extend(legacy::routes());
    routes.extend(preview::routes());
    routes
}

/// `GET /_matrix/client/v1/media/config`
async fn get_media_config(
    services: Arc<Services>,
    _: Ruma<get_media_config::v1::Request>,
) -> Result<get_media_config::v1::Response> {
    Ok(get_media_config::v1::Response::new(max_upload(&services)))
}

fn max_upload(services: &Services) -> UInt {
    UInt::try_from(services.media.max_upload()).unwrap_or(UInt::MAX)
}

/// `GET /_matrix/client/v1/media/download/{serverName}/{mediaId}`
async fn get_content(
    services: Arc<Services>,
    request: Unread<get_content::v1::Request>,
) -> Result<Streamed> {
    let (Ruma { body, .. }, headers, _) = request.read_head()?;
    let content = find_any(&services, (&body.server_name, &body.media_id), body.timeout_ms).await?;
    serve::download(&services, &headers, content).await
}

/// `GET /_matrix/client/v1/media/download/{serverName}/{mediaId}/{fileName}`
async fn get_content_as_filename(
    services: Arc<Services>,
    request: Unread<get_content_as_filename::v1::Request>,
) -> Result<Streamed> {
    let (Ruma { body, .. }, headers, _) = request.read_head()?;
    let mut content =
        find_any(&services, (&body.server_name, &body.media_id), body.timeout_ms).await?;
    content.file_name = Some(body.filename);
    serve::download(&services, &headers, content).await
}

/// `GET /_matrix/client/v1/media/thumbnail/{serverName}/{mediaId}`
async fn get_content_thumbnail(
    services: Arc<Services>,
    request: Unread<get_content_thumbnail::v1::Request>,
) -> Result<Streamed> {
    let (Ruma { body, sender, .. }, headers, _) = request.read_head()?;
    let wanted = wanted(body.width, body.height, body.method.as_ref(), body.animated)?;
    let content = find_any(&services, (&body.server_name, &body.media_id), body.timeout_ms).await?;
    let content = services.media.thumbnail(&sender.user_id, content, wanted).await?;
    serve::download(&services, &headers, content).await
}

/// Media of any server.
async fn find_any(
    services: &Services,
    (server_name, media_id): (&ServerName, &str),
    patience: Duration,
) -> Result<Content> {
    services.media.content_of_any(server_name, media_id, patience).await
}

/// Media of this server.
async fn find(
    services: &Services,
    (server_name, media_id): (&ServerName, &str),
    patience: Duration,
) -> Result<Content> {
    services.media.content(server_name, media_id, patience).await
}

/// A thumbnail without authentication.
async fn anonymous_thumbnail(
    services: &Arc<Services>,
    headers: &HeaderMap,
    address: Option<IpAddr>,
    (content, wanted): (Content, Wanted),
) -> Result<Streamed> {
    let content = services.media.thumbnail(&limit_key(address), content, wanted).await?;
    serve::download(services, headers, content).await
}

/// The thumbnail that a request asks for; `scale` if it names no method.
pub(crate) fn wanted(
    width: UInt,
    height: UInt,
    method: Option<&Method>,
    animated: Option<bool>,
) -> Result<Wanted> {
    let method = match method {
        None | Some(Method::Scale) => ThumbnailMethod::Scale,
        Some(Method::Crop) => ThumbnailMethod::Crop,
        Some(_) => return Err(Error::invalid_param("method is scale or crop")),
    };
    let side = |side: UInt| {
        let side = u32::try_from(side).unwrap_or(u32::MAX);
        (side > 0).then_some(side).ok_or_else(|| Error::invalid_param("a side is at least 1"))
    };
    let animated = animated.unwrap_or_default();
    Ok(Wanted { width: side(width)?, height: side(height)?, method, animated })
}
