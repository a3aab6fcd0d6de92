//! What clients keep on the server for themselves: account data, filters, pushers.

use ruma::OwnedDeviceId;
use serde::{Deserialize, Serialize};
use wick_core::{Position, ShortRoomId, ShortUserId, Timestamp};

use crate::postcard_value;

/// One type of account data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountDatum {
    /// When it was last changed.
    pub position: Position,
    /// The content as JSON text; `None` once it was deleted. The row stays, so that it is in the next sync.
    pub content: Option<String>,
}

/// Which piece of account data changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountDataName {
    /// The room it is about; `None` for global account data.
    pub room: Option<ShortRoomId>,
    /// Its type.
    pub event_type: String,
}

/// A pusher as its client set it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredPusher {
    /// The device that set it and with which it ends.
    pub device_id: OwnedDeviceId,
    /// The pusher in the specification's JSON.
    pub json: String,
    /// Whether notifications are sent to it (MSC3881).
    pub is_enabled: bool,
}

/// A [`StoredPusher`] of the first version, which could not be disabled.
#[derive(Serialize, Deserialize)]
struct FirstStoredPusher {
    device_id: OwnedDeviceId,
    json: String,
}

impl From<FirstStoredPusher> for StoredPusher {
    fn from(FirstStoredPusher { device_id, json }: FirstStoredPusher) -> Self {
        Self { device_id, json, is_enabled: true }
    }
}

/// How much account data a user has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountDataTotal {
    /// How many rows, deleted ones too.
    pub rows: u64,
    /// How many bytes their types and contents have.
    pub bytes: u64,
}

postcard_value!(AccountDataTotal, version = 1);
postcard_value!(AccountDatum, version = 1);
postcard_value!(AccountDataName, version = 1);
postcard_value!(StoredPusher, version = 2, older = [1 => FirstStoredPusher]);

tables! {
    /// Account data by user, room (or none) and type. Written by clients, by read markers and by push
    /// rules; read by sync; rebuilt from nothing else.
    ACCOUNT_DATA_BY_TYPE: (ShortUserId, Option<ShortRoomId>, String) => AccountDatum, Random, wakes_user;

    /// The newest change of each piece of account data, in stream order. Written with
    /// [`ACCOUNT_DATA_BY_TYPE`], from which it can be rebuilt; read by sync.
    ACCOUNT_DATA_CHANGE_BY_POSITION: (ShortUserId, Position) => AccountDataName, Sequential;

    /// How much of it a user has. Written with [`ACCOUNT_DATA_BY_TYPE`], from which it is rebuilt where it is
    /// missing; read when account data is written.
    TOTAL_BY_ACCOUNT_DATA_OWNER: ShortUserId => AccountDataTotal, Random;

    /// Filters as canonical JSON text, by user and id. Written by `POST /filter`; read by sync and
    /// `/messages`; the oldest is removed when a user has too many; rebuilt from nothing else.
    FILTER_BY_ID: (ShortUserId, String) => String, Random;

    /// The ids of a user's filters, the oldest first. Written with [`FILTER_BY_ID`]; read when one is made.
    FILTER_BY_CREATION: (ShortUserId, Timestamp, String) => (), Random;

    /// Pushers by user, app id and push key. Written by `POST /pushers/set` and by what ends a device;
    /// read by `GET /pushers` and by `push`; rebuilt from nothing else.
    PUSHER_BY_ID: (ShortUserId, String, String) => StoredPusher, Random;

    /// The users who have a pusher with an app id and push key. Written with [`PUSHER_BY_ID`], from
    /// which it can be rebuilt; read when one user's pusher takes the place of another's.
    USER_BY_PUSHER: (String, String, ShortUserId) => (), Random;
}
