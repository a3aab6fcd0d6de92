//! `/query`: what other servers ask about users.

use std::sync::Arc;

use ruma::profile::UserProfile;
use ruma_federation_api::query::get_profile_information::v1 as get_profile_information;
use wick_core::{Error, Result};
use wick_service::Services;

use crate::route::{Route, Ruma, route};

pub(super) fn routes() -> Vec<Route> {
    vec![route(get_profile)]
}

/// `GET /_matrix/federation/v1/query/profile`
async fn get_profile(
    services: Arc<Services>,
    Ruma { body, .. }: Ruma<get_profile_information::Request>,
) -> Result<get_profile_information::Response> {
    let unknown = || Error::not_found("this user has no profile");
    let profile = services.profiles.get(&body.user_id)?.ok_or_else(unknown)?;
    let Some(field) = body.field else { return Ok(profile.into()) };
    let mut one = UserProfile::new();
    if let Some(value) = profile.get(field.as_str()) {
        one.set(field.as_str().to_owned(), value.clone());
    }
    Ok(one.into())
}
