//! `[previews]`: previews of pages that users link to.

use serde::{Deserialize, Serialize};

use super::Period;

/// The section `[previews]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Previews {
    /// The domains whose pages are previewed, with all below them; `*` for all. None: there are no previews.
    pub domains: Vec<String>,
    /// How much of a page is read, in kilobytes.
    pub max_page_kilobytes: u32,
    /// The largest image that is fetched for a preview, in megabytes.
    pub max_image_megabytes: u32,
    /// How long a preview is kept, with its image.
    pub lifetime: Period,
    /// The most previews that are kept.
    pub max_kept: u32,
}

impl Default for Previews {
    fn default() -> Self {
        Self {
            domains: Vec::new(),
            max_page_kilobytes: 512,
            max_image_megabytes: 10,
            lifetime: Period::from_secs(86_400),
            max_kept: 1000,
        }
    }
}
