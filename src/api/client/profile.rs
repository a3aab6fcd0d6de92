//! `/profile/{userId}`: profiles of users.

use std::sync::Arc;

use http::Method;
use ruma::{
    OwnedUserId,
    api::{
        IncomingRequest, Metadata,
        client::profile::{
            delete_profile_field, get_profile, get_profile_field, set_profile_field,
        },
        error::DeserializationError,
    },
    profile::ProfileFieldValue,
};
use serde::{
    Deserialize,
    de::{
        Error as _,
        value::{self, SeqDeserializer},
    },
};
use serde_json::Value;
use wick_core::{Error, Result};
use wick_people::profile::{AVATAR_URL, DISPLAY_NAME};
use wick_service::Services;

use crate::route::{Route, Ruma, route};

pub(crate) fn routes() -> Vec<Route> {
    vec![
        route(get_profile),
        route(get_profile_field),
        route(set_profile_field),
        route(delete_profile_field),
    ]
}

/// `GET /_matrix/client/v3/profile/{userId}`
async fn get_profile(
    services: Arc<Services>,
    Ruma { body, .. }: Ruma<get_profile::v3::Request>,
) -> Result<get_profile::v3::Response> {
    let profile = services.profile(&body.user_id).await?;
    let mut response = get_profile::v3::Response::new();
    response.data = profile;
    Ok(response)
}

/// `GET /_matrix/client/v3/profile/{userId}/{keyName}`
async fn get_profile_field(
    services: Arc<Services>,
    Ruma { body, .. }: Ruma<get_profile_field::v3::Request>,
) -> Result<get_profile_field::v3::Response> {
    let key = body.field.as_str();
    let value = services
        .profile(&body.user_id)
        .await?
        .get(key)
        .cloned()
        .ok_or_else(|| Error::not_found("this user's profile has no such field"))?;
    let value = ProfileFieldValue::new(key, value)
        .map_err(|error| Error::internal("stored profile field", error))?;
    Ok(get_profile_field::v3::Response::new(value))
}

/// `PUT /_matrix/client/v3/profile/{userId}/{keyName}`, where null takes a field away
async fn set_profile_field(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<SetField>,
) -> Result<set_profile_field::v3::Response> {
    services.set_profile_field(&sender, body.user_id, body.key, body.value).await?;
    Ok(set_profile_field::v3::Response::new())
}

/// `DELETE /_matrix/client/v3/profile/{userId}/{keyName}`
async fn delete_profile_field(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<delete_profile_field::v3::Request>,
) -> Result<delete_profile_field::v3::Response> {
    let key = body.field.as_str().to_owned();
    services.set_profile_field(&sender, body.user_id, key, None).await?;
    Ok(delete_profile_field::v3::Response::default())
}

/// The request to set a field. Ruma's own takes no null for a display name or an avatar, which is
/// how clients take them away that are older than the endpoint for that.
struct SetField {
    user_id: OwnedUserId,
    key: String,
    value: Option<Value>,
}

impl Metadata for SetField {
    const METHOD: Method = set_profile_field::v3::Request::METHOD;
    const RATE_LIMITED: bool = set_profile_field::v3::Request::RATE_LIMITED;
    type Authentication = <set_profile_field::v3::Request as Metadata>::Authentication;
    type PathBuilder = <set_profile_field::v3::Request as Metadata>::PathBuilder;
    const PATH_BUILDER: Self::PathBuilder = set_profile_field::v3::Request::PATH_BUILDER;
}

impl IncomingRequest for SetField {
    type EndpointError = <set_profile_field::v3::Request as IncomingRequest>::EndpointError;
    type OutgoingResponse = set_profile_field::v3::Response;

    fn try_from_http_request_inner(
        request: http::Request<&[u8]>,
        arguments: &[&str],
    ) -> Result<Self, DeserializationError> {
        let (user_id, key): (OwnedUserId, String) =
            Deserialize::deserialize(SeqDeserializer::<_, value::Error>::new(
                arguments.iter().copied(),
            ))?;
        let mut body: serde_json::Map<String, Value> = serde_json::from_slice(request.body())?;
        let value = match (body.remove(&key), &*key) {
            // How old clients spell "none".
            (Some(Value::String(text)), DISPLAY_NAME | AVATAR_URL) if text.is_empty() => None,
            (None | Some(Value::Null), DISPLAY_NAME | AVATAR_URL) => None,
            (Some(value), _) => Some(value),
            (None, _) => {
                let missing = format!("missing field `{key}`");
                return Err(serde_json::Error::custom(missing).into());
            }
        };
        Ok(Self { user_id, key, value })
    }
}
