//! Uploads, at once or to a media id that was reserved before.

use std::sync::Arc;

use axum::body::Body;
use http::{HeaderMap, header::CONTENT_LENGTH};
use ruma::{
    OwnedMxcUri,
    api::client::media::{create_content, create_content_async, create_mxc_uri},
};
use serde_json::{Value, json};
use wick_account::Session;
use wick_core::Result;
use wick_media::{Description, Upload, Uploader};
use wick_runtime::Limit;
use wick_service::Services;

use crate::{
    body_stream::BodyStream,
    reply::Json,
    route::{Route, Ruma, Unread, route, route_unread},
};

pub(super) fn routes() -> Vec<Route> {
    vec![
        route_unread(create_content).streaming().limited(Limit::Uploads),
        route_unread(create_content_async).streaming().limited(Limit::Uploads),
        route(create_mxc_uri).limited(Limit::Uploads),
    ]
}

/// `POST /_matrix/media/v3/upload`
async fn create_content(
    services: Arc<Services>,
    request: Unread<create_content::v3::Request>,
) -> Result<create_content::v3::Response> {
    let (Ruma { body, sender, .. }, headers, stream) = request.read_head()?;
    let upload = services.media.begin_upload(uploader(&sender), announced(&headers)).await?;
    let description = Description { content_type: body.content_type, file_name: body.filename };
    let uri = receive(&services, upload, stream, description).await?;
    Ok(create_content::v3::Response::new(uri))
}

/// `PUT /_matrix/media/v3/upload/{serverName}/{mediaId}`
async fn create_content_async(
    services: Arc<Services>,
    request: Unread<create_content_async::v3::Request>,
) -> Result<Json<Value>> {
    let (Ruma { body, sender, .. }, headers, stream) = request.read_head()?;
    let media = (&*body.server_name, &*body.media_id);
    let (uploader, announced) = (uploader(&sender), announced(&headers));
    let upload = services.media.begin_reserved_upload(uploader, media, announced).await?;
    let description = Description { content_type: body.content_type, file_name: body.filename };
    receive(&services, upload, stream, description).await?;
    Ok(Json(json!({})))
}

/// `POST /_matrix/media/v1/create`
async fn create_mxc_uri(
    services: Arc<Services>,
    Ruma { sender, .. }: Ruma<create_mxc_uri::v1::Request>,
) -> Result<create_mxc_uri::v1::Response> {
    let reserved = services.media.reserve(sender.user).await?;
    let mut response = create_mxc_uri::v1::Response::new(reserved.uri);
    response.unused_expires_at = Some(reserved.expires.matrix());
    Ok(response)
}

pub(super) fn uploader(session: &Session) -> Uploader {
    Uploader { user: session.user, device_id: session.device_id.clone() }
}

/// The size that the client has announced.
fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

async fn receive(
    services: &Services,
    mut upload: Upload,
    stream: Body,
    description: Description,
) -> Result<OwnedMxcUri> {
    let patience = services.config.connections.body_timeout.0;
    let mut stream = BodyStream::new(stream, Arc::clone(&services.clock), patience);
    while let Some(bytes) = stream.next().await? {
        upload.write(bytes).await?;
    }
    upload.finish(description).await
}
