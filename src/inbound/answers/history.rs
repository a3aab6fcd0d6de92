//! Pieces of history: missing events, backfill.

use std::collections::{BTreeSet, HashSet, VecDeque};

use ruma::{OwnedEventId, RoomId, ServerName};
use serde_json::value::RawValue;
use wick_core::{Error, Result, Timestamp};
use wick_room::Direction;

use super::{Access, Answers};
use crate::MissingEvents;

/// How many missing events are given at most.
const MAX_MISSING: usize = 20;

/// How many events of backfill are given at most.
const MAX_BACKFILL: usize = 100;

/// How many events are looked at to find one near a time.
const MAX_SCANNED: usize = 1_000;

/// How many event ids of a request are looked at.
const MAX_NAMED: usize = 100;

impl Answers {
    /// `POST /_matrix/federation/v1/get_missing_events/{roomId}`: the events before `latest`, breadth first, up to those of
    /// `earliest` and those with a smaller depth than `min_depth`; the oldest first.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if the room is unknown, `M_FORBIDDEN` if the server is not in the room or denied by its ACL.
    pub async fn missing_events(
        &self,
        server: &ServerName,
        wanted: MissingEvents,
        min_depth: u64,
    ) -> Result<Vec<Box<RawValue>>> {
        let room = wanted.room_id.clone();
        self.read(server, &room, move |access| access.missing_events(&wanted, min_depth)).await
    }

    /// `GET /_matrix/federation/v1/backfill/{roomId}`: these events and those before them, the newest first.
    ///
    /// # Errors
    /// As [`Answers::missing_events`].
    pub async fn backfill(
        &self,
        server: &ServerName,
        room: &RoomId,
        from: Vec<OwnedEventId>,
        limit: usize,
    ) -> Result<Vec<Box<RawValue>>> {
        self.read(server, room, move |access| access.backfill(from, limit.min(MAX_BACKFILL))).await
    }
}

impl Answers {
    /// `GET /_matrix/federation/v1/timestamp_to_event/{roomId}`: the event that is nearest to a time in one direction,
    /// among those that the server's users may see.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if there is none; as [`Answers::missing_events`].
    pub async fn timestamp_to_event(
        &self,
        server: &ServerName,
        room: &RoomId,
        at: Timestamp,
        direction: Direction,
    ) -> Result<(OwnedEventId, Timestamp)> {
        self.read(server, room, move |access| access.nearest(at, direction)).await
    }
}

impl Access {
    fn nearest(&self, at: Timestamp, direction: Direction) -> Result<(OwnedEventId, Timestamp)> {
        let events = self.graph.timeline_by_time(&self.read, self.room, at, direction);
        let mut viewer = self.viewer();
        for event in events.take(MAX_SCANNED) {
            let pdu = self.graph.load_event(&self.read, event?)?;
            if let Some((_, pdu, place)) = self.find(&pdu.event_id)?
                && viewer.can_see(&pdu, &place)?
            {
                return Ok((pdu.event_id.clone(), pdu.origin_server_ts));
            }
        }
        Err(Error::not_found("there is no event that the server may see in this direction"))
    }

    fn missing_events(&self, wanted: &MissingEvents, min_depth: u64) -> Result<Vec<Box<RawValue>>> {
        let limit = wanted.limit.min(MAX_MISSING);
        let mut seen: HashSet<OwnedEventId> =
            wanted.earliest.iter().chain(&wanted.latest).take(MAX_NAMED).cloned().collect();
        let mut open: VecDeque<OwnedEventId> =
            wanted.latest.iter().take(MAX_NAMED).cloned().collect();
        let mut viewer = self.viewer();
        let mut found = Vec::new();
        while let Some(id) = open.pop_front().filter(|_| found.len() < limit) {
            let Some((_, event)) = self.graph.event_by_id(&self.read, &id)? else { continue };
            for prev in &event.prev_events {
                if found.len() >= limit || !seen.insert(prev.clone()) {
                    continue;
                }
                let Some((_, pdu, place)) = self.find(prev)? else { continue };
                if pdu.depth >= min_depth {
                    found.push((pdu.depth, viewer.show(&pdu, &place)?));
                    open.push_back(prev.clone());
                }
            }
        }
        found.sort_by_key(|(depth, _)| *depth);
        Ok(found.into_iter().map(|(_, json)| json).collect())
    }

    fn backfill(&self, from: Vec<OwnedEventId>, limit: usize) -> Result<Vec<Box<RawValue>>> {
        let mut viewer = self.viewer();
        let mut seen = HashSet::new();
        // By depth, so that the newest comes next whatever branch it is on.
        let mut open = BTreeSet::new();
        let mut found = Vec::new();
        for id in from.into_iter().take(MAX_NAMED) {
            if let Some((_, pdu, _)) = self.find(&id)? {
                open.insert((pdu.depth, id));
            }
        }
        while let Some((_, id)) = open.pop_last().filter(|_| found.len() < limit) {
            let Some((_, pdu, place)) = self.find(&id)? else { continue };
            found.push(viewer.show(&pdu, &place)?);
            for prev in &pdu.prev_events {
                if seen.insert(prev.clone())
                    && let Some((_, before, _)) = self.find(prev)?
                {
                    open.insert((before.depth, prev.clone()));
                }
            }
        }
        Ok(found)
    }
}
