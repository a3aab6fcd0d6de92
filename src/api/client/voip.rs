//! `/voip`: the TURN servers of `[turn]`. Without any, the response is an empty object.

use std::sync::Arc;

use axum::response::Response;
use http::StatusCode;
use ruma::api::client::voip::get_turn_server_info;
use serde_json::json;
use wick_account::turn::{self, TurnCredentials};
use wick_core::Result;
use wick_service::Services;

use crate::{
    reply::{self, Reply},
    route::{Route, Ruma, route},
};

pub(crate) fn routes() -> Vec<Route> {
    vec![route(get_turn_server_info)]
}

/// `GET /_matrix/client/v3/voip/turnServer`
async fn get_turn_server_info(
    services: Arc<Services>,
    Ruma { sender, .. }: Ruma<get_turn_server_info::v3::Request>,
) -> Result<TurnServers> {
    let now = services.clock.now();
    turn::credentials(&services.config.turn, &sender.user_id, now).map(TurnServers)
}

/// ruma's response has no form for a server without TURN servers.
struct TurnServers(Option<TurnCredentials>);

impl Reply for TurnServers {
    fn into_http(self) -> Result<Response> {
        let body = self.0.map_or_else(
            || json!({}),
            |found| {
                json!({
                    "username": found.username,
                    "password": found.password,
                    "uris": found.uris,
                    "ttl": found.lifetime.as_secs(),
                })
            },
        );
        reply::json(StatusCode::OK, &body)
    }
}
