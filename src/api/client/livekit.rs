//! The token service for LiveKit: the deployed one below its own base, which takes OpenID tokens, and the endpoints
//! of MSC4195, which take access tokens. Where no LiveKit is configured there are no such endpoints.

use std::{net::IpAddr, sync::Arc};

use axum::response::Response;
use http::{Method, StatusCode, header::AUTHORIZATION};
use ruma::{OwnedRoomId, OwnedUserId, RoomId};
use serde::Deserialize;
use serde_json::json;
use wick_calls::{Calls, Handed, Member, Seat};
use wick_core::{Error, Result, config::TOKEN_SERVICE_PATH};
use wick_ruma::{
    ExpireRefreshToken,
    livekit::{self, delegate_delayed_leave, get_token},
};
use wick_runtime::Limit;
use wick_service::Services;

use crate::{
    address::limit_key,
    error::unrecognized,
    reply,
    route::{Call, Route, Ruma, plain, route},
};

pub(crate) fn routes() -> Vec<Route> {
    vec![
        post("/sfu/get", legacy_token),
        post("/get_token", token),
        post("/delegate_delayed_leave", delegate),
        post("/sfu_webhook", web_hook),
        route(client_token).only_with(is_there),
        route(client_delegate).only_with(is_there),
    ]
}

/// An endpoint below the base of the token service.
fn post<T>(
    path: &str,
    handler: impl Fn(Arc<Services>, Arc<Calls>, Call) -> T + Copy + Send + Sync + 'static,
) -> Route
where
    T: Future<Output = Result<Response>> + Send + 'static,
{
    let handler = move |services: Arc<Services>, call: Call| async move {
        let calls = Arc::clone(calls(&services)?);
        handler(services, calls, call).await
    };
    Route { method: Method::POST, ..plain(&format!("{TOKEN_SERVICE_PATH}{path}"), handler) }
}

fn calls(services: &Services) -> Result<&Arc<Calls>> {
    services.calls.as_ref().ok_or_else(|| unrecognized(StatusCode::NOT_FOUND))
}

fn is_there(services: &Services) -> Result<()> {
    calls(services).map(|_| ())
}

#[derive(Deserialize)]
struct OpenIdToken {
    access_token: String,
    matrix_server_name: String,
}

/// Timers to hand over. The delay and the server in the request are this server's own.
#[derive(Deserialize)]
struct Delegated {
    #[serde(default)]
    delay_id: Option<String>,
    #[serde(default)]
    expire_refresh_token: Option<ExpireRefreshToken>,
}

impl Delegated {
    fn handed(&self) -> Handed<'_> {
        handed(self.delay_id.as_deref(), self.expire_refresh_token.as_ref())
    }
}

/// What is handed over; an empty text is nothing.
fn handed<'a>(delay_id: Option<&'a str>, token: Option<&'a ExpireRefreshToken>) -> Handed<'a> {
    let given = |handle: &&str| !handle.is_empty();
    Handed {
        delay_id: delay_id.filter(given),
        refresh_token: token.map(ExpireRefreshToken::as_str).filter(given),
    }
}

fn ensure_something(handed: Handed<'_>) -> Result<()> {
    if handed.delay_id.or(handed.refresh_token).is_none() {
        return Err(Error::bad_json("delay_id is missing"));
    }
    Ok(())
}

#[derive(Deserialize)]
struct LegacyRequest {
    room: OwnedRoomId,
    openid_token: OpenIdToken,
    device_id: String,
    #[serde(flatten)]
    delegated: Delegated,
}

#[derive(Deserialize)]
struct Request {
    room_id: OwnedRoomId,
    slot_id: String,
    openid_token: OpenIdToken,
    member: livekit::Member,
    #[serde(flatten)]
    delegated: Delegated,
}

/// `POST /sfu/get`
async fn legacy_token(services: Arc<Services>, calls: Arc<Calls>, call: Call) -> Result<Response> {
    let request: LegacyRequest = call.json()?;
    let user = user_of(&services, &request.openid_token, &request.room, call.address).await?;
    let member = Member::Device(request.device_id);
    let seat = Seat { room_id: request.room, slot_id: None, member };
    let token = calls.token(&user, &seat, request.delegated.handed()).await?;
    reply::json(StatusCode::OK, &json!({ "url": token.url, "jwt": token.jwt }))
}

/// `POST /get_token`
async fn token(services: Arc<Services>, calls: Arc<Calls>, call: Call) -> Result<Response> {
    let request: Request = call.json()?;
    let user = user_of(&services, &request.openid_token, &request.room_id, call.address).await?;
    let seat = seat(&user, request.room_id, request.slot_id, (None, Some(request.member)))?;
    let token = calls.token(&user, &seat, request.delegated.handed()).await?;
    reply::json(StatusCode::OK, &json!({ "url": token.url, "jwt": token.jwt }))
}

/// `POST /delegate_delayed_leave`
async fn delegate(services: Arc<Services>, calls: Arc<Calls>, call: Call) -> Result<Response> {
    let request: Request = call.json()?;
    let handed = request.delegated.handed();
    ensure_something(handed)?;
    let user = user_of(&services, &request.openid_token, &request.room_id, call.address).await?;
    let seat = seat(&user, request.room_id, request.slot_id, (None, Some(request.member)))?;
    calls.delegate(&user, &seat, handed).await?;
    reply::json(StatusCode::OK, &json!({}))
}

/// `POST /sfu_webhook`, by LiveKit
async fn web_hook(services: Arc<Services>, calls: Arc<Calls>, call: Call) -> Result<Response> {
    let header = call.request.headers().get(AUTHORIZATION);
    let authorization = header.and_then(|value| value.to_str().ok()).unwrap_or_default();
    let taken = calls.take_hook(authorization, call.request.body()).await;
    if matches!(&taken, Err(Error::Refused(refusal)) if refusal.status.is_none()) {
        // Signed ones do not count: they come from one address, for many participants.
        services.limits.ensure(Limit::InvalidHandle, &limit_key(call.address))?;
    }
    taken?;
    reply::json(StatusCode::OK, &json!({}))
}

/// `POST /_matrix/client/v1/rtc/livekit/get_token`
async fn client_token(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<get_token::Request>,
) -> Result<get_token::Response> {
    let calls = calls(&services)?;
    if body.server_name.is_some_and(|name| name != services.config.server.name) {
        return Err(Error::forbidden("tokens of other servers are not available"));
    }
    ensure_own(calls, body.url.as_deref())?;
    let is_deployed = body.member.is_some();
    let handed = handed(body.delay_id.as_deref(), body.expire_refresh_token.as_ref());
    let seat = seat(&sender.user_id, body.room_id, body.slot_id, (body.member_id, body.member))?;
    let token = calls.token(&sender.user_id, &seat, handed).await?;
    Ok(get_token::Response::new(token.jwt, is_deployed.then_some(token.url)))
}

/// `POST /_matrix/client/v1/rtc/livekit/delegate_delayed_leave`
async fn client_delegate(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<delegate_delayed_leave::Request>,
) -> Result<delegate_delayed_leave::Response> {
    let calls = calls(&services)?;
    ensure_own(calls, body.url.as_deref())?;
    let handed = handed(body.delay_id.as_deref(), body.expire_refresh_token.as_ref());
    ensure_something(handed)?;
    let seat = seat(&sender.user_id, body.room_id, body.slot_id, (body.member_id, body.member))?;
    calls.delegate(&sender.user_id, &seat, handed).await?;
    Ok(delegate_delayed_leave::Response::new())
}

fn ensure_own(calls: &Calls, url: Option<&str>) -> Result<()> {
    match url {
        Some(url) if url.trim_end_matches('/') != calls.url().trim_end_matches('/') => {
            Err(Error::invalid_param("this is not the URL of this server's LiveKit"))
        }
        _ => Ok(()),
    }
}

/// The seat of a member, given by its id alone or as the deployed revision has it.
fn seat(
    user: &ruma::UserId,
    room_id: OwnedRoomId,
    slot_id: String,
    member: (Option<String>, Option<livekit::Member>),
) -> Result<Seat> {
    let member = match member {
        (Some(member_id), None) => Member::Member(member_id),
        (None, Some(member)) => {
            if member.claimed_user_id.is_some_and(|claimed| claimed != user.as_str()) {
                return Err(Error::forbidden("claimed_user_id is another user"));
            }
            Member::DeviceMember(member.claimed_device_id, member.id)
        }
        _ => return Err(Error::bad_json("one of member_id and member is needed")),
    };
    Ok(Seat { room_id, slot_id: Some(slot_id), member })
}

/// The user that a request's OpenID token is proof of.
async fn user_of(
    services: &Services,
    token: &OpenIdToken,
    room_id: &RoomId,
    address: Option<IpAddr>,
) -> Result<OwnedUserId> {
    let OpenIdToken { access_token, matrix_server_name } = token;
    let user = calls(services)?.user_of(access_token, matrix_server_name, room_id).await;
    if user.is_err() {
        services.limits.ensure(Limit::InvalidHandle, &limit_key(address))?;
    }
    user
}
