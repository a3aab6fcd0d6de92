//! `/register` and `/account`: making, proving and ending an account.

use std::sync::Arc;

use axum::response::Response;
use http::StatusCode;
use ruma::{
    api::{
        client::account::{
            ThirdPartyIdRemovalStatus, change_password, check_registration_token_validity,
            deactivate, get_3pids, get_username_availability,
            register::{self, RegistrationKind},
            request_openid_token, whoami,
        },
        error::ErrorKind,
    },
    authentication::TokenType,
};
use wick_account::{devices::NewDevice, openid, users::NewAccount};
use wick_core::{Error, Result};
use wick_runtime::Limit;
use wick_service::Services;

use super::{logged_in, own};
use crate::{
    reply::{Answer, Reply, json},
    route::{Route, Ruma, route},
};

pub(crate) fn routes() -> Vec<Route> {
    vec![
        route(register).limited(Limit::Registration),
        route(get_username_availability),
        route(check_registration_token_validity),
        route(whoami),
        route(change_password),
        route(deactivate),
        route(get_3pids),
        route(request_openid_token),
    ]
}

/// `POST /_matrix/client/v3/register`
async fn register(
    services: Arc<Services>,
    Ruma { body, .. }: Ruma<register::v3::Request>,
) -> Result<Answer<register::v3::Response>> {
    services.users.ensure_may_register(body.kind == RegistrationKind::Guest)?;
    if let Some(username) = &body.username {
        services.users.ensure_available(username)?;
    }
    if let Some(challenge) = services.uia.confirm_registration(body.auth.as_ref())? {
        return Ok(Answer::Challenge(challenge));
    }
    let password = body
        .password
        .ok_or_else(|| Error::refused(ErrorKind::MissingParam, "a password is needed"))?;
    let device = NewDevice {
        device_id: body.device_id,
        display_name: body.initial_device_display_name,
        refresh_token: body.refresh_token,
    };
    let device = (!body.inhibit_login).then_some(device);
    let new = NewAccount { localpart: body.username, password, admin: false, device };
    let made = services.users.register(new).await?;
    let mut response = register::v3::Response::new(made.user_id);
    if let Some((device_id, tokens)) = made.device {
        response.device_id = Some(device_id);
        response.access_token = Some(tokens.access);
        response.refresh_token = tokens.refresh;
        response.expires_in = tokens.expires_in;
    }
    Ok(Answer::Done(response))
}

/// `GET /_matrix/client/v3/register/available`
async fn get_username_availability(
    services: Arc<Services>,
    Ruma { body, .. }: Ruma<get_username_availability::v3::Request>,
) -> Result<get_username_availability::v3::Response> {
    services.users.ensure_available(&body.username)?;
    Ok(get_username_availability::v3::Response::new(true))
}

/// `GET /_matrix/client/v1/register/m.login.registration_token/validity`
async fn check_registration_token_validity(
    services: Arc<Services>,
    Ruma { body, .. }: Ruma<check_registration_token_validity::v1::Request>,
) -> Result<check_registration_token_validity::v1::Response> {
    services.users.ensure_may_register(false)?;
    let valid = services.users.is_registration_token(&body.token);
    Ok(check_registration_token_validity::v1::Response::new(valid))
}

/// `GET /_matrix/client/v3/account/whoami`
async fn whoami(
    _: Arc<Services>,
    Ruma { sender, .. }: Ruma<whoami::v3::Request>,
) -> Result<whoami::v3::Response> {
    let mut response = whoami::v3::Response::new(sender.user_id.clone(), false);
    response.device_id = Some(sender.device_id.clone());
    Ok(response)
}

/// `POST /_matrix/client/v3/account/password`
async fn change_password(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<change_password::v3::Request>,
) -> Result<Answer<change_password::v3::Response>> {
    let sender = logged_in(sender)?;
    let auth = body.auth.as_ref();
    if let Some(challenge) = services.uia.confirm(&sender, "change password", auth).await? {
        return Ok(Answer::Challenge(challenge));
    }
    services.users.change_password(&sender, &body.new_password, body.logout_devices).await?;
    Ok(Answer::Done(change_password::v3::Response::new()))
}

/// `POST /_matrix/client/v3/account/deactivate`
async fn deactivate(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<deactivate::v3::Request>,
) -> Result<Answer<deactivate::v3::Response>> {
    let sender = logged_in(sender)?;
    let auth = body.auth.as_ref();
    if let Some(challenge) = services.uia.confirm(&sender, "deactivate", auth).await? {
        return Ok(Answer::Challenge(challenge));
    }
    services.deactivate(sender.user).await?;
    Ok(Answer::Done(deactivate::v3::Response::new(ThirdPartyIdRemovalStatus::NoSupport)))
}

/// `GET /_matrix/client/v3/account/3pid`: there are none.
async fn get_3pids(_: Arc<Services>, _: Ruma<get_3pids::v3::Request>) -> Result<NoThreepids> {
    Ok(NoThreepids)
}

/// `POST /_matrix/client/v3/user/{userId}/openid/request_token`
async fn request_openid_token(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<request_openid_token::v3::Request>,
) -> Result<request_openid_token::v3::Response> {
    own(&sender, &body.user_id)?;
    Ok(request_openid_token::v3::Response::new(
        services.openid.issue(&sender).await?,
        TokenType::Bearer,
        sender.user_id.server_name().to_owned(),
        openid::LIFETIME,
    ))
}

/// An empty list that is there: ruma leaves it out, and clients stumble over that.
struct NoThreepids;

impl Reply for NoThreepids {
    fn into_http(self) -> Result<Response> {
        json(StatusCode::OK, &serde_json::json!({ "threepids": [] }))
    }
}
