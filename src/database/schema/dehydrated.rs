//! Dehydrated devices (MSC3814).

use ruma::OwnedDeviceId;
use serde::{Deserialize, Serialize};
use wick_core::ShortUserId;

use crate::postcard_value;

/// A device that receives messages while its user has no other device.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DehydratedDevice {
    /// Its id.
    pub device_id: OwnedDeviceId,
    /// The device itself as JSON text, encrypted by the client.
    pub device_data: String,
}

postcard_value!(DehydratedDevice, version = 1);

tables! {
    /// The dehydrated device of each user that has one. Written and read by `/dehydrated_device`; deleted
    /// with the device, which has a row among the devices like any other; rebuilt from nothing else.
    DEHYDRATED_DEVICE_BY_USER: ShortUserId => DehydratedDevice, Random;
}
