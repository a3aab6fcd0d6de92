//! Where the bytes of files are.
//!
//! Invariants: a file is written once, under a name that no other file ever has, and is whole and durable before its
//! name is used; what is given up before that leaves at most a file without a row, which the sweep removes.

mod folder;
mod objects;

use std::{io, ops::Range, path::Path, sync::Arc};

use bytes::Bytes;
use futures_util::{future::BoxFuture, stream::BoxStream};
use wick_core::{Config, Error, Random, Result, Timestamp};
use wick_runtime::Supervisor;

use self::{folder::Folder, objects::Objects};

/// The bytes of a file, in portions.
pub type ByteStream = BoxStream<'static, io::Result<Bytes>>;

/// How many parts the names of files are divided into, by how they begin.
pub(crate) const SHARDS: u16 = 256;

/// Bytes of a name that are random.
const RANDOM_BYTES: usize = 12;

/// What an unfinished file has after its name.
const UNFINISHED: &str = ".new";

/// Keeps files.
pub trait Store: Send + Sync {
    /// Begins a file.
    fn create<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Writing>>>;

    /// A part of a file.
    fn open<'a>(
        &'a self,
        name: &'a str,
        range: Range<u64>,
    ) -> BoxFuture<'a, io::Result<ByteStream>>;

    /// Deletes a file; does nothing if it is not there.
    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<()>>;

    /// The names of all files that begin with this byte in hexadecimal digits, unfinished ones included.
    fn list(&self, shard: u8) -> BoxFuture<'_, io::Result<Vec<String>>>;
}

/// A file that is being written. It is given up if it is dropped unfinished.
pub trait Writing: Send {
    /// Appends.
    fn write(&mut self, bytes: Bytes) -> BoxFuture<'_, io::Result<()>>;

    /// Completes the file. It is durable and readable from then on.
    fn finish(self: Box<Self>) -> BoxFuture<'static, io::Result<()>>;
}

/// The store that is configured.
///
/// # Errors
/// If the folder cannot be made, or the object store is not sensibly configured.
pub(crate) fn open(config: &Config, supervisor: &Arc<Supervisor>) -> Result<Arc<dyn Store>> {
    if config.media.s3.bucket.is_empty() {
        return folder(&config.media_folder()).map_err(failed("the media folder"));
    }
    Ok(Arc::new(Objects::open(&config.media.s3, Arc::clone(supervisor))?))
}

/// The store of files in a local folder, which is made if it is not there.
///
/// # Errors
/// If it cannot be made.
pub fn folder(path: &Path) -> io::Result<Arc<dyn Store>> {
    Ok(Arc::new(Folder::open(path)?))
}

/// A new name. It contains the time of its creation, so that the sweep leaves young files alone.
pub(crate) fn new_name(random: &dyn Random, now: Timestamp) -> String {
    let mut bytes = [0; RANDOM_BYTES];
    random.fill(&mut bytes);
    let random: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{random}-{:x}", now.0)
}

/// When a name was made; `None` if it is none of ours.
pub(crate) fn created(name: &str) -> Option<Timestamp> {
    let name = name.strip_suffix(UNFINISHED).unwrap_or(name);
    let (random, created) = name.split_once('-')?;
    let is_ours = random.len() == 2 * RANDOM_BYTES && is_hexadecimal(random);
    is_ours.then(|| u64::from_str_radix(created, 16).ok().map(Timestamp)).flatten()
}

fn is_hexadecimal(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The folder of a file.
fn shard_of(name: &str) -> &str {
    name.get(..2).unwrap_or("00")
}

/// An error of the store as the server's. A full disk is 507 `M_UNKNOWN`: an administrator has to act, but nothing is
/// broken.
pub(crate) fn failed(context: &'static str) -> impl Fn(io::Error) -> Error {
    move |error| match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            tracing::error!(context, %error, "there is no space left for media");
            let kind = ruma::api::error::ErrorKind::Unknown;
            Error::refused_with(507, kind, "the server has no space left for media")
        }
        _ => Error::internal(context, error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Ones;

    impl Random for Ones {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(0x1f);
        }
    }

    #[test]
    fn a_name_says_when_it_was_made_and_a_foreign_one_does_not() {
        let name = new_name(&Ones, Timestamp(1_790_000_000_000));
        assert_eq!(created(&name), Some(Timestamp(1_790_000_000_000)));
        assert_eq!(created(&format!("{name}.new")), created(&name));
        assert_eq!(shard_of(&name), "1f");
        for foreign in ["", "a", "lost+found", "0123-ab", "zz1f1f1f1f1f1f1f1f1f1f1f-ff", ".new"] {
            assert_eq!(created(foreign), None, "{foreign}");
        }
    }
}
