//! The previews that are kept.
//!
//! Invariant: there are no more than configured; the one that expires first goes first.

use wick_core::{Result, Timestamp};
use wick_database::{
    Batch, Range, Read,
    schema::previews::{PREVIEW_BY_EXPIRY, PREVIEW_BY_URL, PREVIEW_TOTAL, Preview, UrlHash},
};

use crate::{Description, MediaRepository, Upload, deletion, kind::Own};

/// How many previews one batch removes.
const PORTION: usize = 100;

impl MediaRepository {
    /// The preview of a URL, if one is kept that has not expired.
    pub(super) fn kept_preview(&self, key: &UrlHash) -> Result<Option<String>> {
        let kept = self.resources.database.published().get(&PREVIEW_BY_URL, key)?;
        Ok(kept.filter(|kept| kept.expires > self.now()).map(|kept| kept.json))
    }

    /// Keeps a preview without an image.
    pub(super) async fn keep_preview(&self, key: &UrlHash, json: &str) -> Result<()> {
        let preview = self.new_preview(json, None);
        let max = self.max_kept();
        let files = self.resources.change(|batch| put(batch, key, &preview, max)).await?;
        self.discard(&files).await;
        Ok(())
    }

    /// Keeps a preview with the image that was uploaded for it.
    pub(super) async fn keep_preview_with(
        &self,
        key: &UrlHash,
        json: &str,
        (upload, description): (Upload, Description),
    ) -> Result<()> {
        let preview = self.new_preview(json, Some(upload.media_id().to_owned()));
        let max = self.max_kept();
        let keep = |batch: &mut Batch| put(batch, key, &preview, max);
        let (_, files) = upload.complete(description, keep).await?;
        self.discard(&files).await;
        Ok(())
    }

    fn new_preview(&self, json: &str, image: Option<String>) -> Preview {
        let lifetime = self.resources.config.previews.lifetime.0;
        Preview { json: json.to_owned(), image, expires: self.now().after(lifetime) }
    }

    fn max_kept(&self) -> u64 {
        u64::from(self.resources.config.previews.max_kept)
    }

    /// Removes previews that have expired, with their images.
    pub(crate) async fn remove_expired_previews(&self) -> Result<()> {
        let now = self.now();
        loop {
            let (removed, files) = self
                .resources
                .change(|batch| {
                    let mut files = Vec::new();
                    let expired = first(batch, PORTION)?;
                    let expired = expired.into_iter().filter(|(expires, _)| *expires <= now);
                    let mut removed = 0_usize;
                    for (_, key) in expired {
                        remove(batch, &key, &mut files)?;
                        removed = removed.saturating_add(1);
                    }
                    Ok((removed, files))
                })
                .await?;
            self.discard(&files).await;
            if removed < PORTION {
                return Ok(());
            }
        }
    }
}

/// The keys of the previews that expire first.
fn first(batch: &Batch, most: usize) -> Result<Vec<(Timestamp, UrlHash)>> {
    let keys = batch.scan(&PREVIEW_BY_EXPIRY, Range::all()).keys().take(most);
    Ok(keys.collect::<Result<_, _>>()?)
}

/// Adds a preview in place of an earlier one, and removes the oldest if there are too many. Returns the files to discard.
fn put(batch: &mut Batch, key: &UrlHash, preview: &Preview, max: u64) -> Result<Vec<String>> {
    let mut files = Vec::new();
    remove(batch, key, &mut files)?;
    let total = batch.read_for_update(&PREVIEW_TOTAL, &())?.unwrap_or_default();
    let surplus = total.saturating_add(1).saturating_sub(max);
    let surplus = usize::try_from(surplus).unwrap_or(PORTION).min(PORTION);
    for (_, key) in first(batch, surplus)? {
        remove(batch, &key, &mut files)?;
    }
    batch.put(&PREVIEW_BY_URL, key, preview);
    batch.put(&PREVIEW_BY_EXPIRY, &(preview.expires, *key), &());
    batch.update(&PREVIEW_TOTAL, &(), |total| Some(total.unwrap_or_default().saturating_add(1)))?;
    Ok(files)
}

/// Removes a preview with its image, if there is one, and adds the names of files that nothing refers to any more.
fn remove(batch: &mut Batch, key: &UrlHash, files: &mut Vec<String>) -> Result<()> {
    let Some(preview) = batch.read_for_update(&PREVIEW_BY_URL, key)? else { return Ok(()) };
    batch.delete(&PREVIEW_BY_URL, key);
    batch.delete(&PREVIEW_BY_EXPIRY, &(preview.expires, *key));
    batch.update(&PREVIEW_TOTAL, &(), |total| total.and_then(|total| total.checked_sub(1)))?;
    if let Some(image) = preview.image {
        deletion::remove::<Own>(batch, &image, files)?;
    }
    Ok(())
}
