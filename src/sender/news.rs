//! Finds out which destinations each piece of news is for, and puts it into their queues.
//!
//! Invariants: an event is queued for the servers that were in the room before or after it, and for the server of a user
//! whose invitation or knock it ends, but for none that the room's ACL denied before it; events by users of other servers only if they came over this server. What comes again,
//! after a crash, is not queued for a destination that has acknowledged it. Nothing grows without bound for a destination
//! that is out of reach.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, hash_map::Entry},
    sync::Arc,
};

use ruma::{OwnedEventId, OwnedServerName, ServerName, UserId, events::TimelineEventType};
use wick_core::{Error, Pdu, Position, Result, ShortRoomId, StateRoot};
use wick_database::{
    Batch, Durability, Range, Read,
    schema::{
        ephemeral::{PRESENCE_CHANGE_BY_POSITION, RECEIPT_BY_STREAM},
        outgoing::{
            DestinationProgress, EDU_BY_STREAM, FORWARDED_BY_EVENT, Gap, OUTGOING_BY_DESTINATION,
            Outgoing, PROGRESS_BY_DESTINATION, QueuedEdu,
        },
        room::{Membership, Place},
        stream::StreamEntry,
    },
};
use wick_room::{Acl, Graph, membership};
use wick_runtime::{Consumer, Span};

use crate::{
    bounds::{Kept, Kind, as_message},
    edus,
    sender::Shared,
};

/// How many rows are written in one batch.
const BATCH: usize = 1_000;

/// How much a destination that does not answer has in its queue before it is caught up with otherwise.
const MAX_QUEUED: usize = 100;

/// How much a destination has in its queue at most for EDUs to be added that mean nothing later.
const MAX_QUEUED_BEFORE_TRANSIENT: usize = 1_000;

/// Queues what is news to other servers.
#[derive(Clone)]
pub(crate) struct News(pub(crate) Arc<Shared>);

/// What a piece of news is worth to a destination that is out of reach.
#[derive(Clone, PartialEq, Eq)]
enum Worth {
    /// It is sent later.
    Lasting,
    /// It is sent later, unless there are too many of its kind.
    Limited,
    /// It is sent later in place of an earlier one of this subject.
    Newest(String),
    /// What comes after it will do.
    Replaceable,
    /// It is dropped.
    Transient,
}

/// A piece of news for a destination.
struct Item {
    what: Outgoing,
    worth: Worth,
}

/// What a span amounts to.
#[derive(Default)]
pub(crate) struct Found {
    items: BTreeMap<(OwnedServerName, Position), Item>,
    /// EDUs that are queued with it.
    edus: Vec<Position>,
    /// Events that are forwarded with it.
    forwarded: Vec<OwnedEventId>,
    /// Presence for servers that get to know of users. It has places of its own behind the span.
    presence: Vec<QueuedEdu>,
}

/// What states of rooms say of servers, each looked up once for a span.
#[derive(Default)]
struct States {
    servers: HashMap<(ShortRoomId, StateRoot), BTreeSet<OwnedServerName>>,
    acls: HashMap<StateRoot, Acl>,
}

impl Consumer for News {
    async fn consume(&self, span: &Span) -> Result<bool> {
        let resources = &self.0.resources;
        let (this, span, upto) = (self.clone(), span.clone(), span.upto);
        let find = move || {
            let mut found = this.find(&span)?;
            this.drop_unwanted(&mut found)?;
            Ok(found)
        };
        let found = resources.workers.run(&"sender", find).await?;
        if found.is_empty() {
            self.0.federation.deliveries.note_queued(upto);
            return Ok(false);
        }
        let Found { items, edus, forwarded, presence } = found;
        let destinations: BTreeSet<_> = items.keys().map(|(server, _)| server.clone()).collect();
        let items: Vec<_> = items.into_iter().collect();
        for rows in items.chunks(BATCH) {
            let queue = |batch: &mut Batch| self.queue(batch, rows);
            resources.change_with(Durability::Flushed, queue).await?;
        }
        // What is deleted only now is queued again after a crash before.
        let delete = |batch: &mut Batch| {
            edus.iter().for_each(|position| batch.delete(&EDU_BY_STREAM, position));
            forwarded.iter().for_each(|event| batch.delete(&FORWARDED_BY_EVENT, event));
            for edu in &presence {
                let (slot, edu) = (batch.reserve_position(), edu.clone());
                batch.put_at(slot, &EDU_BY_STREAM, move |position| (position, edu));
            }
            Ok(())
        };
        resources.change_with(Durability::Flushed, delete).await?;
        self.0.federation.deliveries.note_queued(upto);
        destinations.iter().try_for_each(|server| self.0.wake(server))?;
        Ok(true)
    }
}

impl Worth {
    /// What an EDU is worth that means something later, JSON text.
    fn of(json: &str) -> Self {
        match Kind::of(json) {
            Kind::Message => Self::Limited,
            Kind::Newest(subject) => Self::Newest(subject),
            Kind::Other => Self::Lasting,
        }
    }
}

impl Found {
    fn is_empty(&self) -> bool {
        let Self { items, edus, forwarded, presence } = self;
        items.is_empty() && edus.is_empty() && forwarded.is_empty() && presence.is_empty()
    }
}

impl States {
    /// Looks up the servers in a state of a room.
    fn look_up(
        &mut self,
        graph: &Graph,
        read: &impl Read,
        at: (ShortRoomId, StateRoot),
    ) -> Result<()> {
        if let Entry::Vacant(unknown) = self.servers.entry(at) {
            unknown.insert(graph.servers_at(read, at.0, at.1)?);
        }
        if let Entry::Vacant(unknown) = self.acls.entry(at.1) {
            unknown.insert(graph.acl_at(read, at.1)?);
        }
        Ok(())
    }

    fn servers(&self, at: (ShortRoomId, StateRoot)) -> impl Iterator<Item = &OwnedServerName> {
        self.servers.get(&at).into_iter().flatten()
    }

    fn allows(&self, root: StateRoot, server: &ServerName) -> bool {
        self.acls.get(&root).is_none_or(|acl| acl.allows(server))
    }
}

impl News {
    /// Puts rows into the queues of their destinations, which are in order.
    fn queue(&self, batch: &mut Batch, rows: &[((OwnedServerName, Position), Item)]) -> Result<()> {
        for of_one in rows.chunk_by(|one, other| one.0.0 == other.0.0) {
            let Some(((server, first), _)) = of_one.first() else { continue };
            let mut progress = batch.get(&PROGRESS_BY_DESTINATION, server)?.unwrap_or_default();
            let is_out_of_reach = self.0.federation.retry_at(server)?.is_some();
            let has_queued = |batch: &Batch, many: usize| {
                let queued = Range::prefix((server.clone(),));
                batch.scan(&OUTGOING_BY_DESTINATION, queued).keys().nth(many - 1).transpose()
            };
            if progress.gap.is_none() && is_out_of_reach && has_queued(batch, MAX_QUEUED)?.is_some()
            {
                progress = open_gap(batch, server, first.previous())?;
            }
            let has_transient = of_one.iter().any(|(_, item)| item.worth == Worth::Transient);
            let takes_transient = has_transient
                && !is_out_of_reach
                && has_queued(batch, MAX_QUEUED_BEFORE_TRANSIENT)?.is_none();
            let config = &self.0.resources.config.federation;
            let mut kept = Kept::new(server, is_out_of_reach, config);
            for ((_, position), item) in of_one {
                if *position <= progress.acknowledged {
                    continue;
                }
                let is_wanted = match &item.worth {
                    Worth::Lasting => true,
                    Worth::Limited => kept.admits(batch, (*position, as_message(&item.what)))?,
                    Worth::Newest(subject) => {
                        kept.replace(batch, subject, *position)?;
                        true
                    }
                    Worth::Replaceable => !is_in(progress.gap.as_ref(), *position),
                    Worth::Transient => takes_transient,
                };
                if is_wanted {
                    let key = (server.clone(), *position);
                    batch.put(&OUTGOING_BY_DESTINATION, &key, &item.what);
                }
            }
            kept.close(batch);
        }
        Ok(())
    }

    /// Drops what would not be queued for destinations that are out of reach, before a batch is made for it. A gap that is
    /// open now, after the span was read, will end beyond it.
    fn drop_unwanted(&self, found: &mut Found) -> Result<()> {
        let read = self.0.resources.database.latest();
        let servers: BTreeSet<_> = found.items.keys().map(|(server, _)| server).collect();
        let mut out_of_reach = HashMap::new();
        for server in servers {
            if self.0.federation.retry_at(server)?.is_some() {
                let progress = read.get(&PROGRESS_BY_DESTINATION, server)?;
                let gap = progress.and_then(|progress| progress.gap);
                out_of_reach.insert(server.clone(), gap.is_some_and(|gap| gap.upto.is_none()));
            }
        }
        found.items.retain(|(server, _), item| match (out_of_reach.get(server), &item.worth) {
            (Some(in_gap), Worth::Replaceable) => !in_gap,
            (Some(_), Worth::Transient) => false,
            _ => true,
        });
        Ok(())
    }

    fn find(&self, span: &Span) -> Result<Found> {
        let mut found = Found::default();
        let mut states = States::default();
        for (position, entry) in span.events()? {
            self.find_event(span, (position, entry), &mut states, &mut found)?;
        }
        let (read, shared) = (&span.read, &self.0);
        let range = || Range::after(&span.after).and(Range::through(&span.upto));
        for row in read.scan(&EDU_BY_STREAM, range()) {
            let (position, edu) = row?;
            found.edus.push(position);
            let worth = match edu.is_transient {
                true => Worth::Transient,
                false => Worth::of(&edu.json),
            };
            let to = edu.destinations;
            self.add(&mut found, (to, worth), position, &Outgoing::Edu(edu.json));
        }
        for row in read.scan(&RECEIPT_BY_STREAM, range()) {
            let (position, moved) = row?;
            if let Some((json, to)) =
                edus::receipt(shared, read, (moved.room, moved.user, position))?
            {
                self.add(&mut found, (to, Worth::Transient), position, &Outgoing::Edu(json));
            }
        }
        for row in read.scan(&PRESENCE_CHANGE_BY_POSITION, range()) {
            let (position, user) = row?;
            if let Some((json, to)) = edus::presence(shared, read, (user, position))? {
                self.add(&mut found, (to, Worth::Transient), position, &Outgoing::Edu(json));
            }
        }
        Ok(found)
    }

    /// Finds the destinations of an event.
    fn find_event(
        &self,
        span: &Span,
        (position, StreamEntry { room, event }): (Position, StreamEntry),
        states: &mut States,
        found: &mut Found,
    ) -> Result<()> {
        let (read, graph) = (&span.read, &self.0.graph);
        let pdu = graph.load_event(read, event)?;
        let own = graph.server_name();
        let is_forwarded = pdu.sender.server_name() != own && is_forwarded(read, &pdu)?;
        let is_sent = pdu.sender.server_name() == own || is_forwarded;
        if !is_sent && !membership::is_join(&pdu) {
            return Ok(());
        }
        if is_forwarded {
            found.forwarded.push(pdu.event_id.clone());
        }
        let place = graph.place(read, event)?;
        let place = place.ok_or_else(|| Error::corrupt("an event of the stream has no place"))?;
        let (before, after) = ((room, place.before), (room, place.after));
        states.look_up(graph, read, before)?;
        states.look_up(graph, read, after)?;
        self.add_presence(read, (&pdu, &place), (states, room), found)?;
        // A user of this server who joined over another one: that server has sent the event to all others.
        if !is_sent || !states.servers(before).any(|server| *server == own) {
            return Ok(());
        }
        let mut to: BTreeSet<_> =
            states.servers(before).chain(states.servers(after)).cloned().collect();
        let target = self.member_of_other_server(read, &pdu, &place)?;
        to.extend(target.clone());
        to.remove(pdu.sender.server_name());
        // The state before it decides, so that a server gets the list that denies it.
        to.retain(|server| states.allows(place.before, server));
        let what = Outgoing::Event(event);
        // After it the server may have no part in the room, so nothing will replace it.
        if let Some(target) = target
            && to.remove(&target)
        {
            self.add(found, ([target], Worth::Lasting), position, &what);
        }
        let worth = match pdu.state_key.as_deref() {
            // No newer event of this server leads there.
            Some(user) if is_forwarded => Worth::Newest(format!("member {} {user}", pdu.room_id)),
            _ => Worth::Replaceable,
        };
        self.add(found, (to, worth), position, &what);
        Ok(())
    }

    /// Adds the presence of users that servers get to know of by a join: of a server, or of a local user.
    fn add_presence(
        &self,
        read: &impl Read,
        (pdu, place): (&Pdu, &Place),
        (states, room): (&States, ShortRoomId),
        found: &mut Found,
    ) -> Result<()> {
        let (shared, graph) = (&self.0, &self.0.graph);
        if !shared.resources.config.presence.enabled || !membership::is_join(pdu) {
            return Ok(());
        }
        let (own, before, after) = (graph.server_name(), (room, place.before), (room, place.after));
        let others = states.servers(after).filter(|server| *server != own).cloned();
        let user_id = pdu.state_key.as_deref().and_then(|key| <&UserId>::try_from(key).ok());
        match user_id {
            Some(user_id) if user_id.server_name() == own => {
                let Some(user) = graph.intern().lookup_user(read, user_id)? else { return Ok(()) };
                let others: Vec<_> = others.collect();
                let was = graph.membership_at(read, place.before, user_id)?;
                if !others.is_empty() && was != Some(Membership::Join) {
                    found.presence.extend(edus::presence_of(shared, read, user, &others)?);
                }
            }
            _ => {
                let known: BTreeSet<_> = states.servers(before).cloned().collect();
                let new: Vec<_> = others.filter(|server| !known.contains(server)).collect();
                if !new.is_empty() {
                    found.presence.extend(edus::presence_in(shared, read, room, &new)?);
                }
            }
        }
        Ok(())
    }

    /// The server of a user whom an event removes from the room, or whose invitation or knock it ends.
    fn member_of_other_server(
        &self,
        read: &impl Read,
        pdu: &Pdu,
        place: &Place,
    ) -> Result<Option<OwnedServerName>> {
        let graph = &self.0.graph;
        let is_member = pdu.event_type == TimelineEventType::RoomMember;
        let key = pdu.state_key.as_deref().filter(|_| is_member);
        let Some(user) = key.and_then(|key| <&UserId>::try_from(key).ok()) else { return Ok(None) };
        if !matches!(membership::of(pdu), Some(Membership::Leave | Membership::Ban)) {
            return Ok(None);
        }
        let was = graph.membership_at(read, place.before, user)?;
        let was_there =
            matches!(was, Some(Membership::Join | Membership::Invite | Membership::Knock));
        Ok(was_there.then(|| user.server_name().to_owned()))
    }

    /// Adds a piece of news for each destination that this server talks to.
    fn add(
        &self,
        found: &mut Found,
        (destinations, worth): (impl IntoIterator<Item = OwnedServerName>, Worth),
        position: Position,
        what: &Outgoing,
    ) {
        for server in destinations {
            if self.0.federation.ensure_allowed(&server).is_ok() {
                let item = Item { what: what.clone(), worth: worth.clone() };
                found.items.insert((server, position), item);
            }
        }
    }
}

/// Whether an event of another server came over this one.
fn is_forwarded(read: &impl Read, pdu: &Pdu) -> Result<bool> {
    let is_member = pdu.event_type == TimelineEventType::RoomMember;
    Ok(is_member && read.contains(&FORWARDED_BY_EVENT, &pdu.event_id)?)
}

/// Leaves out of a queue what comes after a position.
fn open_gap(
    batch: &mut Batch,
    server: &ServerName,
    after: Position,
) -> Result<DestinationProgress> {
    let progress = batch.read_for_update(&PROGRESS_BY_DESTINATION, server)?.unwrap_or_default();
    let gap = progress.gap.clone().unwrap_or(Gap { after, upto: None, room: None });
    let progress = DestinationProgress { gap: Some(gap), ..progress };
    batch.put(&PROGRESS_BY_DESTINATION, server, &progress);
    Ok(progress)
}

/// Whether a position is in a gap.
fn is_in(gap: Option<&Gap>, position: Position) -> bool {
    gap.is_some_and(|gap| gap.after < position && gap.upto.is_none_or(|upto| position <= upto))
}
