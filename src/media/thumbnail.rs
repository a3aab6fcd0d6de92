//! Thumbnails: made on the worker threads when they are asked for, in the configured sizes, and kept.
//!
//! Invariants: a thumbnail is made of a file of bounded size with a bounded number of pixels, both known before anything is
//! decoded; what all thumbnails that are being made take of memory is bounded; no thread waits for a file; a file has at most
//! one thumbnail per size, method and animation; thumbnails go with their file.

mod memory;
mod render;

use std::{hash::Hash, io, sync::Arc};

use bytes::Bytes;
use futures_util::TryStreamExt;
use wick_core::{
    Error, Result,
    config::{ThumbnailMethod, ThumbnailSize},
};
use wick_database::{
    Batch, Read,
    schema::media::{FILE_BY_HASH, HASH_BY_FILE_NAME, StoredThumbnail, THUMBNAIL_BY_FILE},
};
use wick_runtime::WorkerTurn;

pub(crate) use self::{memory::Memory, render::measure};
use self::{memory::Taken, render::Rendered};
use crate::{Content, MediaRepository, download::not_found, store};

/// The largest file that a thumbnail is made of, in bytes: it is held in memory.
const MAX_SOURCE: u64 = 32 << 20;

/// A thumbnail that is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// The width in pixels.
    pub width: u32,
    /// The height in pixels.
    pub height: u32,
    /// How the size is reached.
    pub method: ThumbnailMethod,
    /// Whether it may be animated.
    pub animated: bool,
}

/// The key of a thumbnail in its table.
type Key = ([u8; 32], u32, u32, u8, bool);

/// A file that is held in memory.
struct Source {
    bytes: Vec<u8>,
    _space: Taken,
}

impl MediaRepository {
    /// A thumbnail of a content that is at least as large as wanted, unless the content is smaller. The work counts as that
    /// of `user`, or of an address.
    ///
    /// # Errors
    /// `M_UNKNOWN`, 400, if the content is no image that can be decoded; `M_TOO_LARGE` if it is too large an image;
    /// `M_LIMIT_EXCEEDED` if too many wait for the worker threads.
    pub async fn thumbnail(
        self: &Arc<Self>,
        user: &impl Hash,
        content: Content,
        wanted: Wanted,
    ) -> Result<Content> {
        let media = &self.resources.config.media;
        // Beyond the largest size it is the image itself.
        let whole = ThumbnailSize { width: u32::MAX, height: u32::MAX, method: wanted.method };
        let size = choose(&media.thumbnails, &wanted).unwrap_or(whole);
        let animated = wanted.animated;
        let key = (content.file, size.width, size.height, method_key(size.method), animated);
        if let Some(row) = self.resources.database.published().get(&THUMBNAIL_BY_FILE, &key)? {
            return Ok(stored(content, &key, row));
        }
        if content.size > MAX_SOURCE {
            return Err(Error::too_large("the file is too large for thumbnails"));
        }
        let turn = self.resources.workers.turn(user).await?;
        // The same may have been asked for by a job before this one.
        if let Some(row) = self.resources.database.published().get(&THUMBNAIL_BY_FILE, &key)? {
            return Ok(stored(content, &key, row));
        }
        let rendered = self.render(&turn, &content, size, animated).await?;
        let repository = Arc::clone(self);
        let keep = async move { repository.keep(&key, rendered).await };
        let row = self.supervisor.complete("thumbnail", keep).await?;
        Ok(stored(content, &key, row))
    }

    /// Makes a thumbnail. Jobs that have begun hold their space until they end, even if the request is dropped.
    async fn render(
        &self,
        turn: &WorkerTurn,
        content: &Content,
        size: ThumbnailSize,
        animated: bool,
    ) -> Result<Rendered> {
        let max_pixels = self.max_pixels();
        let space = self.memory.file(content.size).await?;
        let source = Arc::new(Source { bytes: self.whole(content).await?, _space: space });
        let measured = Arc::clone(&source);
        let image = turn.run(move || measure(&measured.bytes, max_pixels)).await?;
        let space = self.memory.image(image.decoded_bytes).await?;
        let render = move || {
            let rendered = render::render(&source.bytes, &image, size, animated);
            drop(space);
            rendered
        };
        turn.run(render).await
    }

    async fn whole(&self, content: &Content) -> Result<Vec<u8>> {
        let stream = self.open(content, 0..content.size).await?;
        let whole = Vec::with_capacity(usize::try_from(content.size).unwrap_or_default());
        let append = |mut whole: Vec<u8>, bytes: Bytes| async move {
            whole.extend_from_slice(&bytes);
            Ok::<_, io::Error>(whole)
        };
        stream.try_fold(whole, append).await.map_err(store::failed("read an image"))
    }

    /// Stores a thumbnail with its row; returns the row, which is that of another one if that was stored meanwhile.
    async fn keep(&self, key: &Key, rendered: Rendered) -> Result<StoredThumbnail> {
        let (name, size, content_type) = match rendered {
            Rendered::Original { content_type } => (None, 0, content_type),
            Rendered::Made { bytes, content_type } => {
                let name = store::new_name(&*self.resources.random, self.now());
                let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                self.write_file(&name, bytes.into()).await?;
                (Some(name), size, content_type)
            }
        };
        let row = StoredThumbnail { name, size, content_type: content_type.to_owned() };
        let result = self.resources.change(|batch| note(batch, key, &row)).await;
        let is_kept = match &result {
            Ok(kept) => kept.name == row.name,
            // After another error the row may have been written: the sweep finds out.
            Err(error) => error.kind().is_none(),
        };
        if let (false, Some(name)) = (is_kept, row.name) {
            self.discard(&[name]).await;
        }
        result
    }

    async fn write_file(&self, name: &str, bytes: Bytes) -> Result<()> {
        let failed = store::failed("store a thumbnail");
        let mut writing = self.store.create(name).await.map_err(&failed)?;
        writing.write(bytes).await.map_err(&failed)?;
        writing.finish().await.map_err(failed)
    }
}

/// Adds the row of a thumbnail, unless there is one, which is returned then.
fn note(batch: &mut Batch, key: &Key, row: &StoredThumbnail) -> Result<StoredThumbnail> {
    // A file that is deleted meanwhile has no thumbnails.
    batch.read_for_update(&FILE_BY_HASH, &key.0)?.ok_or_else(not_found)?;
    if let Some(other) = batch.read_for_update(&THUMBNAIL_BY_FILE, key)? {
        return Ok(other);
    }
    batch.put(&THUMBNAIL_BY_FILE, key, row);
    if let Some(name) = &row.name {
        batch.put(&HASH_BY_FILE_NAME, name, &key.0);
    }
    Ok(row.clone())
}

/// The thumbnail of a row.
fn stored(content: Content, key: &Key, row: StoredThumbnail) -> Content {
    let content_type = Some(row.content_type);
    let Some(name) = row.name else { return Content { content_type, ..content } };
    let (_, width, height, method, animated) = *key;
    let tag = format!("{}-{width}-{height}-{method}-{animated}", content.tag);
    Content { size: row.size, content_type, file_name: None, tag, name, ..content }
}

/// The smallest of the sizes that is at least as large as wanted. One of the same method comes first.
fn choose(sizes: &[ThumbnailSize], wanted: &Wanted) -> Option<ThumbnailSize> {
    let suits = |size: &&ThumbnailSize| size.width >= wanted.width && size.height >= wanted.height;
    let order = |size: &&ThumbnailSize| {
        (size.method != wanted.method, u64::from(size.width) * u64::from(size.height))
    };
    let chosen = sizes.iter().filter(suits).min_by_key(order)?;
    Some(ThumbnailSize { method: wanted.method, ..*chosen })
}

fn method_key(method: ThumbnailMethod) -> u8 {
    match method {
        ThumbnailMethod::Crop => 0,
        ThumbnailMethod::Scale => 1,
    }
}

/// The thumbnail of an image; `None` if the image is small enough itself.
#[cfg(test)]
pub(crate) fn made_of(
    file: &[u8],
    size: ThumbnailSize,
    animated: bool,
    max_pixels: u64,
) -> Result<Option<Vec<u8>>> {
    let image = measure(file, max_pixels)?;
    Ok(match render::render(file, &image, size, animated)? {
        Rendered::Original { .. } => None,
        Rendered::Made { bytes, .. } => Some(bytes),
    })
}

#[cfg(test)]
mod tests {
    use wick_core::Config;

    use super::*;

    #[test]
    fn the_smallest_size_that_is_not_smaller_than_wanted_is_chosen() {
        let sizes = Config::default().media.thumbnails;
        let chosen = |width, height, method| {
            let wanted = Wanted { width, height, method, animated: false };
            choose(&sizes, &wanted).map(|size| (size.width, size.height, size.method))
        };
        let (crop, scale) = (ThumbnailMethod::Crop, ThumbnailMethod::Scale);
        assert_eq!(chosen(20, 20, crop), Some((32, 32, crop)));
        assert_eq!(chosen(33, 20, crop), Some((96, 96, crop)));
        assert_eq!(chosen(320, 240, scale), Some((320, 240, scale)));
        assert_eq!(chosen(20, 241, scale), Some((640, 480, scale)));
        assert_eq!(chosen(100, 100, crop), Some((320, 240, crop)));
        assert_eq!(chosen(801, 1, scale), None);
    }
}
