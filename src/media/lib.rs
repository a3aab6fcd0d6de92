//! Files that users upload, and their thumbnails. Knows no rooms.

mod check;
mod deletion;
mod download;
mod pending;
mod repository;
mod retention;
mod store;
mod sweep;
mod thumbnail;
mod upload;

pub use self::{
    check::check,
    deletion::Listed,
    download::Content,
    pending::Reserved,
    repository::{InUse, MediaRepository},
    store::{ByteStream, Store, Writing, folder},
    thumbnail::Wanted,
    upload::{Description, Upload, Uploader},
};
