//! Media for administrators: list, delete, quarantine.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Path, Query, State},
    response::Response,
    routing::{get, post},
};
use http::{StatusCode, Uri};
use ruma::{OwnedUserId, UserId};
use serde::Deserialize;
use serde_json::json;
use wick_core::{Error, Result, ShortUserId};
use wick_service::Services;

use super::answer;
use crate::reply;

/// How much media is listed at most.
const MOST_MEDIA: usize = 1000;

pub(super) fn routes() -> Router<Arc<Services>> {
    Router::new()
        .route("/media", get(list))
        .route("/media/{media_id}/delete", post(delete))
        .route("/media/{media_id}/quarantine", post(quarantine))
        .route("/media/{media_id}/release", post(release))
        .route("/users/{user_id}/media/delete", post(delete_all))
}

#[derive(Deserialize)]
struct Which {
    user_id: Option<OwnedUserId>,
    after: Option<String>,
    limit: Option<usize>,
}

async fn list(State(services): State<Arc<Services>>, uri: Uri) -> Response {
    answer(listed(&services, &uri))
}

fn listed(services: &Services, uri: &Uri) -> Result<Response> {
    let Query(which) = Query::<Which>::try_from_uri(uri)
        .map_err(|error| Error::invalid_param(error.to_string()))?;
    let owner = which.user_id.map(|user_id| short(services, &user_id)).transpose()?;
    let limit = which.limit.unwrap_or(MOST_MEDIA).min(MOST_MEDIA);
    let read = services.database.published();
    let mut media = Vec::new();
    for listed in services.media.list(owner, which.after.as_deref(), limit)? {
        let user_id = services.graph.user_id(&read, listed.owner)?;
        media.push(json!({
            "media_id": listed.media_id,
            "user_id": user_id,
            "uploaded": listed.uploaded,
            "size": listed.size,
            "content_type": listed.content_type,
            "file_name": listed.file_name,
            "quarantined": listed.quarantined,
        }));
    }
    let usage = owner.map(|owner| services.media.usage(owner)).transpose()?;
    reply::json(StatusCode::OK, &json!({ "media": media, "usage": usage }))
}

fn short(services: &Services, user_id: &UserId) -> Result<ShortUserId> {
    let account = services.users.get(user_id)?;
    account.map(|(short, _)| short).ok_or_else(|| Error::not_found("there is no such account"))
}

async fn delete(State(services): State<Arc<Services>>, Path(media_id): Path<String>) -> Response {
    answer(done(services.media.delete(&media_id).await))
}

async fn quarantine(
    State(services): State<Arc<Services>>,
    Path(media_id): Path<String>,
) -> Response {
    answer(done(services.media.quarantine(&media_id, false).await))
}

async fn release(State(services): State<Arc<Services>>, Path(media_id): Path<String>) -> Response {
    answer(done(services.media.quarantine(&media_id, true).await))
}

async fn delete_all(State(services): State<Arc<Services>>, Path(user): Path<String>) -> Response {
    answer(delete_all_of(&services, &user).await)
}

async fn delete_all_of(services: &Services, user: &str) -> Result<Response> {
    let user_id = UserId::parse(user).map_err(|_| Error::invalid_param("this is no user id"))?;
    let deleted = services.media.delete_all_of(short(services, &user_id)?).await?;
    reply::json(StatusCode::OK, &json!({ "deleted": deleted }))
}

fn done(result: Result<()>) -> Result<Response> {
    result.and_then(|()| reply::json(StatusCode::OK, &json!({})))
}
