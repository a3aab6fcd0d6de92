//! Reads a file of RocksDB's log as far as it is whole.
//!
//! A log is made of blocks of 32 KiB. A record lies within a block: a checksum (4 bytes), its length (2 bytes,
//! little-endian), its type, its content. A write is one record or several fragments in a row; it begins with the
//! sequence number of its first row (8 bytes, little-endian) and the number of its rows (4 bytes). The next write
//! has the sequence number that follows. (`db/log_format.h` and `db/write_batch.cc` of RocksDB.)

use std::io::{self, Read};

const BLOCK: usize = 32 << 10;
const BLOCK_BYTES: u64 = 32 << 10;
const HEADER: usize = 7;

/// The beginning of a write: sequence number and count.
const WRITE_HEADER: usize = 12;

const FULL: u8 = 1;
const FIRST: u8 = 2;
const MIDDLE: u8 = 3;
const LAST: u8 = 4;

/// RocksDB passes over records of unknown types that have this bit. 131 belongs to reused logs.
const IGNORABLE: u8 = 1 << 7;
const OF_REUSED_LOGS: u8 = 131;

/// What a log holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reading {
    /// The sequence number of its first write, if it has one.
    pub(super) first: Option<u64>,
    /// The sequence number that follows its last whole write.
    pub(super) next: Option<u64>,
    /// How many bytes are whole.
    pub(super) whole: u64,
    /// Why there are more bytes than these.
    pub(super) rest: Rest,
}

/// What comes after the last whole write of a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Rest {
    /// Nothing.
    #[default]
    Nothing,
    /// Bytes that are no whole record, up to the end.
    Torn,
    /// Damage, and whole records after it.
    Damage,
}

/// Reads a log to its end.
pub(super) fn read(mut log: impl Read) -> io::Result<Reading> {
    let mut reader = Reader::default();
    let mut block = Vec::with_capacity(BLOCK);
    loop {
        block.clear();
        if log.by_ref().take(BLOCK_BYTES).read_to_end(&mut block)? == 0 {
            return Ok(reader.finish());
        }
        reader.block(&block);
        reader.offset = reader.offset.saturating_add(BLOCK_BYTES);
        if reader.reading.rest == Rest::Damage {
            return Ok(reader.reading);
        }
    }
}

#[derive(Default)]
struct Reader {
    reading: Reading,
    /// Where the block begins.
    offset: u64,
    /// The beginning of a write of which fragments are still to come.
    unfinished: Option<Vec<u8>>,
}

/// A record of a block.
struct Record<'a> {
    kind: u8,
    content: &'a [u8],
    is_sound: bool,
}

impl Reader {
    fn finish(mut self) -> Reading {
        if self.unfinished.is_some() {
            self.reading.rest = Rest::Torn;
        }
        self.reading
    }

    fn block(&mut self, block: &[u8]) {
        let mut rest = block;
        while let Some((record, after)) = next_record(rest) {
            let end = block.len().saturating_sub(after.len());
            let end = self.offset.saturating_add(u64::try_from(end).unwrap_or(u64::MAX));
            if self.reading.rest == Rest::Torn {
                // Only a record that a complete write can begin with distinguishes damage from a torn end.
                if record.is_sound && matches!(record.kind, FULL | FIRST) {
                    self.reading.rest = Rest::Damage;
                    return;
                }
            } else if !record.is_sound || !self.record(&record, end) {
                self.reading.rest = Rest::Torn;
            }
            rest = after;
        }
        // Less than a header is left at the end of a block; zeroes, if the block is full.
        let is_torn = if block.len() < BLOCK { !rest.is_empty() } else { rest.len() >= HEADER };
        if is_torn && self.reading.rest == Rest::Nothing {
            self.reading.rest = Rest::Torn;
        }
    }

    /// Takes a sound record. Returns whether it belongs where it is.
    fn record(&mut self, record: &Record<'_>, end: u64) -> bool {
        let unfinished = self.unfinished.take();
        match (record.kind, unfinished) {
            (FULL, None) => self.write(record.content, end),
            (FIRST, None) => self.keep(Vec::with_capacity(WRITE_HEADER), record.content),
            (MIDDLE, Some(begun)) => self.keep(begun, record.content),
            (LAST, Some(begun)) => {
                self.keep(begun, record.content);
                let begun = self.unfinished.take().unwrap_or_default();
                self.write(&begun, end)
            }
            (kind, None) if kind & IGNORABLE != 0 && kind != OF_REUSED_LOGS => {
                self.reading.whole = end;
                true
            }
            _ => false,
        }
    }

    /// Keeps as much of a write as is needed.
    fn keep(&mut self, mut begun: Vec<u8>, content: &[u8]) -> bool {
        let missing = WRITE_HEADER.saturating_sub(begun.len());
        begun.extend(content.iter().take(missing));
        self.unfinished = Some(begun);
        true
    }

    fn write(&mut self, content: &[u8], end: u64) -> bool {
        let Some((sequence, rest)) = content.split_first_chunk() else { return false };
        let Some(count) = rest.first_chunk() else { return false };
        let sequence = u64::from_le_bytes(*sequence);
        if self.reading.next.is_some_and(|next| next != sequence) {
            return false;
        }
        self.reading.first.get_or_insert(sequence);
        self.reading.next = Some(sequence.saturating_add(u32::from_le_bytes(*count).into()));
        self.reading.whole = end;
        true
    }
}

/// The record at the beginning of `bytes`, and what comes after it. `None`: there is no room for one, or
/// it is longer than its block.
fn next_record(bytes: &[u8]) -> Option<(Record<'_>, &[u8])> {
    let ([a, b, c, d, low, high, kind], rest) = bytes.split_first_chunk::<HEADER>()?;
    let length = usize::from(u16::from_le_bytes([*low, *high]));
    let (content, after) = rest.split_at_checked(length)?;
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&[*kind]), content);
    let is_sound = u32::from_le_bytes([*a, *b, *c, *d]) == masked(checksum);
    Some((Record { kind: *kind, content, is_sound }, after))
}

/// Checksums are stored so that the checksum of bytes with checksums is still a good one.
fn masked(checksum: u32) -> u32 {
    checksum.rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A record with a sound checksum.
    pub(crate) fn record(kind: u8, content: &[u8]) -> Vec<u8> {
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&[kind]), content);
        let mut record = masked(checksum).to_le_bytes().to_vec();
        record.extend(u16::try_from(content.len()).unwrap().to_le_bytes());
        record.push(kind);
        record.extend(content);
        record
    }

    fn content(sequence: u64, count: u32, bytes: usize) -> Vec<u8> {
        let mut content = sequence.to_le_bytes().to_vec();
        content.extend(count.to_le_bytes());
        content.resize(WRITE_HEADER + bytes, 7);
        content
    }

    fn write(sequence: u64, count: u32) -> Vec<u8> {
        record(FULL, &content(sequence, count, 30))
    }

    fn whole(log: &[u8]) -> (u64, Rest) {
        let reading = read(log).unwrap();
        (reading.whole, reading.rest)
    }

    #[test]
    fn a_whole_log_is_read_to_its_end() {
        let log = [write(5, 2), write(7, 3), record(130, b"about another log")].concat();
        let reading = read(&*log).unwrap();
        assert_eq!((reading.first, reading.next), (Some(5), Some(10)));
        assert_eq!((reading.whole, reading.rest), (log.len() as u64, Rest::Nothing));
        assert_eq!(read(&b""[..]).unwrap(), Reading::default());
    }

    #[test]
    fn a_write_in_fragments_is_one_write() {
        let mut log = write(1, 1);
        let long = content(2, 4, 40_000);
        let (head, tail) = long.split_at(BLOCK - log.len() - HEADER);
        log.extend(record(FIRST, head));
        assert_eq!(log.len(), BLOCK);
        assert_eq!(whole(&log), (write(1, 1).len() as u64, Rest::Torn), "its end is missing");
        log.extend(record(LAST, tail));
        log.extend(write(6, 1));
        let reading = read(&*log).unwrap();
        assert_eq!((reading.next, reading.rest), (Some(7), Rest::Nothing));
        assert_eq!(reading.whole, log.len() as u64);
    }

    #[test]
    fn the_end_of_a_block_that_has_no_room_for_a_record_is_passed_over() {
        let first = record(FULL, &content(1, 1, BLOCK - 2 * HEADER - WRITE_HEADER + 3));
        let mut log = first;
        log.resize(BLOCK, 0);
        log.extend(write(2, 1));
        assert_eq!(read(&*log).unwrap().next, Some(3));
    }

    #[test]
    fn a_torn_end_is_told_from_damage_by_what_follows() {
        let sound = [write(1, 1), write(2, 1)].concat();
        let at = sound.len() as u64;
        for end in [&write(3, 1)[..20], &[0; 100], &[9; 5], &[255; 50]] {
            assert_eq!(whole(&[&*sound, end].concat()), (at, Rest::Torn), "{end:?}");
        }
        let mut flipped = write(3, 1);
        flipped[20] ^= 1;
        assert_eq!(whole(&[&*sound, &*flipped].concat()), (at, Rest::Torn));
        let damaged = [&*sound, &*flipped, &*write(4, 1)].concat();
        assert_eq!(whole(&damaged), (at, Rest::Damage));
        let gap = [&*sound, &*write(4, 1), &*write(5, 1)].concat();
        assert_eq!(whole(&gap), (at, Rest::Damage), "a write is missing");
    }

    #[test]
    fn damage_is_seen_from_the_blocks_after_it() {
        let mut log = [write(1, 1), write(2, 1)].concat();
        let at = log.len() as u64;
        log.extend([0; 3]);
        log.resize(2 * BLOCK, 0xee);
        log.extend(write(3, 1));
        assert_eq!(whole(&log), (at, Rest::Damage));
    }

    #[test]
    fn records_of_reused_logs_and_of_unknown_types_do_not_belong_in_a_log() {
        for kind in [0, 5, 6, 7, 8, 9, 10, 11, 12, 127, 131] {
            let log = [write(1, 1), record(kind, &content(2, 1, 0))].concat();
            assert_eq!(whole(&log), (write(1, 1).len() as u64, Rest::Torn), "{kind}");
        }
    }
}
