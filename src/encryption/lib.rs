//! What the server does for end-to-end encryption: public keys, device lists, messages from device to device, and
//! backups of room keys. It sees neither private keys nor plaintext.

mod announcements;
pub mod backup;
pub mod cross_signing;
pub mod dehydrated;
mod device_events;
pub mod device_keys;
pub mod device_lists;
mod remote_lists;
mod signed_json;
pub mod to_device;

pub use self::{
    backup::Backups, cross_signing::CrossSigning, dehydrated::DehydratedDevices,
    device_events::DeviceEvents, device_keys::DeviceKeys, remote_lists::RemoteLists,
    to_device::ToDevice,
};
