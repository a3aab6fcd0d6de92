//! The events of a response that is too large to be held, in a file until each can be stored after those that it rests on:
//! in which order a server sends the state of a room and its auth chain, is up to it.
//!
//! Invariants: of the events themselves a portion is held, and of each an entry of about a hundred bytes; the file has no
//! name, so that nothing is left of it after a crash; what is read from it is checked as if it had just arrived.

mod index;

use std::{
    io::{self, BufReader, Read, Seek, SeekFrom, Write},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ruma::{OwnedRoomId, room_version_rules::RoomVersionRules};
use serde_json::value::RawValue;
use tempfile::SpooledTempFile;
use wick_core::{Error, Result};
use wick_runtime::Resources;

pub(crate) use self::index::Index;
use self::index::Place;

/// From which size on the events are in a file.
const IN_MEMORY: usize = 256 << 10;

/// No event is shorter. What is would take more room in the file than in the response.
const SHORTEST: usize = 64;

/// How many bytes are written to the file at once.
const BUFFER: usize = 64 << 10;

/// How many events are looked at in one job of the worker threads.
const PORTION: usize = 200;

/// Events of one room, as another server sent them.
pub struct EventSpool {
    resources: Resources,
    room_id: OwnedRoomId,
    /// Records that are to be written to the file.
    buffer: Vec<u8>,
    file: Arc<Mutex<SpooledTempFile>>,
}

/// An event in the file.
struct Record {
    place: Place,
    is_state: bool,
    json: Vec<u8>,
}

impl EventSpool {
    pub(crate) fn new(resources: &Resources, room_id: &OwnedRoomId) -> Self {
        let file = SpooledTempFile::new_in(IN_MEMORY, resources.database.folder());
        Self {
            resources: resources.clone(),
            room_id: room_id.clone(),
            buffer: Vec::new(),
            file: Arc::new(Mutex::new(file)),
        }
    }

    /// Adds an event of the state.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub async fn push_state(&mut self, event: &RawValue) -> Result<()> {
        self.push(event, true).await
    }

    /// Adds an event of the auth chain.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub async fn push_auth(&mut self, event: &RawValue) -> Result<()> {
        self.push(event, false).await
    }

    async fn push(&mut self, event: &RawValue, is_state: bool) -> Result<()> {
        let json = event.get().as_bytes();
        if json.len() < SHORTEST {
            return Ok(());
        }
        let length = u32::try_from(json.len()).map_err(|_| Error::bad_json("a huge event"))?;
        self.buffer.push(u8::from(is_state));
        self.buffer.extend_from_slice(&length.to_le_bytes());
        self.buffer.extend_from_slice(json);
        if self.buffer.len() < BUFFER { Ok(()) } else { self.flush().await }
    }

    async fn flush(&mut self) -> Result<()> {
        let buffer = std::mem::take(&mut self.buffer);
        self.on_file(move |file| file.write_all(&buffer)).await
    }

    /// Reads all events once.
    pub(crate) async fn index(&mut self, rules: &Arc<RoomVersionRules>) -> Result<Index> {
        self.flush().await?;
        let mut index = Index::default();
        let mut at = Some(0);
        while let Some(from) = at {
            let records = self.on_file(move |file| records(file, from)).await?;
            let last = records.last().map(|record| &record.place);
            at = last.map(Place::end);
            let (room_id, rules) = (self.room_id.clone(), Arc::clone(rules));
            let note = move || {
                for record in records {
                    index.note(record, &room_id, &rules);
                }
                Ok(index)
            };
            index = self.resources.workers.run(&self.room_id, note).await?;
        }
        Ok(index)
    }

    /// The events at these places.
    pub(crate) async fn events(&self, places: Vec<Place>) -> Result<Vec<Box<RawValue>>> {
        let read = move |file: &mut SpooledTempFile| {
            let event = |place: Place| {
                file.seek(SeekFrom::Start(place.at))?;
                let mut json = vec![0; usize::try_from(place.length).map_err(io::Error::other)?];
                file.read_exact(&mut json)?;
                serde_json::from_slice(&json).map_err(io::Error::from)
            };
            places.into_iter().map(event).collect()
        };
        self.on_file(read).await
    }

    async fn on_file<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut SpooledTempFile) -> io::Result<T> + Send + 'static,
    ) -> Result<T> {
        let file = Arc::clone(&self.file);
        let job = move || {
            let mut file: MutexGuard<'_, _> = file.lock().unwrap_or_else(PoisonError::into_inner);
            job(&mut file).map_err(|error| Error::internal("the file of a response", error))
        };
        self.resources.workers.run(&self.room_id, job).await
    }
}

/// A portion of the records from a place on; none at the end.
fn records(file: &mut SpooledTempFile, mut at: u64) -> io::Result<Vec<Record>> {
    file.seek(SeekFrom::Start(at))?;
    let mut file = BufReader::new(file);
    let (mut records, mut bytes) = (Vec::new(), 0_usize);
    while records.len() < PORTION && bytes < IN_MEMORY {
        let mut flag = [0];
        if file.read(&mut flag)? == 0 {
            break;
        }
        let mut length = [0; 4];
        file.read_exact(&mut length)?;
        let head = u64::try_from(flag.len().saturating_add(length.len()));
        let place = Place {
            at: at.saturating_add(head.map_err(io::Error::other)?),
            length: u32::from_le_bytes(length),
        };
        let mut json = vec![0; usize::try_from(place.length).map_err(io::Error::other)?];
        file.read_exact(&mut json)?;
        bytes = bytes.saturating_add(json.len());
        at = place.end();
        records.push(Record { place, is_state: flag == [1], json });
    }
    Ok(records)
}
