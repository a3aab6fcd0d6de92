//! Cuts off an end of the log that RocksDB would read for ever.
//!
//! RocksDB's log reader, up to the bundled version, does not get past a record of a reused log file
//! within a log that is not one: it reports the record and reads it again, without end. A torn end
//! can look like that by chance, and the server would never start. We do not reuse log files, so such
//! a record is garbage, and everything from it on was never told to anybody.
//!
//! Invariant: a log without torn parts is left as it is.

use std::{
    ffi::OsStr,
    fs::{self, File, OpenOptions},
    io::{self, Read},
    path::Path,
};

use crate::{Error, Result};

/// The log is made of blocks of this many bytes; no record crosses a block.
const BLOCK: usize = 32 << 10;

/// A record begins with a checksum (4 bytes), its length (2 bytes, little-endian) and its type.
const HEADER: usize = 7;

/// The types of records in reused log files.
const OF_REUSED_LOGS: [u8; 6] = [5, 6, 7, 8, 11, 131];

/// Mends the logs of the database in `folder`.
pub(super) fn mend(folder: &Path) -> Result<()> {
    mend_all(folder).map_err(|error| Error::engine(format!("reading the log: {error}")))
}

fn mend_all(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension() != Some(OsStr::new("log")) {
            continue;
        }
        if let Some(whole) = unreadable_from(File::open(&path)?)? {
            let file = OpenOptions::new().write(true).open(&path)?;
            let bytes = file.metadata()?.len();
            tracing::warn!(
                log = %path.display(),
                dropped_bytes = bytes.saturating_sub(whole),
                "the end of the log is torn and is cut off"
            );
            file.set_len(whole)?;
            file.sync_all()?;
        }
    }
    Ok(())
}

/// Where the first such record begins. Checksums are not looked at: after a record that only they
/// betray, RocksDB goes on at the next block, where this looks as well.
fn unreadable_from(mut log: impl Read) -> io::Result<Option<u64>> {
    let mut offset = 0;
    let mut block = Vec::with_capacity(BLOCK);
    loop {
        block.clear();
        let read = log.by_ref().take(32 << 10).read_to_end(&mut block)?;
        if read == 0 {
            return Ok(None);
        }
        let within = unreadable_within(&block).map(|within| offset + within);
        // At the very beginning RocksDB is content with it.
        if let Some(within) = within.filter(|at| *at > 0) {
            return Ok(Some(within));
        }
        offset += u64::try_from(read).unwrap_or(u64::MAX);
    }
}

fn unreadable_within(block: &[u8]) -> Option<u64> {
    let mut rest = block;
    while let Some(([_, _, _, _, low, high, kind], body)) = rest.split_first_chunk::<HEADER>() {
        if OF_REUSED_LOGS.contains(kind) {
            return u64::try_from(block.len().saturating_sub(rest.len())).ok();
        }
        rest = body.get(usize::from(u16::from_le_bytes([*low, *high]))..).unwrap_or_default();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u8, length: u16) -> Vec<u8> {
        let [low, high] = length.to_le_bytes();
        let mut record = vec![9, 9, 9, 9, low, high, kind];
        record.resize(HEADER + usize::from(length), 5);
        record
    }

    #[test]
    fn a_log_is_cut_where_a_record_of_a_reused_one_begins() {
        let whole = [record(1, 10), record(2, 20)].concat();
        assert_eq!(unreadable_from(&*whole).unwrap(), None);
        for kind in OF_REUSED_LOGS {
            let torn = [whole.clone(), record(kind, 3)].concat();
            assert_eq!(unreadable_from(&*torn).unwrap(), Some(whole.len() as u64));
        }
    }

    #[test]
    fn every_block_is_looked_at() {
        let mut log = record(1, u16::MAX);
        log.truncate(BLOCK);
        log.extend(record(1, 30));
        let torn_at = log.len() as u64;
        log.extend(record(8, 30));
        assert_eq!(unreadable_from(&*log).unwrap(), Some(torn_at));
    }

    #[test]
    fn bytes_within_a_record_are_not_taken_for_one() {
        let log = [record(1, 5), [5; HEADER * 2].to_vec()].concat();
        assert_eq!(unreadable_from(&log[..HEADER + 5]).unwrap(), None);
        assert_eq!(unreadable_from(&[0; 3 * BLOCK][..]).unwrap(), None, "space set aside");
    }
}
