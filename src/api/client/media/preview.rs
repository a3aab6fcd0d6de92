//! Previews of pages (`preview_url`), also by the deprecated path, which needs an access token, too.

use std::sync::Arc;

use http::StatusCode;
use ruma::api::client::{authenticated_media, media};
use serde_json::value::RawValue;
use wick_account::Session;
use wick_core::{Error, Result};
use wick_media::Client;
use wick_service::Services;

use super::upload::uploader;
use crate::{
    error::unrecognized,
    route::{Route, Ruma, route},
};

pub(super) fn routes() -> Vec<Route> {
    vec![route(get_media_preview), route(get_media_preview_v3)]
}

/// `GET /_matrix/client/v1/media/preview_url`
async fn get_media_preview(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<authenticated_media::get_media_preview::v1::Request>,
) -> Result<authenticated_media::get_media_preview::v1::Response> {
    let json = preview(&services, &sender, &body.url).await?;
    Ok(authenticated_media::get_media_preview::v1::Response::from_raw_value(json))
}

/// `GET /_matrix/media/v3/preview_url`
#[expect(deprecated, reason = "clients that know no other still use it")]
async fn get_media_preview_v3(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<media::get_media_preview::v3::Request>,
) -> Result<media::get_media_preview::v3::Response> {
    let json = preview(&services, &sender, &body.url).await?;
    Ok(media::get_media_preview::v3::Response::from_raw_value(json))
}

async fn preview(services: &Services, session: &Session, url: &str) -> Result<Box<RawValue>> {
    if !services.previews.is_enabled() {
        return Err(unrecognized(StatusCode::NOT_FOUND));
    }
    let client = Client { uploader: uploader(session), user_id: session.user_id.clone() };
    let json = services.previews.preview(client, url).await?;
    RawValue::from_string(json).map_err(|error| Error::internal("a preview is no JSON", error))
}
