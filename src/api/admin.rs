//! The administration API of the running server. Served on the admin socket alone, never where
//! clients connect; access to the socket is the only authorization.

mod federation;
mod media;

use std::{path::PathBuf, sync::Arc};

use axum::{
    Router,
    extract::{Path, Query, State},
    response::Response,
    routing::{get, post},
};
use bytes::Bytes;
use http::{StatusCode, Uri};
use ruma::{OwnedRoomId, OwnedUserId};
use serde::Deserialize;
use serde_json::json;
use wick_core::{Error, Result, TimerId};
use wick_service::Services;

use crate::{dispatch::not_found, error::into_http, reply};

/// Every endpoint of the admin socket.
pub fn admin_router(services: Arc<Services>) -> Router {
    Router::new()
        .route("/status", get(status))
        .route("/backup", post(backup))
        .route("/timers", get(timers))
        .route("/timers/{timer}/end", post(end_timer))
        .route("/reports", get(reports))
        .route("/calls/check", post(check_calls))
        .route("/guests", get(guests))
        .merge(federation::routes())
        .merge(media::routes())
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
            "timers": services.timers.running_total(),
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

/// How many timers are listed at most, unless fewer are asked for.
const MOST_TIMERS: usize = 1000;

#[derive(Deserialize)]
struct WhichTimers {
    room_id: Option<OwnedRoomId>,
    user_id: Option<OwnedUserId>,
    limit: Option<usize>,
}

async fn timers(State(services): State<Arc<Services>>, uri: Uri) -> Response {
    answer(list_timers(&services, &uri))
}

fn list_timers(services: &Services, uri: &Uri) -> Result<Response> {
    let Query(which) = Query::<WhichTimers>::try_from_uri(uri)
        .map_err(|error| Error::invalid_param(error.to_string()))?;
    let limit = which.limit.unwrap_or(MOST_TIMERS).min(MOST_TIMERS);
    let timers = services.timers.list(which.room_id.as_deref(), which.user_id.as_deref(), limit)?;
    let total = services.timers.running_total();
    reply::json(StatusCode::OK, &json!({ "timers": timers, "running": total }))
}

async fn end_timer(State(services): State<Arc<Services>>, Path(timer): Path<String>) -> Response {
    answer(end_one(&services, &timer).await)
}

async fn end_one(services: &Services, timer: &str) -> Result<Response> {
    let timer = timer.parse().map_err(|_| Error::invalid_param("a timer's id is a number"))?;
    services.end_timer(TimerId(timer)).await?;
    reply::json(StatusCode::OK, &json!({}))
}

/// How many reports are listed at most, unless fewer are asked for.
const MOST_REPORTS: usize = 1000;

#[derive(Deserialize)]
struct HowMany {
    limit: Option<usize>,
}

async fn reports(State(services): State<Arc<Services>>, uri: Uri) -> Response {
    answer(list_reports(&services, &uri))
}

fn list_reports(services: &Services, uri: &Uri) -> Result<Response> {
    let reports = services.reports.newest(at_most(uri, MOST_REPORTS)?)?;
    reply::json(StatusCode::OK, &json!({ "reports": reports }))
}

/// Every reason why calls do not work.
async fn check_calls(State(services): State<Arc<Services>>) -> Response {
    let problems = match &services.calls {
        Some(calls) => calls.diagnose().await,
        None => vec!["calls are off: calls.livekit_url is not set".to_owned()],
    };
    answer(reply::json(StatusCode::OK, &json!({ "problems": problems })))
}

/// How many guests are listed at most, unless fewer are asked for.
const MOST_GUESTS: usize = 1000;

async fn guests(State(services): State<Arc<Services>>, uri: Uri) -> Response {
    answer(list_guests(&services, &uri))
}

fn list_guests(services: &Services, uri: &Uri) -> Result<Response> {
    let guests = services.users.guests(at_most(uri, MOST_GUESTS)?)?;
    let guests: Vec<_> = guests
        .iter()
        .map(|guest| {
            json!({
                "user_id": guest.user_id, "created": guest.created.0, "last_seen": guest.last_seen.0,
            })
        })
        .collect();
    reply::json(
        StatusCode::OK,
        &json!({ "guests": guests, "total": services.users.guest_total()? }),
    )
}

fn at_most(uri: &Uri, most: usize) -> Result<usize> {
    let Query(HowMany { limit }) =
        Query::try_from_uri(uri).map_err(|error| Error::invalid_param(error.to_string()))?;
    Ok(limit.unwrap_or(most).min(most))
}

fn answer(result: Result<Response>) -> Response {
    result.unwrap_or_else(into_http)
}
