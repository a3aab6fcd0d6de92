//! `/threads`: the threads of a room, the one with the newest answer first.
//!
//! <https://spec.matrix.org/v1.18/client-server-api/#get_matrixclientv1roomsroomidthreads>

use ruma::OwnedRoomId;
use wick_account::Session;
use wick_core::Result;
use wick_database::{Range, Read, schema::room::THREAD_BY_ACTIVITY};
use wick_room::{TimelineItem, visibility::Reach};

use super::{
    Chunk, History, MAX_LIMIT, MAX_SCANNED,
    token::{from_token, to_token},
};

/// Which threads.
pub struct AskThreads {
    /// Of which room.
    pub room_id: OwnedRoomId,
    /// Only those that the requesting user has participated in.
    pub participated: bool,
    /// Where to begin.
    pub from: Option<String>,
    /// How many at most.
    pub limit: usize,
}

impl History {
    /// The roots of a room's threads.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if the session's user may not read the room, `M_INVALID_PARAM` if the token is none.
    pub fn threads(&self, session: &Session, ask: &AskThreads) -> Result<Chunk> {
        let read = self.resources.database.published();
        let mut reader = self.reader(&read, session, &ask.room_id)?;
        let mut from = ask.from.as_deref().map_or(Ok(i64::MAX), from_token)?;
        if let Reach::Until(end) = reader.reach {
            from = from.min(end);
        }
        let mut threads = Chunk { chunk: Vec::new(), next_batch: None };
        let range = Range::prefix((reader.room,)).and(Range::through(&(reader.room, from)));
        // Next to what was read, so that a thread whose answers come into a gap below it is read, too.
        let mut continuation = from;
        for (scanned, row) in read.scan_back(&THREAD_BY_ACTIVITY, range).enumerate() {
            let ((_, place), root) = row?;
            if threads.chunk.len() >= ask.limit.min(MAX_LIMIT) || scanned >= MAX_SCANNED {
                threads.next_batch = Some(to_token(continuation));
                break;
            }
            continuation = place.saturating_sub(1);
            let Some(pdu) = self.graph.event(&read, root)? else { continue };
            if reader.ignored.contains(&pdu.sender) {
                continue;
            }
            if ask.participated
                && pdu.sender != session.user_id
                && !reader.viewer.participated(root)?
            {
                continue;
            }
            let shown = reader.shown(TimelineItem { place, event: root }, &pdu)?;
            threads.chunk.extend(shown.map(|shown| shown.json));
        }
        Ok(threads)
    }
}
