//! Other servers, for administrators: whether one can be reached, how requests went, a new signing key.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Path, Query, State},
    response::Response,
    routing::{get, post},
};
use http::{StatusCode, Uri};
use ruma::{OwnedServerName, ServerName};
use serde::Deserialize;
use serde_json::json;
use wick_core::{Error, Result};
use wick_service::Services;

use super::answer;
use crate::reply;

/// How many servers are listed at most, unless fewer are asked for.
const MOST: usize = 1000;

pub(super) fn routes() -> Router<Arc<Services>> {
    Router::new()
        .route("/federation/check/{server}", post(check))
        .route("/federation/destinations", get(destinations))
        .route("/federation/destinations/{server}/reset", post(reset))
        .route("/federation/rotate-key", post(rotate_key))
}

async fn check(State(services): State<Arc<Services>>, Path(server): Path<String>) -> Response {
    answer(diagnose(&services, &server).await)
}

async fn diagnose(services: &Services, server: &str) -> Result<Response> {
    let findings = services.federation()?.diagnose(&name(server)?).await?;
    let findings: Vec<_> = findings
        .iter()
        .map(|finding| json!({ "good": finding.is_good, "finding": finding.line }))
        .collect();
    reply::json(StatusCode::OK, &json!({ "findings": findings }))
}

#[derive(Deserialize)]
struct Which {
    after: Option<OwnedServerName>,
    limit: Option<usize>,
}

async fn destinations(State(services): State<Arc<Services>>, uri: Uri) -> Response {
    answer(list(&services, &uri))
}

fn list(services: &Services, uri: &Uri) -> Result<Response> {
    let Query(which) = Query::<Which>::try_from_uri(uri)
        .map_err(|error| Error::invalid_param(error.to_string()))?;
    let limit = which.limit.unwrap_or(MOST).min(MOST);
    let rows = services.federation()?.destinations(which.after.as_deref(), limit)?;
    let destinations: Vec<_> = rows
        .into_iter()
        .map(|(server, row)| {
            json!({
                "server": server, "last_success": row.last_success, "failures": row.failures,
                "retry_at": row.retry_at, "failure": row.failure,
            })
        })
        .collect();
    reply::json(StatusCode::OK, &json!({ "destinations": destinations }))
}

async fn reset(State(services): State<Arc<Services>>, Path(server): Path<String>) -> Response {
    answer(reset_one(&services, &server).await)
}

async fn reset_one(services: &Services, server: &str) -> Result<Response> {
    let is_reset = services.federation()?.reset_destination(&name(server)?).await?;
    reply::json(StatusCode::OK, &json!({ "reset": is_reset }))
}

async fn rotate_key(State(services): State<Arc<Services>>) -> Response {
    answer(rotate(&services).await)
}

async fn rotate(services: &Services) -> Result<Response> {
    let key_id = services.federation()?.keys.rotate().await?;
    reply::json(StatusCode::OK, &json!({ "key_id": key_id }))
}

fn name(server: &str) -> Result<OwnedServerName> {
    ServerName::parse(server).map_err(|_| Error::invalid_param("this is no server name"))
}
