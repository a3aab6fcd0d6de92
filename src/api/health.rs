//! `/_wick/health`: whether the server answers and can write, for load balancers and start scripts.

use std::sync::Arc;

use axum::response::Response;
use http::StatusCode;
use serde_json::json;
use wick_core::Result;
use wick_service::Services;

use crate::{
    reply,
    route::{Call, Route, plain},
};

pub(crate) fn routes() -> Vec<Route> {
    vec![plain("/_wick/health", health)]
}

async fn health(services: Arc<Services>, _: Call) -> Result<Response> {
    if services.supervisor.stopping().is_cancelled() {
        return reply::json(StatusCode::SERVICE_UNAVAILABLE, &json!({ "status": "stopping" }));
    }
    if !services.health.is_writable().await {
        return reply::json(StatusCode::SERVICE_UNAVAILABLE, &json!({ "status": "read-only" }));
    }
    reply::json(StatusCode::OK, &json!({ "status": "ok", "version": env!("CARGO_PKG_VERSION") }))
}
