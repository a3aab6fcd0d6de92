//! Judges the logs of a database before RocksDB opens it.
//!
//! RocksDB takes any damage for the end of a log: it drops what follows and starts. That is right for the torn end
//! that a power loss leaves, which was never answered, and wrong for anything else. It also reads a record of a
//! reused log within one that is not for ever.
//!
//! Invariants: nothing is changed but the torn end of the newest log, which is cut off; whatever was durable is
//! there, or the database is not opened.

mod reader;

use std::{
    ffi::OsStr,
    fs::{self, File, OpenOptions},
    io,
    path::{Path, PathBuf},
};

use self::reader::{Reading, Rest};
use super::backup;
use crate::{Error, Result};

/// A file of the log.
struct Log {
    path: PathBuf,
    reading: Reading,
}

impl Log {
    fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().display().to_string()
    }
}

/// What is known besides the logs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    /// The last sequence number that is in the tables.
    pub(super) flushed: u64,
    /// The last sequence number that is durable, if it is known.
    pub(super) durable: Option<u64>,
}

/// What is wrong with the logs: where they end, and why what follows cannot be used.
struct Break {
    /// The number of logs that are used.
    used: usize,
    /// How much of the last one is.
    whole: Option<u64>,
    /// Whether nothing that was durable is lost by that.
    is_torn_end: bool,
    what: String,
}

/// Makes the logs ready for RocksDB: durable, and without a torn end.
///
/// # Errors
/// [`Error::Damaged`] if something that was durable cannot be read. Nothing is changed then.
pub(super) fn mend(folder: &Path, known: Known) -> Result<()> {
    let logs = read_all(folder).map_err(reading)?;
    match find_break(&logs, known) {
        None => {}
        Some(Break { is_torn_end: true, whole: Some(whole), .. }) => {
            if let Some(newest) = logs.last() {
                cut(newest, whole).map_err(reading)?;
            }
        }
        Some(damage) => return Err(Error::Damaged(damage.what.into())),
    }
    // What a killed process wrote may be in memory only. What is written from now on builds on it.
    for log in &logs {
        File::open(&log.path).and_then(|file| file.sync_all()).map_err(reading)?;
    }
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(reading)
}

/// Gives up what cannot be used: the log ends before it, and the database is marked as a copy is. Returns what was given up,
/// if anything was; the files are kept under other names.
pub(super) fn salvage(folder: &Path, known: Known) -> Result<Option<String>> {
    let logs = read_all(folder).map_err(reading)?;
    let Some(damage) = find_break(&logs, known) else { return Ok(None) };
    // Before anything is lost, so that a crash in between leaves the mark.
    backup::mark(folder)?;
    for log in logs.get(damage.used..).unwrap_or_default() {
        fs::rename(&log.path, log.path.with_extension("log.unused")).map_err(reading)?;
    }
    if let Some(whole) = damage.whole
        && let Some(last) = damage.used.checked_sub(1).and_then(|last| logs.get(last))
    {
        fs::copy(&last.path, last.path.with_extension("log.damaged")).map_err(reading)?;
        cut(last, whole).map_err(reading)?;
    }
    Ok(Some(damage.what))
}

fn reading(error: io::Error) -> Error {
    Error::engine(format!("reading the log: {error}"))
}

/// The logs, the oldest first.
fn read_all(folder: &Path) -> io::Result<Vec<Log>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let number = path.file_stem().and_then(OsStr::to_str).and_then(|stem| stem.parse().ok());
        if let Some(number) = number.filter(|_| path.extension() == Some(OsStr::new("log"))) {
            paths.push((number, path));
        }
    }
    paths.sort_unstable_by_key(|(number, _): &(u64, PathBuf)| *number);
    let read = |path: PathBuf| {
        File::open(&path).and_then(reader::read).map(|reading| Log { path, reading })
    };
    paths.into_iter().map(|(_, path)| read(path)).collect()
}

/// Where the first write is that cannot be used, if there is one.
fn find_break(logs: &[Log], known: Known) -> Option<Break> {
    let mut next = None;
    for (index, log) in logs.iter().enumerate() {
        let Reading { first, next: after, whole, rest } = log.reading;
        if let Some(first) = first
            && first > next.unwrap_or(0).max(known.flushed.saturating_add(1))
        {
            let what = format!("a log before {} is missing", log.name());
            return Some(Break { used: index, whole: None, is_torn_end: false, what });
        }
        next = after.or(next);
        // A log that was torn and mended by an earlier version is followed by one that goes on at that place.
        let follower = logs.iter().skip(index.saturating_add(1)).find_map(|log| log.reading.first);
        if rest == Rest::Nothing || (follower.is_some() && follower == next) {
            continue;
        }
        let last = last_sequence(next, known);
        let is_torn_end = index.saturating_add(1) == logs.len()
            && known.durable.map_or(rest == Rest::Torn, |durable| last >= durable);
        let what = format!("{} cannot be read from byte {whole} on", log.name());
        let used = index.saturating_add(1);
        return Some(Break { used, whole: Some(whole), is_torn_end, what });
    }
    let last = last_sequence(next, known);
    known.durable.filter(|durable| last < *durable).map(|_| Break {
        used: logs.len(),
        whole: None,
        is_torn_end: false,
        what: "the end of the log is missing".to_owned(),
    })
}

fn last_sequence(next: Option<u64>, known: Known) -> u64 {
    next.map_or(0, |next| next.saturating_sub(1)).max(known.flushed)
}

fn cut(log: &Log, whole: u64) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(&log.path)?;
    let bytes = file.metadata()?.len();
    let dropped_bytes = bytes.saturating_sub(whole);
    tracing::warn!(log = log.name(), dropped_bytes, "the end of the log is torn and is cut off");
    file.set_len(whole)?;
    file.sync_all()
}
