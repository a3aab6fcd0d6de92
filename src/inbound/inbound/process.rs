//! A room's queue, worked off in order.

use std::collections::HashMap;

use ruma::{OwnedRoomId, RoomVersionId, ServerName, room_version_rules::RoomVersionRules};
use serde_json::value::RawValue;
use wick_core::{Result, Timestamp};
use wick_database::Batch;
use wick_room::{Incoming, Received, Verified};

use super::Inbound;
use crate::{
    Peer, extremities,
    fetch::{self, Fetch},
    queue::{self, Need, Postponed, Queued},
    verify::{self, Check},
};

/// How many events are received in one batch.
const AT_ONCE: usize = 50;

/// What becomes of an event of the queue.
enum Fate {
    /// It is stored, or dropped for good.
    Done,
    /// Something that it needs cannot be had now.
    Later(Need),
}

impl<P: Peer> Inbound<P> {
    /// Works a room's queue off, but for the events that wait to be tried again.
    pub(super) async fn process(&self, room_id: &OwnedRoomId) -> Result<()> {
        loop {
            let now = self.resources.clock.now();
            let due = queue::due(&self.resources.database.latest(), room_id, now, AT_ONCE)?;
            if due.is_empty() {
                if let Some(next) = queue::next_retry(&self.resources.database.latest(), room_id)? {
                    self.retry_at(room_id, next);
                }
                return Ok(());
            }
            let here = self.version_of(room_id)?;
            match here {
                Some(version) if self.is_member(room_id)? => {
                    self.receive_queued(room_id, &version, due).await?;
                }
                // They are received once the room is here.
                _ if self.joining_version(room_id).is_some() => return Ok(()),
                _ => {
                    tracing::debug!(room = %room_id, events = due.len(), "events of a room without members here are dropped");
                    let fates: Vec<_> = due.into_iter().map(|row| (row, Fate::Done)).collect();
                    self.settle(room_id, &fates, now).await?;
                }
            }
        }
    }

    async fn receive_queued(
        &self,
        room_id: &OwnedRoomId,
        (version, rules): &(RoomVersionId, RoomVersionRules),
        due: Vec<Queued>,
    ) -> Result<()> {
        let events = due.iter().map(|(_, queued)| RawValue::from_string(queued.json.clone()));
        let events = events.map(std::result::Result::unwrap_or_default).collect();
        let checks =
            verify::check_all(&self.resources, &self.peer, (room_id, rules), events).await?;
        let mut fates = Vec::new();
        let mut good: Vec<(Queued, Verified)> = Vec::new();
        for (row, check) in due.into_iter().zip(checks) {
            match check {
                Check::Good(event) => good.push((row, event)),
                Check::NoKey => fates.push((row, Fate::Later(Need::Others))),
                Check::Bad(reason) => {
                    tracing::debug!(room = %room_id, event = %row.1.event_id, reason, "an event is dropped");
                    fates.push((row, Fate::Done));
                }
            }
        }
        let events = good.iter().map(|(_, event)| Incoming::from(event.clone())).collect();
        let received = {
            // Not held while other servers are asked: one that is slow would hold up all rooms.
            let _permit = self.permits.acquire().await;
            self.receive_in_room(room_id, events).await?
        };
        let mut deadlines = HashMap::new();
        let mut is_policy_server_away = false;
        for ((row, event), received) in good.into_iter().zip(received) {
            let received = match received {
                // It may miss only what waits for the policy server.
                Received::Missing(_) if is_policy_server_away => {
                    fates.push((row, Fate::Later(Need::PolicyServer)));
                    continue;
                }
                Received::Missing(_) => {
                    let is_again = row.1.attempts > 0;
                    // All that a server sent has this time together.
                    let deadline =
                        *deadlines.entry((row.1.origin.clone(), is_again)).or_insert_with(|| {
                            let time = if is_again { fetch::LATER_TRY } else { fetch::FIRST_TRY };
                            self.resources.clock.monotonic() + time
                        });
                    let room = (room_id, version, rules);
                    let mut fetch = Fetch::new(self, room, &row.1.origin, &event, deadline)?;
                    fetch.complete(event, is_again).await?
                }
                other => other,
            };
            is_policy_server_away |= matches!(received, Received::Later(_));
            fates.push((row, fate(room_id, &received)));
        }
        self.settle(room_id, &fates, self.resources.clock.now()).await?;
        extremities::join(self, room_id).await
    }

    /// Takes what is done out of the queue, and leaves the rest for later.
    async fn settle(
        &self,
        room_id: &OwnedRoomId,
        fates: &[(Queued, Fate)],
        now: Timestamp,
    ) -> Result<()> {
        let settle = |batch: &mut Batch| {
            let is_in_room = |server: &ServerName| self.is_in_room(server, room_id);
            let mut postponed = None;
            for (row, fate) in fates {
                match fate {
                    Fate::Done => queue::remove((batch, &self.counts), room_id, row)?,
                    Fate::Later(need) => {
                        let postponed = match &mut postponed {
                            Some(counted) => counted,
                            none => none.insert(Postponed::count(batch, room_id, is_in_room)?),
                        };
                        let batch = (&mut *batch, &self.counts);
                        queue::postpone(batch, room_id, (row, *need), now, postponed)?;
                    }
                }
            }
            Ok(())
        };
        self.resources.change(settle).await
    }
}

fn fate(room_id: &OwnedRoomId, received: &Received) -> Fate {
    match received {
        Received::Missing(_) => return Fate::Later(Need::Others),
        Received::Later(_) => return Fate::Later(Need::PolicyServer),
        Received::Rejected(event, reason) => {
            tracing::info!(room = %room_id, %event, reason, "an event is rejected");
        }
        Received::SoftFailed(event) => {
            tracing::info!(room = %room_id, %event, "an event is soft-failed")
        }
        Received::Dropped(event, reason) => {
            tracing::debug!(room = %room_id, %event, reason, "an event is dropped");
        }
        Received::Accepted(_) | Received::Outlier(_) | Received::Known(_) => {}
    }
    Fate::Done
}
