//! What a user was notified of, or would have been.
//!
//! Invariant: evaluated on request, by the push rules as they are now; what one request looks at is
//! bounded, and the token of its response stands after the last event it looked at. Runs on the worker threads.
//!
//! <https://spec.matrix.org/v1.18/client-server-api/#listing-notifications>

use std::{
    collections::{BinaryHeap, HashMap, HashSet, hash_map::Entry},
    sync::Arc,
};

use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, push::Action};
use serde_json::value::RawValue;
use wick_account::{
    Session, account_data,
    invite_filter::{InviteAction, InviteFilter},
};
use wick_core::{Error, Result, ShortEventId, ShortRoomId, Timestamp, event::pdu::SharedPdu};
use wick_database::{Snapshot, schema::room::Membership};
use wick_people::receipts::thread_of;
use wick_room::{Direction, Graph, TimelineItem, render::Show, visibility::Viewer};
use wick_rooms::history::token::{from_token, to_token};
use wick_runtime::Resources;

use crate::{
    counts::{ReadUpTo, read_upto},
    evaluate::{Evaluator, Verdict, accepted_invite, is_arrival, is_own_reading},
    flattened::FlattenedEvents,
    rules::{Rules, RulesCache},
};

/// How many events one request looks at, over all rooms. Each costs some ten microseconds.
const LOOKED_AT: usize = 2_000;

/// How many bytes of text one request matches against patterns.
const MATCHED_BYTES: usize = 32 << 20;

/// Lists notifications.
#[derive(Clone)]
pub struct Notifications {
    resources: Resources,
    graph: Arc<Graph>,
    rules: Arc<RulesCache>,
    events: Arc<FlattenedEvents>,
}

/// An event that notified.
pub struct Notification {
    /// The actions of the push rule.
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

/// Which part of the list is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// At most so many.
    pub limit: usize,
    /// Those alone that are highlighted.
    pub only_highlights: bool,
}

/// A list that is being collected.
struct Lister<'a> {
    graph: &'a Graph,
    read: &'a Snapshot,
    session: &'a Session,
    ignored: Arc<HashSet<OwnedUserId>>,
    invites: InviteFilter,
    rules: Arc<Rules>,
    events: &'a FlattenedEvents,
    rooms: HashMap<ShortRoomId, Room<'a>>,
    /// The newest event of each room that was not looked at yet.
    heads: BinaryHeap<Head>,
    cost: usize,
}

/// The next event to look at in a room; the greatest is the newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Head {
    place: i64,
    room: ShortRoomId,
    event: ShortEventId,
    /// It is an invite of the user, and nothing before it in the room is listed.
    is_last: bool,
}

/// A room that something was looked at in.
struct Room<'a> {
    id: OwnedRoomId,
    evaluator: Evaluator<'a>,
    viewer: Viewer<'a>,
    read_upto: ReadUpTo,
}

impl Notifications {
    /// Of what happens in `graph`.
    #[must_use]
    pub fn new(resources: Resources, graph: Arc<Graph>) -> Self {
        Self { resources, graph, rules: Arc::default(), events: Arc::default() }
    }

    /// The notifications from the token `from` on, or the newest, of all rooms the session's user is in or
    /// invited to.
    ///
    /// # Errors
    /// `M_INVALID_PARAM` if `from` is no token of this server, `M_LIMIT_EXCEEDED` if too many requests of the
    /// user wait already.
    pub async fn list(
        &self,
        session: &Arc<Session>,
        from: Option<&str>,
        wanted: Wanted,
    ) -> Result<Page> {
        let from = from.map_or(Ok(i64::MAX), from_token)?;
        let (this, session) = (self.clone(), Arc::clone(session));
        let user = session.user;
        let job = move || this.list_now(&session, from, wanted);
        self.resources.workers.run(&user, job).await
    }

    fn list_now(&self, session: &Session, from: i64, wanted: Wanted) -> Result<Page> {
        let read = self.resources.database.published();
        let mut lister = Lister {
            graph: &self.graph,
            read: &read,
            session,
            ignored: Arc::new(account_data::ignored_users(&read, session.user, &session.user_id)?),
            invites: InviteFilter::of(&read, session.user)?,
            rules: self.rules.get(&read, session.into())?,
            events: &self.events,
            rooms: HashMap::new(),
            heads: BinaryHeap::new(),
            cost: 0,
        };
        lister.begin(from)?;
        lister.list(wanted)
    }
}

impl Lister<'_> {
    fn begin(&mut self, from: i64) -> Result<()> {
        for row in self.graph.rooms_of(self.read, self.session.user) {
            let (room, member) = row?;
            match member.membership {
                Membership::Join => self.add_head(room, from)?,
                Membership::Invite => self.add_invite(room, member.event, from)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// The newest event of a room up to a place comes next in it.
    fn add_head(&mut self, room: ShortRoomId, upto: i64) -> Result<()> {
        let mut timeline = self.graph.timeline(self.read, room, upto, Direction::Backward);
        if let Some(TimelineItem { place, event }) = timeline.next().transpose()? {
            self.heads.push(Head { place, room, event, is_last: false });
        }
        Ok(())
    }

    /// An invite of the user comes next, and last, in a room.
    fn add_invite(&mut self, room: ShortRoomId, event: ShortEventId, upto: i64) -> Result<()> {
        let place = self.graph.place(self.read, event)?.and_then(|place| place.position);
        if let Some(place) = place.filter(|place| *place <= upto) {
            self.heads.push(Head { place, room, event, is_last: true });
        }
        Ok(())
    }

    fn list(mut self, wanted: Wanted) -> Result<Page> {
        let mut page = Page { notifications: Vec::new(), next: None };
        let mut looked_at = 0_usize;
        while let Some(Head { place, room, event, is_last }) = self.heads.pop() {
            let is_full = page.notifications.len() >= wanted.limit;
            if is_full || looked_at >= LOOKED_AT || self.cost > MATCHED_BYTES {
                page.next = Some(to_token(place));
                break;
            }
            looked_at = looked_at.saturating_add(1);
            let pdu = self.graph.load_event(self.read, event)?;
            let item = TimelineItem { place, event };
            if pdu.sender == self.session.user_id {
                self.look_at_own(room, item, &pdu)?;
                continue;
            }
            let is_hidden = self.ignored.contains(&pdu.sender)
                || (is_last && self.invites.action(&pdu.sender) != InviteAction::Allow);
            if !is_hidden {
                page.notifications.extend(self.notification(room, item, &pdu, wanted)?);
            }
            if !is_last {
                self.add_head(room, place.saturating_sub(1))?;
            }
        }
        Ok(page)
    }

    /// Continues after an event of the user's own: from their join with the invitation that
    /// they accepted, as earlier events do not concern them.
    fn look_at_own(
        &mut self,
        room: ShortRoomId,
        item: TimelineItem,
        pdu: &SharedPdu,
    ) -> Result<()> {
        let TimelineItem { place, event } = item;
        let before = place.saturating_sub(1);
        if is_arrival(self.graph, self.read, event, pdu)? {
            let user_id = self.session.user_id.as_str();
            return match accepted_invite(self.graph, self.read, event, user_id)? {
                Some(invite) => self.add_invite(room, invite, before),
                None => Ok(()),
            };
        }
        if is_own_reading(pdu) {
            let thread = thread_of(self.graph, self.read, pdu)?;
            let root = self.event_id(thread)?;
            self.room(room)?.read_upto.read(place, root);
        }
        self.add_head(room, before)
    }

    fn notification(
        &mut self,
        room: ShortRoomId,
        item: TimelineItem,
        pdu: &SharedPdu,
        wanted: Wanted,
    ) -> Result<Option<Notification>> {
        let mut cost = self.cost;
        let verdict = self.room(room)?.evaluator.evaluate(&item, pdu, &mut cost)?;
        self.cost = cost;
        let Some(verdict) = verdict else { return Ok(None) };
        if wanted.only_highlights && !verdict.highlights() {
            return Ok(None);
        }
        let Verdict { actions, thread } = verdict;
        let root = self.event_id(thread)?;
        let room = self.room(room)?;
        let Some(event) = room.viewer.show_if_visible(item.event, Show::SYNC)? else {
            return Ok(None);
        };
        Ok(Some(Notification {
            actions,
            event,
            is_read: room.read_upto.covers(item.place, root.as_deref()),
            room_id: room.id.clone(),
            at: pdu.origin_server_ts,
        }))
    }

    fn event_id(&self, event: Option<ShortEventId>) -> Result<Option<OwnedEventId>> {
        match event {
            Some(event) => Ok(self.graph.intern().event_id(self.read, event)?),
            None => Ok(None),
        }
    }
}

impl<'a> Lister<'a> {
    fn room(&mut self, room: ShortRoomId) -> Result<&mut Room<'a>> {
        let (graph, read, session) = (self.graph, self.read, self.session);
        let vacant = match self.rooms.entry(room) {
            Entry::Occupied(known) => return Ok(known.into_mut()),
            Entry::Vacant(vacant) => vacant,
        };
        let id = graph.intern().room_id(read, room)?;
        let device = Some(&*session.device_id);
        let by = (Arc::clone(&self.rules), self.events);
        Ok(vacant.insert(Room {
            id: id.ok_or_else(|| Error::corrupt("a joined room has no room id"))?,
            evaluator: Evaluator::new(graph, read, room, session.into(), by)?,
            viewer: Viewer::new(graph, read, room, &session.user_id, device)?
                .ignoring(Arc::clone(&self.ignored)),
            read_upto: read_upto(read, room, session.user)?,
        }))
    }
}
