//! The few Client-Server API calls a run needs, with the specification's paths.
//!
//! Calls that only prepare a run wait and retry on a 429; measured ones never do.

use std::time::Duration;

use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    Failure, Result,
    connection::{Call, Connection, encode},
};

const PASSWORD: &str = "benchmark only";

/// A logged-in user with a device.
#[derive(Clone, Deserialize)]
pub(crate) struct Account {
    pub(crate) user_id: String,
    pub(crate) device_id: String,
    pub(crate) access_token: String,
}

#[derive(Deserialize)]
struct RoomId {
    room_id: String,
}

/// What `PUT /send` and `/state` answer to an event with a duration.
#[derive(Deserialize)]
pub(crate) struct Armed {
    pub(crate) event_id: String,
    pub(crate) expire_refresh_token: String,
}

/// What `PUT /send` and `/state` answer to an event with a delay.
#[derive(Deserialize)]
pub(crate) struct Scheduled {
    pub(crate) delay_id: String,
}

/// Registers `name`, with a registration token if the server asks for one.
pub(crate) async fn register(
    connection: &mut Connection,
    name: &str,
    token: Option<&str>,
) -> Result<Account> {
    let mut body = json!({ "username": name, "password": PASSWORD });
    let auth = match token {
        None => json!({ "type": "m.login.dummy" }),
        Some(token) => {
            // The stage needs the session of the first, refused attempt.
            let first = Call::post("/_matrix/client/v3/register", None, body.clone());
            let (_, answer) = connection.exchange(&first).await?;
            let answer: Value = serde_json::from_slice(&answer)?;
            json!({ "type": "m.login.registration_token", "token": token, "session": answer.get("session") })
        }
    };
    if let Some(fields) = body.as_object_mut() {
        fields.insert("auth".to_owned(), auth);
    }
    patient(connection, &Call::post("/_matrix/client/v3/register", None, body)).await
}

/// Logs the user of an account in on another device.
pub(crate) async fn log_in(connection: &mut Connection, account: &Account) -> Result<Account> {
    let body = json!({
        "type": "m.login.password", "password": PASSWORD,
        "identifier": { "type": "m.id.user", "user": account.user_id },
    });
    patient(connection, &Call::post("/_matrix/client/v3/login", None, body)).await
}

/// Creates a public room in which all members may send state.
pub(crate) async fn create_room(connection: &mut Connection, account: &Account) -> Result<String> {
    let body = json!({
        "preset": "public_chat",
        "power_level_content_override": { "state_default": 0, "events_default": 0 },
    });
    let call = Call::post("/_matrix/client/v3/createRoom", Some(&account.access_token), body);
    Ok(patient::<RoomId>(connection, &call).await?.room_id)
}

/// Joins a public room, as part of the preparation.
pub(crate) async fn join(connection: &mut Connection, account: &Account, room: &str) -> Result<()> {
    patient::<RoomId>(connection, &join_call(account, room)).await.map(drop)
}

pub(crate) fn join_call<'a>(account: &'a Account, room: &str) -> Call<'a> {
    let path = format!("/_matrix/client/v3/join/{}", encode(room));
    Call::post(&path, Some(&account.access_token), json!({}))
}

pub(crate) fn send_call<'a>(
    account: &'a Account,
    room: &str,
    txn: &str,
    content: Value,
) -> Call<'a> {
    let path = format!("/_matrix/client/v3/rooms/{}/send/m.room.message/{txn}", encode(room));
    Call::put(path, Some(&account.access_token), content)
}

pub(crate) fn state_call<'a>(
    account: &'a Account,
    room: &str,
    key: &str,
    content: Value,
) -> Call<'a> {
    let path = format!("/_matrix/client/v3/rooms/{}/state/wick.load/{}", encode(room), encode(key));
    Call::put(path, Some(&account.access_token), content)
}

/// `PUT /expiration/refresh`; the refresh token is the right, so there is no access token.
pub(crate) fn refresh_call(token: &str) -> Call<'static> {
    let body = json!({ "expire_refresh_token": token });
    Call::put("/_matrix/client/v3/expiration/refresh".to_owned(), None, body)
}

/// Does `action` (`restart`, `send`, `cancel`) to a delayed event; its id is the right to it.
pub(crate) fn delayed_event_call(delay_id: &str, action: &str) -> Call<'static> {
    let delay_id = encode(delay_id);
    let path =
        format!("/_matrix/client/unstable/org.matrix.msc4140/delayed_events/{delay_id}/{action}");
    Call::post(&path, None, json!({}))
}

pub(crate) fn message(text: String) -> Value {
    json!({ "msgtype": "m.text", "body": text })
}

pub(crate) fn expiring_message(text: String, seconds: u64) -> Value {
    json!({ "msgtype": "m.text", "body": text, "m.will_expire": seconds })
}

/// Asks `GET /versions` until it is answered or there is no `hope` left.
pub(crate) async fn wait_until_ready(
    connection: &mut Connection,
    mut hope: impl FnMut() -> bool,
) -> Result<()> {
    let call = Call {
        method: Method::GET,
        path: "/_matrix/client/versions".to_owned(),
        token: None,
        body: None,
    };
    loop {
        match connection.call(&call).await {
            Ok(_) => return Ok(()),
            Err(failure) if !hope() => return Err(failure),
            Err(_) => tokio::time::sleep(Duration::from_millis(2)).await,
        }
    }
}

pub(crate) async fn patient<T: serde::de::DeserializeOwned>(
    connection: &mut Connection,
    call: &Call<'_>,
) -> Result<T> {
    loop {
        match connection.call_json(call).await {
            Err(Failure::Answer { status: 429, retry_after_ms, .. }) => {
                tokio::time::sleep(Duration::from_millis(retry_after_ms.unwrap_or(500))).await;
            }
            outcome => return outcome,
        }
    }
}
