//! What servers add to the keys of a device: its display name.
//!
//! Invariant: a name of another server's device is bounded.

use ruma::{encryption::DeviceKeys, serde::Raw};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Bytes of the display name of a device of another server; a longer one is left out.
const MAX_NAME_BYTES: usize = 1024;

/// `unsigned` of the keys of a device.
#[derive(Default, Deserialize, Serialize)]
pub(crate) struct Unsigned {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) device_display_name: Option<String>,
}

/// The display name that is stored with the keys of a device of another server.
pub(crate) fn display_name(keys: &RawValue) -> Option<String> {
    #[derive(Deserialize)]
    struct Keys {
        #[serde(default)]
        unsigned: Unsigned,
    }
    let keys = serde_json::from_str::<Keys>(keys.get()).ok()?;
    keys.unsigned.device_display_name
}

/// The display name that another server sends of a device: beside its keys, or with them.
pub(crate) fn sent_name(beside: Option<String>, keys: &Raw<DeviceKeys>) -> Option<String> {
    let name = beside.or_else(|| display_name(keys.json()));
    name.filter(|name| name.len() <= MAX_NAME_BYTES)
}
