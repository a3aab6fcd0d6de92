//! Files that users upload, their thumbnails, and previews of pages. Knows no rooms.
