//! `/register` and `/account`: making, proving and ending an account.

use std::sync::Arc;

use axum::response::Response;
use http::StatusCode;
use ruma::{
    OwnedDeviceId, OwnedUserId,
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
use serde::Serialize;
use wick_account::{
    Session,
    devices::NewDevice,
    openid,
    uia::{Confirmation, Finished},
    users::{NewAccount, Registered},
};
use wick_core::{Error, Result, clock::millis};
use wick_runtime::Limit;
use wick_service::Services;

use super::own;
use crate::{
    reply::{Answer, Reply, json},
    route::{Route, Ruma, Unread, route, route_unread},
};

pub(crate) fn routes() -> Vec<Route> {
    vec![
        route_unread(register).limited(Limit::Registration).repeatable(registered),
        route(get_username_availability),
        route(check_registration_token_validity).limited(Limit::Registration),
        route(whoami),
        route_unread(change_password).repeatable(password_changed),
        route_unread(deactivate).repeatable(deactivated),
        route(get_3pids),
        route(request_openid_token),
    ]
}

/// `POST /_matrix/client/v3/register`
async fn register(
    services: Arc<Services>,
    request: Unread<register::v3::Request>,
) -> Result<Answer<NewAccountBody>> {
    let identity = request.identity();
    let Ruma { body, .. } = request.read()?;
    if body.kind == RegistrationKind::Guest {
        let guest = services.users.register_guest(body.initial_device_display_name).await?;
        return Ok(Answer::Done(guest.into()));
    }
    services.users.ensure_may_register()?;
    let username = body.username.as_deref();
    let guest = match &body.guest_access_token {
        Some(token) => Some(guest(&services, token, username).await?),
        None => None,
    };
    if let (None, Some(username)) = (&guest, username) {
        services.users.ensure_available(username)?;
    }
    let proof = match services.uia.confirm_registration(&identity, body.auth.as_ref()).await? {
        Confirmation::Challenge(challenge) => return Ok(Answer::Challenge(challenge)),
        Confirmation::Confirmed(proof) => proof,
    };
    let password = body
        .password
        .ok_or_else(|| Error::refused(ErrorKind::MissingParam, "a password is needed"))?;
    let device = NewDevice {
        device_id: body.device_id,
        display_name: body.initial_device_display_name,
        refresh_token: body.refresh_token,
    };
    let device = (!body.inhibit_login).then_some(device);
    let registered = match guest {
        Some(guest) => {
            services.users.upgrade_guest(&guest, &password, device.as_ref(), &proof).await?
        }
        None => {
            let new = NewAccount { localpart: body.username, password, admin: false, device };
            services.users.register(new, &proof).await?
        }
    };
    Ok(Answer::Done(registered.into()))
}

/// The guest that becomes a full account with this registration.
async fn guest(services: &Services, token: &str, username: Option<&str>) -> Result<Arc<Session>> {
    let username = username.ok_or_else(|| {
        Error::refused(ErrorKind::MissingParam, "a guest that registers names its user name")
    })?;
    let guest = match services.sessions.authenticate(token).await {
        // A 401 would be about the request's own access token.
        Err(Error::Refused(_)) => {
            return Err(Error::forbidden("the guest's access token is not good"));
        }
        session => session?,
    };
    services.users.ensure_upgradable(&guest, username)?;
    Ok(guest)
}

fn registered(finished: Finished) -> Result<Response> {
    match finished {
        Finished::Registered(registered) => NewAccountBody::from(registered).into_http(),
        Finished::Done => Err(Error::corrupt("a finished registration made no account")),
    }
}

/// The body of the answer to a registration. Ruma's has a null for a device that is not there.
#[derive(Serialize)]
struct NewAccountBody {
    user_id: OwnedUserId,
    #[serde(flatten)]
    device: Option<NewDeviceBody>,
}

#[derive(Serialize)]
struct NewDeviceBody {
    device_id: OwnedDeviceId,
    access_token: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_in_ms: Option<u64>,
}

impl From<Registered> for NewAccountBody {
    fn from(Registered { user_id, device }: Registered) -> Self {
        let device = device.map(|(device_id, tokens)| NewDeviceBody {
            device_id,
            access_token: tokens.access,
            refresh_token: tokens.refresh,
            expires_in_ms: tokens.expires_in.map(millis),
        });
        Self { user_id, device }
    }
}

impl Reply for NewAccountBody {
    fn into_http(self) -> Result<Response> {
        json(StatusCode::OK, &self)
    }
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
    services.users.ensure_may_register()?;
    let valid = services.users.is_registration_token(&body.token);
    Ok(check_registration_token_validity::v1::Response::new(valid))
}

/// `GET /_matrix/client/v3/account/whoami`
async fn whoami(
    _: Arc<Services>,
    Ruma { sender, .. }: Ruma<whoami::v3::Request>,
) -> Result<whoami::v3::Response> {
    let mut response = whoami::v3::Response::new(sender.user_id.clone(), sender.is_guest);
    response.device_id = Some(sender.device_id.clone());
    Ok(response)
}

/// `POST /_matrix/client/v3/account/password`
async fn change_password(
    services: Arc<Services>,
    request: Unread<change_password::v3::Request>,
) -> Result<Answer<change_password::v3::Response>> {
    let identity = request.identity();
    let Ruma { body, sender, .. } = request.read()?;
    let (sender, auth) = (sender.into_user()?, body.auth.as_ref());
    match services.uia.confirm(&sender, "change password", &identity, auth).await? {
        Confirmation::Challenge(challenge) => Ok(Answer::Challenge(challenge)),
        Confirmation::Confirmed(proof) => {
            let (new, others) = (&body.new_password, body.logout_devices);
            services.users.change_password(&sender, new, others, &proof).await?;
            Ok(Answer::Done(change_password::v3::Response::new()))
        }
    }
}

fn password_changed(_: Finished) -> Result<Response> {
    change_password::v3::Response::new().into_http()
}

/// `POST /_matrix/client/v3/account/deactivate`
async fn deactivate(
    services: Arc<Services>,
    request: Unread<deactivate::v3::Request>,
) -> Result<Answer<deactivate::v3::Response>> {
    let identity = request.identity();
    let Ruma { body, sender, .. } = request.read()?;
    let (sender, auth) = (sender.into_user()?, body.auth.as_ref());
    match services.uia.confirm(&sender, "deactivate", &identity, auth).await? {
        Confirmation::Challenge(challenge) => Ok(Answer::Challenge(challenge)),
        Confirmation::Confirmed(proof) => {
            services.deactivate(sender.user, proof, body.erase).await?;
            Ok(Answer::Done(deactivation()))
        }
    }
}

fn deactivated(_: Finished) -> Result<Response> {
    deactivation().into_http()
}

fn deactivation() -> deactivate::v3::Response {
    deactivate::v3::Response::new(ThirdPartyIdRemovalStatus::NoSupport)
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

/// An empty list that is there: ruma leaves it out, and clients do not expect that.
struct NoThreepids;

impl Reply for NoThreepids {
    fn into_http(self) -> Result<Response> {
        json(StatusCode::OK, &serde_json::json!({ "threepids": [] }))
    }
}
