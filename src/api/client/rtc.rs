//! What calls need besides delayed events (MSC4143): the discovery of RTC transports, and OpenID
//! tokens.

use std::sync::Arc;

use axum::response::Response;
use http::StatusCode;
use ruma::api::{
    client::rtc::{RtcTransport, transports},
    error::{ErrorKind, UnknownTokenErrorData},
};
use serde_json::json;
use wick_core::{Error, Result};
use wick_runtime::Limit;
use wick_service::Services;

use crate::{
    address::limit_key,
    reply,
    route::{Call, Route, Ruma, plain, route},
};

pub(crate) fn routes() -> Vec<Route> {
    vec![
        route(get_transports),
        plain("/_matrix/federation/v1/openid/userinfo", get_openid_userinfo),
    ]
}

/// The LiveKit service, if one is configured.
pub(super) fn transports(services: &Services) -> Vec<RtcTransport> {
    let url = &services.config.calls.livekit_service_url;
    if url.is_empty() { Vec::new() } else { vec![RtcTransport::livekit(url.clone())] }
}

/// `GET /_matrix/client/unstable/org.matrix.msc4143/rtc/transports`
async fn get_transports(
    services: Arc<Services>,
    _: Ruma<transports::v1::Request>,
) -> Result<transports::v1::Response> {
    Ok(transports::v1::Response::new(transports(&services)))
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
