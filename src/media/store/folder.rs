//! Files in a local folder.
//!
//! Invariants: a file is written beside its place, made durable, and renamed; files are readable by the server's user
//! alone; no request waits for the disk on an async thread.

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
            Ok(stream::try_unfold(read_on(rest), |reading| async move {
                let Some(reading) = reading else { return Ok(None) };
                let (bytes, rest) = reading.await.map_err(io::Error::other)??;
                Ok(Some((bytes, read_on(rest))))
            })
            .boxed())
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

/// A portion that is being read, with what is read after it.
type Reading = JoinHandle<io::Result<(Bytes, Rest)>>;

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

/// Begins to read the next portion; `None` at the end.
fn read_on(mut rest: Rest) -> Option<Reading> {
    let length = rest.left.min(PORTION);
    if length == 0 {
        return None;
    }
    Some(spawn_blocking(move || {
        let bytes = rest.read(length)?;
        rest.at = rest.at.saturating_add(length);
        rest.left = rest.left.saturating_sub(length);
        Ok((bytes, rest))
    }))
}

impl Rest {
    fn read(&self, length: u64) -> io::Result<Bytes> {
        let length = usize::try_from(length).map_err(io::Error::other)?;
        let mut buffer = self.buffers.list().pop().unwrap_or_default();
        if buffer.len() < length {
            buffer.resize(length, 0);
        }
        let portion = buffer.get_mut(..length).unwrap_or_default();
        self.file.read_exact_at(portion, self.at)?;
        Ok(Bytes::from_owner(Portion { buffer, length, buffers: self.buffers.clone() }))
    }
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
