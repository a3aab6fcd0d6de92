//! `/presence`

use std::sync::Arc;

use ruma::{
    api::client::presence::{get_presence, set_presence},
    presence::PresenceState,
};
use wick_core::{Error, Result};
use wick_people::presence::Kind;
use wick_service::Services;

use super::own;
use crate::route::{Route, Ruma, route};

pub(crate) fn routes() -> Vec<Route> {
    vec![route(get_presence), route(set_presence)]
}

/// `GET /_matrix/client/v3/presence/{userId}/status`
async fn get_presence(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<get_presence::v3::Request>,
) -> Result<get_presence::v3::Response> {
    let status = services
        .presence
        .status(&sender, &body.user_id)?
        .ok_or_else(|| Error::not_found("there is no such user"))?;
    let mut response = get_presence::v3::Response::new(match status.kind {
        Kind::Online => PresenceState::Online,
        Kind::Unavailable => PresenceState::Unavailable,
        Kind::Offline => PresenceState::Offline,
    });
    response.status_msg = status.status_msg;
    response.last_active_ago = status.active_ago;
    response.currently_active = Some(status.kind == Kind::Online);
    Ok(response)
}

/// `PUT /_matrix/client/v3/presence/{userId}/status`
async fn set_presence(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<set_presence::v3::Request>,
) -> Result<set_presence::v3::Response> {
    own(&sender, &body.user_id)?;
    services.presence.set(&sender, kind(&body.presence)?, body.status_msg).await?;
    Ok(set_presence::v3::Response::new())
}

/// The presence that a client names.
pub(super) fn kind(state: &PresenceState) -> Result<Kind> {
    match state {
        PresenceState::Online => Ok(Kind::Online),
        PresenceState::Unavailable => Ok(Kind::Unavailable),
        PresenceState::Offline => Ok(Kind::Offline),
        _ => Err(Error::invalid_param("there is no such presence")),
    }
}
