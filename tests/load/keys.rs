//! The calls of end-to-end encryption that a run needs. Keys, signatures and ciphertexts have the form and the size of
//! real ones, and are none.

use std::ops::Range;

use serde_json::{Map, Value, json};

use crate::{connection::Call, matrix::Account};

const ALGORITHM: &str = "signed_curve25519";

/// Characters of a public key, of a signature, of a room key that is sent to one device, and of one in a backup with its
/// authentication code, in base64.
const KEY: usize = 43;
const SIGNATURE: usize = 86;
const CIPHERTEXT: usize = 1_200;
const SESSION: usize = 800;
const MAC: usize = 11;

/// Uploads one-time keys with these numbers, and the keys of the device itself if it has none yet.
pub(crate) fn upload_call(account: &Account, is_new: bool, numbers: Range<u64>) -> Call<'_> {
    let one_time_keys: Map<String, Value> = numbers
        .map(|number| {
            let key = json!({ "key": base64(number), "signatures": signatures(account) });
            (format!("{ALGORITHM}:{number}"), key)
        })
        .collect();
    let mut body = json!({ "one_time_keys": one_time_keys });
    if let (true, Some(fields)) = (is_new, body.as_object_mut()) {
        fields.insert("device_keys".to_owned(), device_keys(account));
    }
    Call::post("/_matrix/client/v3/keys/upload", Some(&account.access_token), body)
}

/// Claims a one-time key of each device, which are of different users.
pub(crate) fn claim_call<'a, 'b>(
    account: &'a Account,
    devices: impl Iterator<Item = &'b Account>,
) -> Call<'a> {
    let wanted: Map<String, Value> = devices
        .map(|device| (device.user_id.clone(), json!({ &*device.device_id: ALGORITHM })))
        .collect();
    let body = json!({ "one_time_keys": wanted });
    Call::post("/_matrix/client/v3/keys/claim", Some(&account.access_token), body)
}

/// Backs up room keys with these numbers, in rooms of ten.
pub(crate) fn back_up_call<'a>(
    account: &'a Account,
    version: &str,
    numbers: Range<u64>,
) -> Call<'a> {
    let mut rooms = Map::new();
    for number in numbers {
        let room = format!("!{}:localhost", base64(number / 10));
        let session = json!({
            "first_message_index": 0, "forwarded_count": 0, "is_verified": true,
            "session_data": { "ephemeral": base64(number), "ciphertext": "C".repeat(SESSION), "mac": "M".repeat(MAC) },
        });
        let sessions = rooms.entry(room).or_insert_with(|| json!({ "sessions": {} }));
        if let Some(sessions) = sessions.get_mut("sessions").and_then(Value::as_object_mut) {
            sessions.insert(base64(number), session);
        }
    }
    let path = format!("/_matrix/client/v3/room_keys/keys?version={version}");
    Call::put(path, Some(&account.access_token), json!({ "rooms": rooms }))
}

/// Looks up the keys of all devices of users.
pub(crate) fn query_call<'a, 'b>(
    account: &'a Account,
    users: impl Iterator<Item = &'b Account>,
) -> Call<'a> {
    let wanted: Map<String, Value> = users.map(|user| (user.user_id.clone(), json!([]))).collect();
    let body = json!({ "device_keys": wanted });
    Call::post("/_matrix/client/v3/keys/query", Some(&account.access_token), body)
}

/// What a sender of room keys sends: another ciphertext to each device.
pub(crate) fn messages(devices: &[Account]) -> Value {
    let mut messages = Map::new();
    for device in devices {
        let of_user = messages.entry(device.user_id.clone()).or_insert_with(|| json!({}));
        if let Some(of_user) = of_user.as_object_mut() {
            let ciphertext = json!({ "type": 1, "body": "C".repeat(CIPHERTEXT) });
            let content = json!({
                "algorithm": "m.olm.v1.curve25519-aes-sha2", "sender_key": base64(0),
                "ciphertext": { base64(1): ciphertext },
            });
            of_user.insert(device.device_id.clone(), content);
        }
    }
    json!({ "messages": messages })
}

/// Sends [`messages`].
pub(crate) fn send_to_device_call<'a>(
    account: &'a Account,
    txn: &str,
    messages: Value,
) -> Call<'a> {
    let path = format!("/_matrix/client/v3/sendToDevice/m.room.encrypted/{txn}");
    Call::put(path, Some(&account.access_token), messages)
}

fn device_keys(account: &Account) -> Value {
    let Account { user_id, device_id, .. } = account;
    json!({
        "user_id": user_id, "device_id": device_id,
        "algorithms": ["m.olm.v1.curve25519-aes-sha2", "m.megolm.v1.aes-sha2"],
        "keys": {
            format!("curve25519:{device_id}"): base64(0), format!("ed25519:{device_id}"): base64(1),
        },
        "signatures": signatures(account),
    })
}

fn signatures(Account { user_id, device_id, .. }: &Account) -> Value {
    json!({ &**user_id: { format!("ed25519:{device_id}"): "S".repeat(SIGNATURE) } })
}

/// A public key with this number, which is base64 as well.
fn base64(number: u64) -> String {
    format!("{number:0>KEY$}")
}
