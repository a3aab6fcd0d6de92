//! Files in an S3-compatible object store.
//!
//! Invariant: an upload that is given up is aborted; where the server crashes before that, the bucket's own rule for
//! incomplete multipart uploads removes it.

use std::{io, ops::Range, sync::Arc};

use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt, StreamExt, TryStreamExt, future::BoxFuture};
use object_store::{
    Error as ObjectError, GetOptions, MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload,
    aws::{AmazonS3, AmazonS3Builder},
    path::Path,
};
use wick_core::{Error, Result, config};
use wick_runtime::Supervisor;

use super::{ByteStream, Store, Writing, shard_of};

/// The least that S3 takes as a part which is not the last, in bytes.
const PART: usize = 5 << 20;

/// A bucket.
pub(super) struct Objects {
    bucket: AmazonS3,
    supervisor: Arc<Supervisor>,
}

impl Objects {
    /// The bucket as configured. Nothing is asked of it yet.
    pub(super) fn open(config: &config::S3, supervisor: Arc<Supervisor>) -> Result<Self> {
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&config.bucket)
            .with_region(&config.region)
            .with_access_key_id(&config.access_key_id)
            .with_secret_access_key(config.secret_access_key.reveal().unwrap_or_default());
        if !config.endpoint.is_empty() {
            builder = builder
                .with_endpoint(&config.endpoint)
                .with_allow_http(config.endpoint.starts_with("http://"));
        }
        let bucket = builder.build().map_err(|error| Error::internal("media.s3", error))?;
        Ok(Self { bucket, supervisor })
    }
}

fn path(name: &str) -> Path {
    Path::from_iter([shard_of(name), name])
}

fn io_error(error: ObjectError) -> io::Error {
    match error {
        ObjectError::NotFound { .. } => io::Error::new(io::ErrorKind::NotFound, error),
        error => io::Error::other(error),
    }
}

impl Store for Objects {
    fn create<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Writing>>> {
        async move {
            let upload = self.bucket.put_multipart(&path(name)).await.map_err(io_error)?;
            let writing = WritingObject {
                upload: Some(upload),
                part: BytesMut::new(),
                supervisor: Arc::clone(&self.supervisor),
            };
            Ok(Box::new(writing) as Box<dyn Writing>)
        }
        .boxed()
    }

    fn open<'a>(
        &'a self,
        name: &'a str,
        range: Range<u64>,
    ) -> BoxFuture<'a, io::Result<ByteStream>> {
        async move {
            if range.is_empty() {
                return Ok(futures_util::stream::empty().boxed());
            }
            let options = GetOptions::new().with_range(Some(range));
            let object = self.bucket.get_opts(&path(name), options).await.map_err(io_error)?;
            Ok(object.into_stream().map_err(io_error).boxed())
        }
        .boxed()
    }

    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<()>> {
        async move {
            match self.bucket.delete(&path(name)).await {
                Ok(()) | Err(ObjectError::NotFound { .. }) => Ok(()),
                Err(error) => Err(io_error(error)),
            }
        }
        .boxed()
    }

    fn list(&self, shard: u8) -> BoxFuture<'_, io::Result<Vec<String>>> {
        async move {
            let shard = Path::from(format!("{shard:02x}"));
            let objects = self.bucket.list(Some(&shard)).map_err(io_error);
            let name = |path: Path| path.filename().map(str::to_owned);
            objects.try_filter_map(async |object| Ok(name(object.location))).try_collect().await
        }
        .boxed()
    }
}

struct WritingObject {
    upload: Option<Box<dyn MultipartUpload>>,
    part: BytesMut,
    supervisor: Arc<Supervisor>,
}

impl WritingObject {
    async fn send(&mut self) -> io::Result<()> {
        let part = PutPayload::from(self.part.split().freeze());
        match &mut self.upload {
            Some(upload) => upload.put_part(part).await.map_err(io_error),
            None => Err(io::Error::other("the upload is over")),
        }
    }
}

impl Writing for WritingObject {
    fn write(&mut self, bytes: Bytes) -> BoxFuture<'_, io::Result<()>> {
        async move {
            self.part.extend_from_slice(&bytes);
            if self.part.len() >= PART { self.send().await } else { Ok(()) }
        }
        .boxed()
    }

    fn finish(mut self: Box<Self>) -> BoxFuture<'static, io::Result<()>> {
        async move {
            self.send().await?;
            if let Some(upload) = &mut self.upload {
                upload.complete().await.map_err(io_error)?;
            }
            self.upload = None;
            Ok(())
        }
        .boxed()
    }
}

impl Drop for WritingObject {
    fn drop(&mut self) {
        if let Some(mut upload) = self.upload.take() {
            self.supervisor.spawn_once("abort of an upload", async move {
                if let Err(error) = upload.abort().await {
                    tracing::warn!(%error, "an unfinished upload is left in the object store");
                }
            });
        }
    }
}
