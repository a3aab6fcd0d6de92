//! A disk that is full: uploads are refused, nothing is half stored, and the server goes on.

use std::{
    io,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use http::StatusCode;
use tempfile::TempDir;
use wick_harness::{Options, TestServer};
use wick_media::{ByteStream, Store, Writing};

use super::{V1, download, errcode, get, must_upload, pictures, settle_in, upload};

/// A folder on a disk with so many bytes left. Each file takes a byte besides its own.
struct Disk {
    folder: Arc<dyn Store>,
    left: Arc<AtomicU64>,
}

fn take(left: &AtomicU64, bytes: usize) -> io::Result<()> {
    let bytes = u64::try_from(bytes).unwrap();
    let taken =
        left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(bytes));
    taken.map(drop).map_err(|_| io::ErrorKind::StorageFull.into())
}

impl Store for Disk {
    fn create<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Writing>>> {
        async move {
            take(&self.left, 1)?;
            let file = self.folder.create(name).await?;
            Ok(Box::new(File { file, left: Arc::clone(&self.left) }) as Box<dyn Writing>)
        }
        .boxed()
    }

    fn open<'a>(
        &'a self,
        name: &'a str,
        range: Range<u64>,
    ) -> BoxFuture<'a, io::Result<ByteStream>> {
        self.folder.open(name, range)
    }

    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<()>> {
        self.folder.delete(name)
    }

    fn list(&self, shard: u8) -> BoxFuture<'_, io::Result<Vec<String>>> {
        self.folder.list(shard)
    }
}

struct File {
    file: Box<dyn Writing>,
    left: Arc<AtomicU64>,
}

impl Writing for File {
    fn write(&mut self, bytes: Bytes) -> BoxFuture<'_, io::Result<()>> {
        match take(&self.left, bytes.len()) {
            Ok(()) => self.file.write(bytes),
            Err(error) => async { Err(error) }.boxed(),
        }
    }

    fn finish(self: Box<Self>) -> BoxFuture<'static, io::Result<()>> {
        match take(&self.left, 1) {
            Ok(()) => self.file.finish(),
            Err(error) => async { Err(error) }.boxed(),
        }
    }
}

async fn server() -> (TestServer, TempDir, Arc<AtomicU64>) {
    let folder = tempfile::tempdir().unwrap();
    let left = Arc::new(AtomicU64::new(u64::MAX));
    let disk = Disk { folder: wick_media::folder(folder.path()).unwrap(), left: Arc::clone(&left) };
    let options = Options { media_store: Some(Arc::new(disk)), ..Options::lenient() };
    (TestServer::start_from(options).await, folder, left)
}

#[tokio::test]
async fn an_upload_to_a_full_disk_is_refused_and_leaves_nothing() {
    let (server, folder, left) = server().await;
    let user = server.register("alice").await;
    let there = must_upload(&server, &user, "a/b", b"there").await;
    let file = vec![7; 300_000];
    // At its begin, in the first portion, in a later one, when it is made durable.
    for space in [0, 1, 200_000, 300_001] {
        left.store(space, Ordering::SeqCst);
        let answer = upload(&server, &user, "a/b", &file).await;
        let expected = (StatusCode::INSUFFICIENT_STORAGE, "M_UNKNOWN");
        assert_eq!((answer.status, errcode(&answer)), expected, "{space}");
        settle_in(folder.path(), 1).await;
        assert_eq!(
            server.services().media.list(&wick_media::Which::Own, None, 10).unwrap().len(),
            1
        );
        assert_eq!(download(&server, &user, &there).await.bytes, "there");
    }
    let short = server.services().users.get(&user.user_id).unwrap().unwrap().0;
    assert_eq!(server.services().media.usage(short).unwrap(), 5);
    left.store(u64::MAX, Ordering::SeqCst);
    let media = must_upload(&server, &user, "a/b", &file).await;
    assert_eq!(download(&server, &user, &media).await.bytes, file);
}

#[tokio::test]
async fn a_thumbnail_that_cannot_be_kept_is_refused_and_can_be_made_later() {
    let (server, folder, left) = server().await;
    let user = server.register("alice").await;
    let picture = pictures::png(200, 200);
    let media = must_upload(&server, &user, "image/png", &picture).await;
    let path = format!("{V1}/thumbnail/{media}?width=32&height=32&method=crop");
    for space in [0, 1] {
        left.store(space, Ordering::SeqCst);
        let answer = get(&server, &user, &path).await;
        let expected = (StatusCode::INSUFFICIENT_STORAGE, "M_UNKNOWN");
        assert_eq!((answer.status, errcode(&answer)), expected, "{space}");
        settle_in(folder.path(), 1).await;
        assert_eq!(download(&server, &user, &media).await.bytes, picture);
    }
    left.store(u64::MAX, Ordering::SeqCst);
    assert_eq!(get(&server, &user, &path).await.status, StatusCode::OK);
}
