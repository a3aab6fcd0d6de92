//! Files in a local folder.
//!
//! Invariants: a file is written beside its place, made durable, and renamed; files are readable by the server's user
//! alone; no request waits for the disk on an async thread: what the system has in memory is copied there.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    mem,
    ops::Range,
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream};
#[cfg(target_os = "linux")]
use rustix::io::{ReadWriteFlags, preadv2};
use tokio::{
    runtime::Handle,
    task::{JoinHandle, spawn_blocking},
};

use super::{ByteStream, SHARDS, Store, UNFINISHED, Writing, shard_of};

/// How much is read at once, in bytes. A download holds two portions: one that is sent and one that is read meanwhile.
const PORTION: u64 = 256 * 1024;

/// A folder with a folder for each shard.
pub(super) struct Folder {
    path: PathBuf,
}

impl Folder {
    /// The folder, which is made if it is not there.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let make = |path: &Path| DirBuilder::new().recursive(true).mode(0o700).create(path);
        make(path)?;
        for shard in 0..SHARDS {
            make(&path.join(format!("{shard:02x}")))?;
        }
        File::open(path)?.sync_all()?;
        Ok(Self { path: path.to_owned() })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path.join(shard_of(name)).join(name)
    }
}

/// Runs what waits for the disk.
async fn on_a_thread<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    spawn_blocking(work).await.map_err(io::Error::other)?
}

impl Store for Folder {
    fn create<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Writing>>> {
        let place = self.file(name);
        let mut unfinished = place.clone().into_os_string();
        unfinished.push(UNFINISHED);
        let unfinished = PathBuf::from(unfinished);
        on_a_thread(move || {
            let file =
                OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
            let unfinished = Unfinished { path: Some(unfinished) };
            Ok(Box::new(WritingFile { place, file: Some(file), unfinished }) as Box<dyn Writing>)
        })
        .boxed()
    }

    fn open<'a>(
        &'a self,
        name: &'a str,
        range: Range<u64>,
    ) -> BoxFuture<'a, io::Result<ByteStream>> {
        let path = self.file(name);
        async move {
            let file = on_a_thread(move || File::open(path)).await?;
            let left = range.end.saturating_sub(range.start);
            let rest = Rest { file, at: range.start, left, buffers: Buffers::default() };
            Ok(stream::try_unfold(Next::Cached(rest), Next::read).boxed())
        }
        .boxed()
    }

    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<()>> {
        let path = self.file(name);
        on_a_thread(move || match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        })
        .boxed()
    }

    fn list(&self, shard: u8) -> BoxFuture<'_, io::Result<Vec<String>>> {
        let path = self.path.join(format!("{shard:02x}"));
        on_a_thread(move || {
            let mut names = Vec::new();
            for entry in fs::read_dir(path)? {
                names.extend(entry?.file_name().into_string());
            }
            Ok(names)
        })
        .boxed()
    }
}

/// How the next portion is read.
enum Next {
    /// On this thread, if it is in the memory of the system.
    Cached(Rest),
    /// On another thread, since one was not.
    Reading(Reading),
    End,
}

/// A portion that is being read, with what is read after it.
type Reading = JoinHandle<io::Result<(Bytes, Rest)>>;

impl Next {
    async fn read(self) -> io::Result<Option<(Bytes, Self)>> {
        let reading = match self {
            Self::Cached(rest) => match rest.cached() {
                Some(bytes) => return Ok(Some((bytes, Self::Cached(rest.behind_portion())))),
                None => read_on(rest),
            },
            Self::Reading(reading) => Some(reading),
            Self::End => None,
        };
        let Some(reading) = reading else { return Ok(None) };
        let (bytes, rest) = reading.await.map_err(io::Error::other)??;
        // The next one is read while this one is sent.
        Ok(Some((bytes, read_on(rest).map_or(Self::End, Self::Reading))))
    }
}

/// What is still to be read of a file.
struct Rest {
    file: File,
    at: u64,
    left: u64,
    buffers: Buffers,
}

/// Buffers that portions were read into and that are used again, so that their memory stays in the processor's cache.
#[derive(Clone, Default)]
struct Buffers(Arc<Mutex<Vec<Vec<u8>>>>);

/// A portion in a buffer, which is given back when it is dropped.
struct Portion {
    buffer: Vec<u8>,
    length: usize,
    buffers: Buffers,
}

impl Buffers {
    fn list(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsRef<[u8]> for Portion {
    fn as_ref(&self) -> &[u8] {
        self.buffer.get(..self.length).unwrap_or_default()
    }
}

impl Drop for Portion {
    fn drop(&mut self) {
        self.buffers.list().push(mem::take(&mut self.buffer));
    }
}

/// Begins to read the next portion on another thread; `None` at the end.
fn read_on(rest: Rest) -> Option<Reading> {
    let length = rest.portion();
    if length == 0 {
        return None;
    }
    Some(spawn_blocking(move || {
        let bytes = rest.fill(|portion| rest.file.read_exact_at(portion, rest.at))?;
        Ok((bytes, rest.behind_portion()))
    }))
}

impl Rest {
    /// The length of the next portion, in bytes.
    fn portion(&self) -> usize {
        usize::try_from(self.left.min(PORTION)).unwrap_or_default()
    }

    fn behind_portion(mut self) -> Self {
        let length = self.left.min(PORTION);
        self.at = self.at.saturating_add(length);
        self.left = self.left.saturating_sub(length);
        self
    }

    /// The next portion, if there is one and it can be had without waiting for the disk.
    fn cached(&self) -> Option<Bytes> {
        if self.left == 0 {
            return None;
        }
        self.fill(|portion| {
            let length = portion.len();
            match read_cached(&self.file, portion, self.at) {
                Some(read) if read == length => Ok(()),
                _ => Err(io::ErrorKind::WouldBlock.into()),
            }
        })
        .ok()
    }

    fn fill(&self, read: impl FnOnce(&mut [u8]) -> io::Result<()>) -> io::Result<Bytes> {
        let length = self.portion();
        let buffer = self.buffers.list().pop().unwrap_or_default();
        let mut portion = Portion { buffer, length, buffers: self.buffers.clone() };
        if portion.buffer.len() < length {
            portion.buffer.resize(length, 0);
        }
        read(portion.buffer.get_mut(..length).unwrap_or_default())?;
        Ok(Bytes::from_owner(portion))
    }
}

/// Reads what the system has of a file in memory.
#[cfg(target_os = "linux")]
fn read_cached(file: &File, into: &mut [u8], at: u64) -> Option<usize> {
    let flags = ReadWriteFlags::NOWAIT;
    preadv2(file, &mut [io::IoSliceMut::new(into)], at, flags).ok()
}

/// Nothing: the system cannot be asked.
#[cfg(not(target_os = "linux"))]
fn read_cached(_: &File, _: &mut [u8], _: u64) -> Option<usize> {
    None
}

struct WritingFile {
    place: PathBuf,
    /// `None` after a failure: its rest would not be what was to be written.
    file: Option<File>,
    unfinished: Unfinished,
}

impl Writing for WritingFile {
    fn write(&mut self, bytes: Bytes) -> BoxFuture<'_, io::Result<()>> {
        async move {
            let mut file = self.file.take().ok_or_else(broken)?;
            let file = on_a_thread(move || {
                file.write_all(&bytes)?;
                Ok(file)
            });
            self.file = Some(file.await?);
            Ok(())
        }
        .boxed()
    }

    fn finish(mut self: Box<Self>) -> BoxFuture<'static, io::Result<()>> {
        on_a_thread(move || {
            self.file.take().ok_or_else(broken)?.sync_all()?;
            if let Some(path) = &self.unfinished.path {
                fs::rename(path, &self.place)?;
            }
            self.unfinished.path = None;
            self.place.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
        })
        .boxed()
    }
}

fn broken() -> io::Error {
    io::Error::other("a write before has failed or was given up")
}

/// A file that is removed unless it is finished.
struct Unfinished {
    path: Option<PathBuf>,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let Some(path) = self.path.take() else { return };
        let remove = move || {
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(%error, "an unfinished upload is left for the sweep");
            }
        };
        // A large file takes a while to remove.
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(remove)),
            Err(_) => remove(),
        }
    }
}
