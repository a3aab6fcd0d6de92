//! What calls need besides delayed events (MSC4143): the discovery of RTC transports, and OpenID
//! tokens.

use std::sync::Arc;

use axum::response::Response;
use http::StatusCode;
use ruma::api::{
    client::rtc::{RtcTransport, transports},
    error::{ErrorKind, UnknownTokenErrorData},
};
use serde::Serialize;
use serde_json::json;
use wick_core::{Error, Result};
use wick_runtime::Limit;
use wick_service::Services;

use crate::{
    address::limit_key,
    reply::{self, Json},
    route::{Call, Route, Ruma, plain, route},
};

pub(crate) fn routes() -> Vec<Route> {
    let mut transports = route(get_transports);
    transports.paths.push("/_matrix/client/v1/rtc/transports".to_owned());
    vec![transports, plain("/_matrix/federation/v1/openid/userinfo", get_openid_userinfo)]
}

/// The token service for LiveKit, if there is one.
pub(super) fn transports(services: &Services) -> Vec<RtcTransport> {
    services.config.token_service_url().map(RtcTransport::livekit).into_iter().collect()
}

/// The transports in the form of each revision.
#[derive(Serialize)]
struct Transports {
    /// What deployed clients read.
    rtc_transports: Vec<RtcTransport>,
    /// The present text, in which a client asks its own server for tokens.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    transports: Vec<LiveKitTransport>,
}

/// The transport `m.livekit` (MSC4195).
#[derive(Serialize)]
struct LiveKitTransport {
    r#type: &'static str,
    url: String,
}

/// `GET /_matrix/client/v1/rtc/transports`
async fn get_transports(
    services: Arc<Services>,
    _: Ruma<transports::v1::Request>,
) -> Result<Json<Transports>> {
    let own = services.calls.iter();
    let own =
        own.map(|calls| LiveKitTransport { r#type: "m.livekit", url: calls.url().to_owned() });
    Ok(Json(Transports { rtc_transports: transports(&services), transports: own.collect() }))
}

/// `GET /_matrix/federation/v1/openid/userinfo`: asked by services that were shown an OpenID token, on
/// any listener and without a signature. <https://spec.matrix.org/v1.18/server-server-api/#openid>
async fn get_openid_userinfo(services: Arc<Services>, call: Call) -> Result<Response> {
    let query = call.request.uri().query().unwrap_or_default();
    let token = form_urlencoded::parse(query.as_bytes())
        .find_map(|(name, value)| (name == "access_token").then_some(value))
        .ok_or_else(|| Error::refused(ErrorKind::MissingToken, "access_token is missing"))?;
    let unknown = || {
        let kind = ErrorKind::UnknownToken(UnknownTokenErrorData::new());
        Error::refused(kind, "the token is unknown or too old")
    };
    let Some(user) = services.openid.user(&token)? else {
        // Good ones do not count: they come from one service, for many.
        services.limits.ensure(Limit::InvalidHandle, &limit_key(call.address))?;
        return Err(unknown());
    };
    reply::json(StatusCode::OK, &json!({ "sub": user }))
}
