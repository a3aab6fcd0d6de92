//! Files that users upload and those of other servers, their thumbnails, and previews of pages. Knows no rooms.

mod check;
mod deletion;
mod download;
#[cfg(test)]
mod fuzz;
mod in_progress;
mod kind;
mod pending;
mod preview;
mod receive;
mod remote;
mod repository;
mod retention;
mod store;
mod sweep;
mod thumbnail;
mod upload;

pub use self::{
    check::check,
    deletion::{Action, Listed, MediaName, Which},
    download::Content,
    pending::Reserved,
    preview::{Client, Previews},
    repository::{InUse, MediaRepository},
    store::{ByteStream, Store, Writing, folder},
    thumbnail::Wanted,
    upload::{Description, Upload, Uploader},
};
