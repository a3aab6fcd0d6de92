//! What a user was notified of, or would have been.
//!
//! Invariant: judged when asked for, by the push rules as they are now; what one request looks at is
//! bounded, and the token it answers with stands after the last event it looked at.
//!
//! <https://spec.matrix.org/v1.18/client-server-api/#listing-notifications>

use std::{
    collections::{BinaryHeap, HashMap},
    sync::Arc,
};

use ruma::{OwnedRoomId, push::Action};
use serde_json::value::RawValue;
use wick_account::{Session, account_data, push_rules};
use wick_core::{Error, Result, ShortRoomId, Timestamp, event::pdu::SharedPdu};
use wick_database::{Snapshot, schema::room::Membership};
use wick_room::{Direction, Graph, TimelineItem, render::Show, visibility::Viewer};
use wick_rooms::history::token::{from_token, to_token};
use wick_runtime::Resources;

use crate::counts::{Evaluator, ReadUpTo, Verdict, is_arrival, read_upto};

/// How many events one request looks at, over all rooms. Each costs some ten microseconds.
const LOOKED_AT: usize = 2_000;

/// Lists notifications.
pub struct Notifications {
    resources: Resources,
    graph: Arc<Graph>,
}

/// An event that notified.
pub struct Notification {
    /// What the push rules wanted done.
    pub actions: Vec<Action>,
    /// The event as its user sees it.
    pub event: Box<RawValue>,
    /// Whether the user has read it.
    pub is_read: bool,
    /// Where.
    pub room_id: OwnedRoomId,
    /// When.
    pub at: Timestamp,
}

/// A piece of the list.
pub struct Page {
    /// The newest first.
    pub notifications: Vec<Notification>,
    /// The token of the next piece; `None` at the end.
    pub next: Option<String>,
}

/// A room whose timeline is read from its end.
struct Room<'a> {
    id: OwnedRoomId,
    timeline: Box<dyn Iterator<Item = Result<TimelineItem>> + 'a>,
    judge: Evaluator<'a>,
    viewer: Viewer<'a>,
    read_upto: ReadUpTo,
}

impl Notifications {
    /// Of what happens in `graph`.
    #[must_use]
    pub fn new(resources: Resources, graph: Arc<Graph>) -> Self {
        Self { resources, graph }
    }

    /// At most `limit` notifications from the token `from` on, or the newest, of all rooms the session's
    /// user is in.
    ///
    /// # Errors
    /// `M_INVALID_PARAM` if `from` is no token of this server.
    pub fn list(
        &self,
        session: &Session,
        from: Option<&str>,
        limit: usize,
        only_highlights: bool,
    ) -> Result<Page> {
        let read = self.resources.database.published();
        let from = from.map_or(Ok(i64::MAX), from_token)?;
        let mut rooms = self.rooms(&read, session, from)?;
        // The newest event of each room; the newest of these is the newest of all.
        let mut heads = BinaryHeap::new();
        for (short, room) in &mut rooms {
            if let Some(item) = room.timeline.next().transpose()? {
                heads.push((item.place, *short, item.event));
            }
        }
        let mut page = Page { notifications: Vec::new(), next: None };
        let mut looked_at = 0_usize;
        while let Some((place, short, event)) = heads.pop() {
            if looked_at >= LOOKED_AT || page.notifications.len() >= limit {
                page.next = Some(to_token(place));
                break;
            }
            looked_at = looked_at.saturating_add(1);
            let Some(room) = rooms.get_mut(&short) else { continue };
            let pdu = self.graph.load_event(&read, event)?;
            let own = pdu.sender == session.user_id;
            // What was said before the user came does not concern them.
            if own && is_arrival(&self.graph, &read, event, &pdu)? {
                continue;
            }
            if !own && !room.viewer.ignored().contains(&pdu.sender) {
                let item = TimelineItem { place, event };
                let found = self.notification(&read, room, (&item, &pdu), only_highlights)?;
                page.notifications.extend(found);
            }
            if let Some(item) = room.timeline.next().transpose()? {
                heads.push((item.place, short, item.event));
            }
        }
        Ok(page)
    }

    fn rooms<'a>(
        &'a self,
        read: &'a Snapshot,
        session: &Session,
        from: i64,
    ) -> Result<HashMap<ShortRoomId, Room<'a>>> {
        let ignored = Arc::new(account_data::ignored_users(read, session)?);
        let rules = Arc::new(push_rules::ruleset(read, session.user, &session.user_id)?);
        let mut rooms = HashMap::new();
        for row in self.graph.rooms_of(read, session.user) {
            let (room, member) = row?;
            if member.membership != Membership::Join {
                continue;
            }
            let id = self.graph.intern().room_id(read, room)?;
            let device = Some(&*session.device_id);
            let found = Room {
                id: id.ok_or_else(|| Error::corrupt("a joined room has no room id"))?,
                timeline: Box::new(self.graph.timeline(read, room, from, Direction::Backward)),
                judge: Evaluator::new(&self.graph, read, room, session, Arc::clone(&rules))?,
                viewer: Viewer::new(&self.graph, read, room, &session.user_id, device)?
                    .ignoring(Arc::clone(&ignored)),
                read_upto: read_upto(read, room, session.user)?,
            };
            rooms.insert(room, found);
        }
        Ok(rooms)
    }

    fn notification(
        &self,
        read: &Snapshot,
        room: &mut Room<'_>,
        (item, pdu): (&TimelineItem, &SharedPdu),
        only_highlights: bool,
    ) -> Result<Option<Notification>> {
        let Some(verdict) = room.judge.judge(item, pdu)? else { return Ok(None) };
        if only_highlights && !verdict.highlights() {
            return Ok(None);
        }
        let Some(event) = room.viewer.show_if_visible(item.event, Show::SYNC)? else {
            return Ok(None);
        };
        let Verdict { actions, thread } = verdict;
        let root = match thread {
            Some(thread) => self.graph.intern().event_id(read, thread)?,
            None => None,
        };
        Ok(Some(Notification {
            actions,
            event,
            is_read: room.read_upto.covers(item.place, root.as_deref()),
            room_id: room.id.clone(),
            at: pdu.origin_server_ts,
        }))
    }
}
