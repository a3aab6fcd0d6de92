//! `/room_keys`: server-side backups of room keys.

use std::{collections::BTreeMap, sync::Arc};

use ruma::{
    OwnedRoomId, UInt,
    api::client::backup::{
        BackupAlgorithm, RoomKeyBackup, add_backup_keys, add_backup_keys_for_room,
        add_backup_keys_for_session, create_backup_version, delete_backup_keys,
        delete_backup_keys_for_room, delete_backup_keys_for_session, delete_backup_version,
        get_backup_info, get_backup_keys, get_backup_keys_for_room, get_backup_keys_for_session,
        get_latest_backup_info, update_backup_version,
    },
    serde::Raw,
};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use wick_core::{Error, Result, json};
use wick_encryption::backup::{Algorithm, Contents, Part, UploadedSession, Version};
use wick_service::Services;

use crate::route::{Route, Ruma, route};

pub(crate) fn routes() -> Vec<Route> {
    vec![
        route(create_backup_version),
        route(get_latest_backup_info),
        route(get_backup_info),
        route(update_backup_version),
        route(delete_backup_version),
        route(add_backup_keys),
        route(add_backup_keys_for_room),
        route(add_backup_keys_for_session),
        route(get_backup_keys),
        route(get_backup_keys_for_room),
        route(get_backup_keys_for_session),
        route(delete_backup_keys),
        route(delete_backup_keys_for_room),
        route(delete_backup_keys_for_session),
    ]
}

/// The body of a version, in requests and answers.
#[derive(Deserialize, Serialize)]
struct VersionBody<'a> {
    algorithm: &'a str,
    #[serde(borrow)]
    auth_data: &'a RawValue,
    #[serde(skip_serializing)]
    version: Option<String>,
}

impl<'a> VersionBody<'a> {
    fn read(raw: &'a Raw<BackupAlgorithm>) -> Result<Self> {
        let body: Self = serde_json::from_str(raw.json().get())
            .map_err(|_| Error::bad_json("a backup has an algorithm and auth_data"))?;
        if !json::is_object(body.auth_data) {
            return Err(Error::bad_json("auth_data is an object"));
        }
        Ok(body)
    }

    fn algorithm(&self) -> Algorithm<'a> {
        Algorithm { name: self.algorithm, auth_data: self.auth_data }
    }
}

/// `POST /_matrix/client/v3/room_keys/version`
async fn create_backup_version(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<create_backup_version::v3::Request>,
) -> Result<create_backup_version::v3::Response> {
    let version = VersionBody::read(&body.algorithm)?;
    let version = services.backups.create(sender.user, &version.algorithm()).await?;
    Ok(create_backup_version::v3::Response::new(version.to_string()))
}

/// `GET /_matrix/client/v3/room_keys/version`
async fn get_latest_backup_info(
    services: Arc<Services>,
    Ruma { sender, .. }: Ruma<get_latest_backup_info::v3::Request>,
) -> Result<get_latest_backup_info::v3::Response> {
    let Version { version, row } = services.backups.version(sender.user, None)?;
    let algorithm = algorithm(&row.algorithm, row.auth_data)?;
    let (count, etag, version) = (integer(row.count), row.etag.to_string(), version.to_string());
    Ok(get_latest_backup_info::v3::Response::new(algorithm, count, etag, version))
}

/// `GET /_matrix/client/v3/room_keys/version/{version}`
async fn get_backup_info(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<get_backup_info::v3::Request>,
) -> Result<get_backup_info::v3::Response> {
    let Version { version, row } = services.backups.version(sender.user, Some(&body.version))?;
    let algorithm = algorithm(&row.algorithm, row.auth_data)?;
    let (count, etag, version) = (integer(row.count), row.etag.to_string(), version.to_string());
    Ok(get_backup_info::v3::Response::new(algorithm, count, etag, version))
}

/// `PUT /_matrix/client/v3/room_keys/version/{version}`
async fn update_backup_version(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<update_backup_version::v3::Request>,
) -> Result<update_backup_version::v3::Response> {
    let update = VersionBody::read(&body.algorithm)?;
    let named = update.version.as_deref();
    services.backups.update(sender.user, &body.version, named, &update.algorithm()).await?;
    Ok(update_backup_version::v3::Response::new())
}

/// `DELETE /_matrix/client/v3/room_keys/version/{version}`
async fn delete_backup_version(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<delete_backup_version::v3::Request>,
) -> Result<delete_backup_version::v3::Response> {
    services.backups.delete(sender.user, &body.version).await?;
    Ok(delete_backup_version::v3::Response::new())
}

/// `PUT /_matrix/client/v3/room_keys/keys`
async fn add_backup_keys(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<add_backup_keys::v3::Request>,
) -> Result<add_backup_keys::v3::Response> {
    let mut sessions = Vec::new();
    for (room_id, room) in body.rooms {
        read_room(&room_id, room, &mut sessions)?;
    }
    let contents = services.backups.put(sender.user, &body.version, &sessions).await?;
    let (etag, count) = shown(contents);
    Ok(add_backup_keys::v3::Response::new(etag, count))
}

/// `PUT /_matrix/client/v3/room_keys/keys/{roomId}`
async fn add_backup_keys_for_room(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<add_backup_keys_for_room::v3::Request>,
) -> Result<add_backup_keys_for_room::v3::Response> {
    let mut sessions = Vec::new();
    read_room(&body.room_id, RoomKeyBackup::new(body.sessions), &mut sessions)?;
    let contents = services.backups.put(sender.user, &body.version, &sessions).await?;
    let (etag, count) = shown(contents);
    Ok(add_backup_keys_for_room::v3::Response::new(etag, count))
}

/// `PUT /_matrix/client/v3/room_keys/keys/{roomId}/{sessionId}`
async fn add_backup_keys_for_session(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<add_backup_keys_for_session::v3::Request>,
) -> Result<add_backup_keys_for_session::v3::Response> {
    let session = UploadedSession::read(body.room_id, body.session_id, body.session_data.json())?;
    let contents = services.backups.put(sender.user, &body.version, &[session]).await?;
    let (etag, count) = shown(contents);
    Ok(add_backup_keys_for_session::v3::Response::new(etag, count))
}

/// `GET /_matrix/client/v3/room_keys/keys`
async fn get_backup_keys(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<get_backup_keys::v3::Request>,
) -> Result<get_backup_keys::v3::Response> {
    let mut rooms = BTreeMap::<OwnedRoomId, RoomKeyBackup>::new();
    for (room_id, session_id, json) in
        services.backups.get(sender.user, &body.version, Part::All)?
    {
        let room = rooms.entry(room_id).or_insert_with(|| RoomKeyBackup::new(BTreeMap::new()));
        room.sessions.insert(session_id, Raw::from_json(json));
    }
    Ok(get_backup_keys::v3::Response::new(rooms))
}

/// `GET /_matrix/client/v3/room_keys/keys/{roomId}`
async fn get_backup_keys_for_room(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<get_backup_keys_for_room::v3::Request>,
) -> Result<get_backup_keys_for_room::v3::Response> {
    let part = Part::Room(&body.room_id);
    let sessions = services.backups.get(sender.user, &body.version, part)?;
    let sessions = sessions.into_iter().map(|(_, id, json)| (id, Raw::from_json(json))).collect();
    Ok(get_backup_keys_for_room::v3::Response::new(sessions))
}

/// `GET /_matrix/client/v3/room_keys/keys/{roomId}/{sessionId}`
async fn get_backup_keys_for_session(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<get_backup_keys_for_session::v3::Request>,
) -> Result<get_backup_keys_for_session::v3::Response> {
    let part = Part::Session(&body.room_id, &body.session_id);
    let found = services.backups.get(sender.user, &body.version, part)?.pop();
    let (_, _, json) = found.ok_or_else(|| Error::not_found("this session is not backed up"))?;
    Ok(get_backup_keys_for_session::v3::Response::new(Raw::from_json(json)))
}

/// `DELETE /_matrix/client/v3/room_keys/keys`
async fn delete_backup_keys(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<delete_backup_keys::v3::Request>,
) -> Result<delete_backup_keys::v3::Response> {
    let contents = services.backups.delete_sessions(sender.user, &body.version, Part::All).await?;
    let (etag, count) = shown(contents);
    Ok(delete_backup_keys::v3::Response::new(etag, count))
}

/// `DELETE /_matrix/client/v3/room_keys/keys/{roomId}`
async fn delete_backup_keys_for_room(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<delete_backup_keys_for_room::v3::Request>,
) -> Result<delete_backup_keys_for_room::v3::Response> {
    let part = Part::Room(&body.room_id);
    let contents = services.backups.delete_sessions(sender.user, &body.version, part).await?;
    let (etag, count) = shown(contents);
    Ok(delete_backup_keys_for_room::v3::Response::new(etag, count))
}

/// `DELETE /_matrix/client/v3/room_keys/keys/{roomId}/{sessionId}`
async fn delete_backup_keys_for_session(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<delete_backup_keys_for_session::v3::Request>,
) -> Result<delete_backup_keys_for_session::v3::Response> {
    let part = Part::Session(&body.room_id, &body.session_id);
    let contents = services.backups.delete_sessions(sender.user, &body.version, part).await?;
    let (etag, count) = shown(contents);
    Ok(delete_backup_keys_for_session::v3::Response::new(etag, count))
}

fn read_room(
    room_id: &OwnedRoomId,
    room: RoomKeyBackup,
    sessions: &mut Vec<UploadedSession>,
) -> Result<()> {
    for (session_id, session) in room.sessions {
        sessions.push(UploadedSession::read(room_id.clone(), session_id, session.json())?);
    }
    Ok(())
}

fn algorithm(name: &str, auth_data: String) -> Result<Raw<BackupAlgorithm>> {
    let broken = |error| Error::internal("a version of a backup", error);
    let auth_data = RawValue::from_string(auth_data).map_err(broken)?;
    let body = VersionBody { algorithm: name, auth_data: &auth_data, version: None };
    Ok(Raw::from_json(to_raw_value(&body).map_err(broken)?))
}

/// The etag and the count.
fn shown(contents: Contents) -> (String, UInt) {
    (contents.etag.to_string(), integer(contents.count))
}

fn integer(number: u64) -> UInt {
    UInt::new_saturating(number)
}
