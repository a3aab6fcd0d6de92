//! `/_synapse/admin/v1/register`: accounts that scripts make with the shared secret. Where none is
//! configured there is no such endpoint.

use std::sync::Arc;

use axum::response::Response;
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;
use wick_account::users::SignedAccount;
use wick_core::Result;
use wick_runtime::Limit;
use wick_service::Services;

use crate::{
    address::limit_key,
    error::unrecognized,
    reply,
    route::{Call, Route, plain},
};

const PATH: &str = "/_synapse/admin/v1/register";

pub(crate) fn routes() -> Vec<Route> {
    let register = Route { method: Method::POST, ..plain(PATH, register) };
    vec![plain(PATH, nonce), register]
}

#[derive(Deserialize)]
struct Body {
    nonce: String,
    username: String,
    password: String,
    #[serde(default)]
    admin: bool,
    #[serde(default)]
    user_type: Option<String>,
    mac: String,
}

/// `GET`: a nonce
async fn nonce(services: Arc<Services>, call: Call) -> Result<Response> {
    ensure_there(&services)?;
    services.limits.ensure(Limit::Registration, &limit_key(call.address))?;
    let nonce = services.users.registration_nonce().await?;
    reply::json(StatusCode::OK, &json!({ "nonce": nonce }))
}

/// `POST`: an account
async fn register(services: Arc<Services>, call: Call) -> Result<Response> {
    ensure_there(&services)?;
    services.limits.ensure(Limit::Registration, &limit_key(call.address))?;
    let Body { nonce, username, password, admin, user_type, mac } = call.json()?;
    let signed = SignedAccount { nonce, username, password, admin, user_type, mac };
    let made = services.users.register_signed(signed).await?;
    let (device_id, access_token) =
        made.device.map(|(device_id, tokens)| (device_id, tokens.access)).unzip();
    let answer = json!({
        "user_id": made.user_id,
        "home_server": made.user_id.server_name(),
        "device_id": device_id,
        "access_token": access_token,
    });
    reply::json(StatusCode::OK, &answer)
}

fn ensure_there(services: &Services) -> Result<()> {
    if services.users.has_shared_secret() {
        Ok(())
    } else {
        Err(unrecognized(StatusCode::NOT_FOUND))
    }
}
