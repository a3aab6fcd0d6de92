//! The memory in which thumbnails are made.
//!
//! Invariants: the files that are held and the images that are decoded at the same time take a bounded number of bytes
//! together, however many are asked for; space for a file is taken before that for its image, so two requests never wait
//! for each other.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wick_core::{Error, Result};

use super::MAX_SOURCE;

/// Bytes of all files that are held, for each byte of the largest.
const FILES: u64 = 4;

/// A decoder may copy the file.
const COPIES: u64 = 2;

/// Bytes that decoding takes for each byte of the image: a progressive JPEG keeps its coefficients.
const WORKING: u64 = 3;

/// Bytes of a pixel: four channels of 8 bits.
const PIXEL: u64 = 4;

/// Space for the files and the images of thumbnails.
pub(crate) struct Memory {
    files: Space,
    images: Space,
}

/// Space that is given back when it is dropped.
pub(super) type Taken = OwnedSemaphorePermit;

/// A number of bytes, in units.
struct Space {
    units: Arc<Semaphore>,
    total: u32,
}

/// Bytes of a unit.
const UNIT: u64 = 1 << 20;

impl Memory {
    /// Space for one image of `max_pixels`, or for many smaller ones.
    pub(crate) fn new(max_pixels: u64) -> Self {
        Self {
            files: Space::new(MAX_SOURCE.saturating_mul(FILES)),
            images: Space::new(max_pixels.saturating_mul(PIXEL).saturating_mul(WORKING)),
        }
    }

    /// Waits for the space of a file of so many bytes.
    pub(super) async fn file(&self, bytes: u64) -> Result<Taken> {
        self.files.take(bytes.saturating_mul(COPIES)).await
    }

    /// Waits for the space of an image that has so many bytes when it is decoded. One that is larger than all space waits
    /// until it is alone.
    pub(super) async fn image(&self, bytes: u64) -> Result<Taken> {
        self.images.take(bytes.saturating_mul(WORKING)).await
    }
}

impl Space {
    fn new(bytes: u64) -> Self {
        let total = units(bytes);
        Self { units: Arc::new(Semaphore::new(usize::try_from(total).unwrap_or(1))), total }
    }

    async fn take(&self, bytes: u64) -> Result<Taken> {
        let taken = Arc::clone(&self.units).acquire_many_owned(units(bytes).min(self.total));
        taken.await.map_err(|error| Error::internal("the memory of thumbnails", error))
    }
}

fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn images_that_do_not_fit_together_are_decoded_one_after_another() {
        let memory = Memory::new(32_000_000);
        let large = 32_000_000 * PIXEL;
        let first = memory.image(large).now_or_never().unwrap().unwrap();
        assert!(memory.image(large).now_or_never().is_none());
        // Neither is a small one before the large one has ended, but a file can be read.
        assert!(memory.image(1).now_or_never().is_none());
        let file = memory.file(MAX_SOURCE).now_or_never().unwrap().unwrap();
        drop(first);
        let small: Vec<_> =
            (0..7).map(|_| memory.image(large / 8).now_or_never().unwrap().unwrap()).collect();
        assert!(memory.image(large / 8).now_or_never().is_none());
        drop((small, file));
    }

    #[test]
    fn an_image_of_more_bytes_than_there_are_is_decoded_alone() {
        let memory = Memory::new(1_000_000);
        let huge = memory.image(u64::MAX).now_or_never().unwrap().unwrap();
        assert!(memory.image(1).now_or_never().is_none());
        drop(huge);
        assert!(memory.image(1).now_or_never().is_some());
    }
}
