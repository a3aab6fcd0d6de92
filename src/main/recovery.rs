//! When a database that cannot be written is worth opening anew.
//!
//! RocksDB recovers by itself from a full disk, but not from every error: one that found no file
//! descriptor for its next log refuses writes for as long as it is open, and so does the log after a
//! failed sync.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
    time::Duration,
};

use tokio::task;
use wick_service::Services;

/// How often the database is looked at.
const EVERY: Duration = Duration::from_secs(5);

/// How often in a row it has to fail: RocksDB itself gets the first chance.
const FAILURES: u32 = 2;

/// What has to fit on the disk, in bytes: more than RocksDB waits for, which recovers by itself then.
const SPACE: usize = 32 << 20;

/// Returns once the database cannot be written although its folder can.
pub(crate) async fn possible(services: &Services) {
    let mut failures = 0_u32;
    loop {
        services.clock.sleep_until(services.clock.monotonic() + EVERY).await;
        if services.health.is_writable().await {
            failures = 0;
            continue;
        }
        failures = failures.saturating_add(1);
        let folder = services.config.database.path.clone();
        let written = task::spawn_blocking(move || write_probe(&folder)).await;
        match written.map_err(io::Error::other).flatten() {
            Ok(()) if failures >= FAILURES => return,
            Ok(()) => {}
            Err(error) => tracing::error!(%error, "the data folder cannot be written"),
        }
    }
}

/// Writes a file of [`SPACE`] bytes in `folder` and removes it.
fn write_probe(folder: &Path) -> io::Result<()> {
    let path = folder.join("probe.tmp");
    let written = File::create(&path).and_then(|mut file| {
        let block = vec![1; 1 << 20];
        for _ in 0..SPACE / block.len() {
            file.write_all(&block)?;
        }
        file.sync_all()
    });
    // Half a file must not take the space that is waited for.
    let removed = fs::remove_file(&path);
    written.and(removed)
}
