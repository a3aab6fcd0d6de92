//! What an administrator can ask and tell the running server. Served on the admin socket alone,
//! never where clients connect; whoever may open the socket is an administrator.

use std::{path::PathBuf, sync::Arc};

use axum::{
    Router,
    extract::State,
    response::Response,
    routing::{get, post},
};
use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;
use serde_json::json;
use wick_core::{Error, Result};
use wick_service::Services;

use crate::{dispatch::not_found, error::into_http, reply};

/// Every endpoint of the admin socket.
pub fn admin_router(services: Arc<Services>) -> Router {
    Router::new()
        .route("/status", get(status))
        .route("/backup", post(backup))
        .fallback(not_found)
        .with_state(services)
}

async fn status(State(services): State<Arc<Services>>) -> Response {
    answer(reply::json(
        StatusCode::OK,
        &json!({
            "server_name": services.config.server.name,
            "version": env!("CARGO_PKG_VERSION"),
            "position": services.database.position(),
        }),
    ))
}

#[derive(Deserialize)]
struct Backup {
    /// Absolute, for the server's working folder is not the administrator's.
    folder: PathBuf,
}

async fn backup(State(services): State<Arc<Services>>, body: Bytes) -> Response {
    answer(copy(services, &body).await)
}

async fn copy(services: Arc<Services>, body: &[u8]) -> Result<Response> {
    let Backup { folder } =
        serde_json::from_slice(body).map_err(|error| Error::bad_json(error.to_string()))?;
    let database = services.database.clone();
    let target = folder.clone();
    tokio::task::spawn_blocking(move || database.backup(&target))
        .await
        .map_err(|error| Error::internal("the backup broke off", error))?
        .map_err(|error| Error::internal("the backup failed", error))?;
    reply::json(StatusCode::OK, &json!({ "folder": folder }))
}

fn answer(result: Result<Response>) -> Response {
    result.unwrap_or_else(into_http)
}
