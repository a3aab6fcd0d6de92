//! `/voip`: TURN servers are not supported, so the response is an empty object.

use std::sync::Arc;

use axum::response::Response;
use http::StatusCode;
use ruma::api::client::voip::get_turn_server_info;
use serde_json::{Map, Value};
use wick_core::Result;
use wick_service::Services;

use crate::{
    reply::{Reply, json},
    route::{Route, Ruma, route},
};

pub(crate) fn routes() -> Vec<Route> {
    vec![route(get_turn_server_info)]
}

/// `GET /_matrix/client/v3/voip/turnServer`
async fn get_turn_server_info(
    _: Arc<Services>,
    _: Ruma<get_turn_server_info::v3::Request>,
) -> Result<NoTurnServer> {
    Ok(NoTurnServer)
}

struct NoTurnServer;

impl Reply for NoTurnServer {
    fn into_http(self) -> Result<Response> {
        json(StatusCode::OK, &Map::<String, Value>::new())
    }
}
