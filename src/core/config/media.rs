//! `[media]`: files that users upload, and their thumbnails.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Period, Secret};

/// The section `[media]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Media {
    /// The folder of the files; empty: `media` beside the database. Not used with a bucket.
    pub path: PathBuf,
    /// The largest file, in megabytes.
    pub max_upload_megabytes: u32,
    /// The most that the files of one user may take, in megabytes; zero forbids uploads.
    pub max_user_megabytes: u32,
    /// The most files that one user may have; zero forbids uploads.
    pub max_user_files: u32,
    /// The most media ids that a user may have reserved for later uploads.
    pub max_pending: u32,
    /// How long a media id is reserved.
    pub pending_lifetime: Period,
    /// The longest that a request may wait for the upload to a reserved media id.
    pub max_wait: Period,
    /// Whether files can be had without an access token, by the deprecated `/_matrix/media/v3` endpoints.
    pub legacy: bool,
    /// The Unix time in seconds from which on uploads cannot be had there; zero: all can.
    pub legacy_freeze: u64,
    /// The sizes in which thumbnails are made.
    pub thumbnails: Vec<ThumbnailSize>,
    /// The largest image that a thumbnail is made of, in millions of pixels.
    pub max_image_megapixels: u32,
    /// The age at which files are deleted; zero: never.
    pub retention_age: Period,
    /// How long after their last download files are deleted; zero: never.
    pub retention_unused: Period,
    /// An S3-compatible object store in place of the folder.
    pub s3: S3,
}

/// A size of thumbnails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ThumbnailSize {
    /// The width in pixels.
    pub width: u32,
    /// The height in pixels.
    pub height: u32,
    /// How it is reached.
    pub method: ThumbnailMethod,
}

/// How an image gets the size of a thumbnail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ThumbnailMethod {
    /// It fills the size; what is beyond is cut off.
    Crop,
    /// It fits into the size and keeps its aspect ratio.
    Scale,
}

/// The section `[media.s3]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct S3 {
    /// The bucket; empty: files are kept in the folder.
    pub bucket: String,
    /// The URL of the service; empty: that of Amazon S3 in the region.
    pub endpoint: String,
    /// The region.
    pub region: String,
    /// The access key's id.
    pub access_key_id: String,
    /// The access key.
    pub secret_access_key: Secret,
}

impl Default for Media {
    fn default() -> Self {
        let size = |width, height, method| ThumbnailSize { width, height, method };
        Self {
            path: PathBuf::new(),
            max_upload_megabytes: 100,
            max_user_megabytes: 10_240,
            max_user_files: 100_000,
            max_pending: 5,
            pending_lifetime: Period::from_secs(86_400),
            max_wait: Period::from_secs(60),
            legacy: false,
            legacy_freeze: 0,
            thumbnails: vec![
                size(32, 32, ThumbnailMethod::Crop),
                size(96, 96, ThumbnailMethod::Crop),
                size(320, 240, ThumbnailMethod::Scale),
                size(640, 480, ThumbnailMethod::Scale),
                size(800, 600, ThumbnailMethod::Scale),
            ],
            max_image_megapixels: 32,
            retention_age: Period::from_secs(0),
            retention_unused: Period::from_secs(0),
            s3: S3::default(),
        }
    }
}

impl Default for S3 {
    fn default() -> Self {
        Self {
            bucket: String::new(),
            endpoint: String::new(),
            region: "us-east-1".to_owned(),
            access_key_id: String::new(),
            secret_access_key: Secret::default(),
        }
    }
}
