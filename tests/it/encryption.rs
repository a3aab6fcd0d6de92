//! The server's side of end-to-end encryption, over HTTP.

mod backups;
mod claims;
mod cross_signing;
mod dehydrated;
mod device_keys;
mod device_lists;
mod removed_devices;
mod restored;
pub(crate) mod signer;
mod to_device;
