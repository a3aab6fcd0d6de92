//! What is known of the device lists of users of other servers, and what other servers were sent of local users' lists.
//!
//! Invariants: of a user with a row in [`REMOTE_LIST_BY_USER`], all devices and cross-signing keys are in
//! [`KEYS_BY_DEVICE`](super::device_keys::KEYS_BY_DEVICE) and
//! [`CROSS_SIGNING_KEY_BY_USAGE`](super::cross_signing::CROSS_SIGNING_KEY_BY_USAGE); a list to be fetched again has
//! exactly one row in [`REFETCH_BY_TIME`].

use ruma::{OwnedDeviceId, OwnedServerName};
use serde::{Deserialize, Serialize};
use wick_core::{Position, ShortUserId, Timestamp};

use crate::postcard_value;

/// A stored device list of a user of another server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteList {
    /// The list was fetched after this position. It is worth something to users who shared a room with its user ever since.
    pub since: Position,
    /// The newest update in it; `None` if the server did not name it.
    pub stream_id: Option<u64>,
    /// When it is fetched again; `None` while no update is missing.
    pub refetch_at: Option<Timestamp>,
    /// How often that failed in a row.
    pub failures: u32,
}

/// The device list of a local user as updates have shown it to other servers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnnouncedList {
    /// The newest update.
    pub stream_id: u64,
    /// The devices with digests of their keys, in the order of their ids.
    pub devices: Vec<(OwnedDeviceId, u64)>,
    /// A digest of the master and self-signing keys; zero if there are none.
    pub cross_signing: u64,
}

postcard_value!(RemoteList, version = 1);
postcard_value!(AnnouncedList, version = 1);

tables! {
    /// The device lists of users of other servers that are stored. Written by `POST /keys/query`, by
    /// `m.device_list_update` and when a list is fetched again; deleted when no room is shared with the user any more;
    /// can be fetched again.
    REMOTE_LIST_BY_USER: ShortUserId => RemoteList, Random;

    /// The lists that are to be fetched again, by the time of the next attempt. Written with [`REMOTE_LIST_BY_USER`], from
    /// which it can be rebuilt.
    REFETCH_BY_TIME: (Timestamp, ShortUserId) => (), Sequential;

    /// What other servers were sent of the device lists of local users. Written with the updates that are queued for
    /// them; a lost row has all of a list sent again.
    ANNOUNCED_LIST_BY_USER: ShortUserId => AnnouncedList, Random;

    /// When messages from device to device of other servers were received, by server and message id. Written with the
    /// messages; read to deliver none of them twice; deleted some days later.
    RECEIVED_BY_MESSAGE: (OwnedServerName, String) => Timestamp, Random;

    /// The same messages by their time. Written with [`RECEIVED_BY_MESSAGE`], from which it can be rebuilt; read by what
    /// deletes old ones.
    RECEIVED_MESSAGE_BY_TIME: (Timestamp, OwnedServerName, String) => (), Sequential;
}
