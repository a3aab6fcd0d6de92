//! Media for administrators: list, delete, quarantine; one, or that of a user, a room or another server.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Path, Query, State},
    response::Response,
    routing::{get, post},
};
use http::{StatusCode, Uri};
use ruma::{OwnedRoomId, OwnedServerName, OwnedUserId, ServerName, UserId};
use serde::Deserialize;
use serde_json::json;
use wick_core::{Error, Result, ShortUserId};
use wick_media::{Action, Listed, MediaName, Which};
use wick_service::{RoomMedia, Services};

use super::answer;
use crate::reply;

/// How much media is listed at most.
const MOST_MEDIA: usize = 1000;

/// How much media is acted on at once.
const PORTION: usize = 100;

pub(super) fn routes() -> Router<Arc<Services>> {
    Router::new()
        .route("/media", get(list))
        .route("/media/{action}", post(act_on_all))
        .route("/media/{media_id}/{action}", post(act_on_own))
        .route("/media/{server_name}/{media_id}/{action}", post(act_on_any))
}

#[derive(Deserialize)]
struct Asked {
    user_id: Option<OwnedUserId>,
    room_id: Option<OwnedRoomId>,
    server_name: Option<OwnedServerName>,
    #[serde(default)]
    remote: bool,
    after: Option<String>,
    limit: Option<usize>,
}

/// Which media a request is about.
enum Selection {
    Media(Which),
    Room(OwnedRoomId),
}

impl Asked {
    fn read(uri: &Uri) -> Result<Self> {
        let asked = Query::<Self>::try_from_uri(uri);
        asked.map(|Query(asked)| asked).map_err(|error| Error::invalid_param(error.to_string()))
    }

    /// The selection, if there is any.
    fn selection(&self, services: &Services) -> Result<Option<Selection>> {
        let which = match (&self.user_id, &self.room_id, &self.server_name, self.remote) {
            (None, None, None, false) => return Ok(None),
            (Some(user_id), None, None, false) => Which::Of(short(services, user_id)?),
            (None, Some(room_id), None, false) => {
                return Ok(Some(Selection::Room(room_id.clone())));
            }
            (None, None, Some(server), false) if *server == services.config.server.name => {
                return Err(Error::invalid_param("this is not another server"));
            }
            (None, None, Some(server), false) => Which::From(server.clone()),
            (None, None, None, true) => Which::Remote,
            _ => return Err(Error::invalid_param("of a user, a room or a server: one of them")),
        };
        Ok(Some(Selection::Media(which)))
    }
}

async fn list(State(services): State<Arc<Services>>, uri: Uri) -> Response {
    answer(listed(&services, &uri).await)
}

async fn listed(services: &Services, uri: &Uri) -> Result<Response> {
    let asked = Asked::read(uri)?;
    let limit = asked.limit.unwrap_or(MOST_MEDIA).min(MOST_MEDIA);
    let selection = asked.selection(services)?.unwrap_or(Selection::Media(Which::Own));
    let mut usage = None;
    let (listed, next) = match &selection {
        Selection::Room(room_id) => {
            let after = asked.after.as_deref().map(str::parse).transpose();
            let after = after.map_err(|_| Error::invalid_param("after is a place in the room"))?;
            in_room(services, room_id, after.unwrap_or(i64::MIN), limit).await?
        }
        Selection::Media(which) => {
            if let Which::Of(owner) = which {
                usage = Some(services.media.usage(*owner)?);
            }
            let after = asked.after.as_deref().map(|after| name(services, after)).transpose()?;
            (services.media.list(which, after.as_ref(), limit)?, None)
        }
    };
    let read = services.database.published();
    let mut media = Vec::new();
    for listed in listed {
        let owner = listed.owner.map(|owner| services.graph.user_id(&read, owner)).transpose()?;
        media.push(json!({
            "media_id": shown_id(services, &listed),
            "user_id": owner,
            "uploaded": listed.uploaded,
            "size": listed.size,
            "content_type": listed.content_type,
            "file_name": listed.file_name,
            "quarantined": listed.quarantined,
        }));
    }
    reply::json(StatusCode::OK, &json!({ "media": media, "usage": usage, "next": next }))
}

/// At least `limit` media of a room, if it has them, and where the next begin.
async fn in_room(
    services: &Services,
    room_id: &OwnedRoomId,
    mut after: i64,
    limit: usize,
) -> Result<(Vec<Listed>, Option<i64>)> {
    let mut listed = Vec::new();
    loop {
        let RoomMedia { media, next } = services.room_media(room_id, after).await?;
        let media: Vec<_> = media.into_iter().collect();
        listed.extend(services.media.those_of(&media)?);
        match next {
            Some(next) if listed.len() < limit => after = next,
            next => return Ok((listed, next)),
        }
    }
}

/// A media id of this server, or one of another server behind its name.
fn shown_id(services: &Services, listed: &Listed) -> String {
    if listed.server_name == services.config.server.name {
        return listed.media_id.clone();
    }
    format!("{}/{}", listed.server_name, listed.media_id)
}

/// The media of `media id` or `server/media id`.
fn name(services: &Services, text: &str) -> Result<MediaName> {
    match text.split_once('/') {
        None => Ok((services.config.server.name.clone(), text.to_owned())),
        Some((server_name, media_id)) => named(server_name, media_id.to_owned()),
    }
}

fn named(server_name: &str, media_id: String) -> Result<MediaName> {
    Ok((ServerName::parse(server_name).map_err(|_| not_found())?, media_id))
}

fn not_found() -> Error {
    Error::not_found("there is no such media")
}

fn short(services: &Services, user_id: &UserId) -> Result<ShortUserId> {
    let account = services.users.get(user_id)?;
    account.map(|(short, _)| short).ok_or_else(|| Error::not_found("there is no such account"))
}

fn action(text: &str) -> Result<Action> {
    match text {
        "delete" => Ok(Action::Delete),
        "quarantine" => Ok(Action::Quarantine),
        "release" => Ok(Action::Release),
        _ => Err(Error::not_found("there is no such action")),
    }
}

async fn act_on_own(
    State(services): State<Arc<Services>>,
    Path((media_id, action)): Path<(String, String)>,
) -> Response {
    let media = Ok((services.config.server.name.clone(), media_id));
    answer(act(&services, &action, media).await)
}

async fn act_on_any(
    State(services): State<Arc<Services>>,
    Path((server_name, media_id, action)): Path<(String, String, String)>,
) -> Response {
    answer(act(&services, &action, named(&server_name, media_id)).await)
}

async fn act(services: &Services, text: &str, media: Result<MediaName>) -> Result<Response> {
    match services.media.act(action(text)?, &[media?]).await? {
        0 => Err(not_found()),
        _ => reply::json(StatusCode::OK, &json!({})),
    }
}

async fn act_on_all(
    State(services): State<Arc<Services>>,
    Path(action): Path<String>,
    uri: Uri,
) -> Response {
    answer(acted_on_all(&services, &action, &uri).await)
}

async fn acted_on_all(services: &Services, text: &str, uri: &Uri) -> Result<Response> {
    let action = action(text)?;
    let done = match Asked::read(uri)?.selection(services)? {
        None => return Err(Error::invalid_param("of a user, a room or a server")),
        Some(Selection::Media(Which::Of(owner))) if action == Action::Delete => {
            services.media.delete_all_of(owner).await?
        }
        Some(Selection::Media(which)) => act_on_listed(services, action, &which).await?,
        Some(Selection::Room(room_id)) => {
            let (mut done, mut after) = (0_usize, Some(i64::MIN));
            while let Some(place) = after {
                let RoomMedia { media, next } = services.room_media(&room_id, place).await?;
                let media: Vec<_> = media.into_iter().collect();
                done = done.saturating_add(services.media.act(action, &media).await?);
                after = next;
            }
            done
        }
    };
    reply::json(StatusCode::OK, &json!({ "done": done }))
}

async fn act_on_listed(services: &Services, action: Action, which: &Which) -> Result<usize> {
    let (mut done, mut after) = (0_usize, None);
    loop {
        let listed = services.media.list(which, after.as_ref(), PORTION)?;
        let media: Vec<_> =
            listed.into_iter().map(|listed| (listed.server_name, listed.media_id)).collect();
        let Some(last) = media.last() else { return Ok(done) };
        done = done.saturating_add(services.media.act(action, &media).await?);
        after = Some(last.clone());
    }
}
