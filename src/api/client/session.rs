//! `/login`, `/refresh`, `/logout`.

use std::sync::Arc;

use http::Method;
use ruma::api::{
    IncomingRequest, Metadata,
    client::{
        session::{
            get_login_types::{self, v3::LoginType},
            login, logout, logout_all, refresh_token,
        },
        uiaa::UserIdentifier,
    },
    error::{DeserializationError, ErrorKind},
};
use serde::Deserialize;
use wick_account::{devices::NewDevice, users::LogIn};
use wick_core::{Error, Result};
use wick_service::Services;

use crate::{
    address::limit_key,
    route::{Route, Ruma, route},
};

pub(crate) fn routes() -> Vec<Route> {
    vec![
        route(get_login_types),
        route(login),
        route(refresh_token),
        route(logout),
        route(logout_all),
    ]
}

/// `GET /_matrix/client/v3/login`
async fn get_login_types(
    _: Arc<Services>,
    _: Ruma<get_login_types::v3::Request>,
) -> Result<get_login_types::v3::Response> {
    let password = LoginType::Password(get_login_types::v3::PasswordLoginType::new());
    Ok(get_login_types::v3::Response::new(vec![password]))
}

/// `POST /_matrix/client/v3/login`
async fn login(
    services: Arc<Services>,
    Ruma { body: Login(body), address, .. }: Ruma<Login>,
) -> Result<login::v3::Response> {
    let login::v3::LoginInfo::Password(shown) = body.login_info else {
        return Err(Error::refused(ErrorKind::Unknown, "this type of login is not supported"));
    };
    let identifier = identifier(&shown)?;
    let device = NewDevice {
        device_id: body.device_id,
        display_name: body.initial_device_display_name,
        refresh_token: body.refresh_token,
    };
    let address = limit_key(address);
    let log_in = LogIn { identifier, password: shown.password, device, address };
    let logged_in = services.users.log_in(log_in).await?;
    let tokens = logged_in.tokens;
    let mut response =
        login::v3::Response::new(logged_in.user_id, tokens.access, logged_in.device_id);
    response.refresh_token = tokens.refresh;
    response.expires_in = tokens.expires_in;
    Ok(response)
}

/// `POST /_matrix/client/v3/refresh`
async fn refresh_token(
    services: Arc<Services>,
    Ruma { body, .. }: Ruma<refresh_token::v3::Request>,
) -> Result<refresh_token::v3::Response> {
    let tokens = services.sessions.refresh(&body.refresh_token).await?;
    let mut response = refresh_token::v3::Response::new(tokens.access);
    response.refresh_token = tokens.refresh;
    response.expires_in_ms = tokens.expires_in;
    Ok(response)
}

/// `POST /_matrix/client/v3/logout`
async fn logout(
    services: Arc<Services>,
    Ruma { sender, .. }: Ruma<logout::v3::Request>,
) -> Result<logout::v3::Response> {
    services.devices.log_out(sender.user, &sender.device_id).await?;
    Ok(logout::v3::Response::new())
}

/// `POST /_matrix/client/v3/logout/all`
async fn logout_all(
    services: Arc<Services>,
    Ruma { sender, .. }: Ruma<logout_all::v3::Request>,
) -> Result<logout_all::v3::Response> {
    services.devices.remove_all(sender.user).await?;
    Ok(logout_all::v3::Response::new())
}

/// The request to log in: ruma's, once it is known to have a type.
struct Login(login::v3::Request);

impl Metadata for Login {
    const METHOD: Method = login::v3::Request::METHOD;
    const RATE_LIMITED: bool = login::v3::Request::RATE_LIMITED;
    type Authentication = <login::v3::Request as Metadata>::Authentication;
    type PathBuilder = <login::v3::Request as Metadata>::PathBuilder;
    const PATH_BUILDER: Self::PathBuilder = login::v3::Request::PATH_BUILDER;
}

impl IncomingRequest for Login {
    type EndpointError = <login::v3::Request as IncomingRequest>::EndpointError;
    type OutgoingResponse = login::v3::Response;

    fn try_from_http_request_inner(
        request: http::Request<&[u8]>,
        arguments: &[&str],
    ) -> Result<Self, DeserializationError> {
        #[derive(Deserialize)]
        struct Typed {
            #[serde(rename = "type")]
            _login_type: String,
        }
        serde_json::from_slice::<Typed>(request.body())?;
        login::v3::Request::try_from_http_request_inner(request, arguments).map(Self)
    }
}

/// The user to log in, in the present or in the oldest form.
fn identifier(shown: &login::v3::Password) -> Result<String> {
    match &shown.identifier {
        Some(UserIdentifier::Matrix(identifier)) => Ok(identifier.user.clone()),
        Some(_) => Err(Error::forbidden("accounts here have no addresses or phone numbers")),
        None => {
            #[expect(deprecated, reason = "old clients send it instead of an identifier")]
            let user = shown.user.clone();
            user.ok_or_else(|| Error::refused(ErrorKind::MissingParam, "an identifier is needed"))
        }
    }
}
