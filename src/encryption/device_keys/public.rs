//! The keys of a user as other servers may see them.

use std::collections::BTreeMap;

use ruma::{
    OwnedDeviceId,
    encryption::{CrossSigningKey, DeviceKeys},
    serde::Raw,
};
use wick_core::{Error, Result};

use super::shown::Shown;

/// The keys of one user as other servers may see them.
#[derive(Debug)]
pub struct PublicKeys {
    /// The newest update that other servers were sent.
    pub stream_id: u64,
    /// By device.
    pub devices: BTreeMap<OwnedDeviceId, Raw<DeviceKeys>>,
    /// The display names of devices, also of those without keys; empty where other servers are not sent them.
    pub names: BTreeMap<OwnedDeviceId, String>,
    /// The master key.
    pub master: Option<Raw<CrossSigningKey>>,
    /// The self-signing key.
    pub self_signing: Option<Raw<CrossSigningKey>>,
}

impl PublicKeys {
    pub(super) fn new(
        shown: &Shown,
        names: BTreeMap<OwnedDeviceId, String>,
        stream_id: u64,
    ) -> Result<Self> {
        let devices = serde_json::from_str(shown.devices.get())
            .map_err(|error| Error::internal("the keys of devices cannot be read", error))?;
        Ok(Self {
            stream_id,
            devices,
            names,
            master: shown.master.clone().map(Raw::from_json),
            self_signing: shown.self_signing.clone().map(Raw::from_json),
        })
    }
}
