//! Previews of pages that users link to.
//!
//! Invariant: the image of a preview is media as long as the preview is kept, unless it was deleted by itself.

use serde::{Deserialize, Serialize};
use wick_core::Timestamp;

use crate::postcard_value;

/// The SHA-256 of a URL.
pub type UrlHash = [u8; 32];

/// A preview of a page, kept until it expires.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preview {
    /// Its OpenGraph data, JSON.
    pub json: String,
    /// The media id of its image, which goes with it.
    pub image: Option<String>,
    /// From when on the page is fetched again.
    pub expires: Timestamp,
}

postcard_value!(Preview, version = 1);

tables! {
    /// Previews of pages. Written when one is fetched; read until it expires; may be lost.
    PREVIEW_BY_URL: UrlHash => Preview, Random;

    /// How many rows [`PREVIEW_BY_URL`] has. Written with them, from which it can be rebuilt; read when one is kept.
    PREVIEW_TOTAL: () => u64, Small;

    /// When previews expire. Written with [`PREVIEW_BY_URL`], from which it can be rebuilt; read to remove the oldest.
    PREVIEW_BY_EXPIRY: (Timestamp, UrlHash) => (), Small;
}
