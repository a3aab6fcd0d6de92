//! What the server does for end-to-end encryption: messages from device to device, and backups of room keys.

pub mod backup;
pub mod to_device;

pub use self::{backup::Backups, to_device::ToDevice};
