//! Read receipts and read markers: how far users have read.
//!
//! Invariants: a receipt never moves backwards; a private one is visible to its own user only.

use std::sync::Arc;

use ruma::{
    EventId, OwnedEventId, RoomId, UserId,
    events::receipt::{Receipt as ReceiptContent, ReceiptThread},
};
use serde::{Deserialize, Serialize};
use wick_account::{Session, account_data};
use wick_core::{Error, Pdu, Position, Result, ShortEventId, ShortRoomId, ShortUserId, Timestamp};
use wick_database::{
    Batch, Durability, Range, Read,
    schema::{
        ephemeral::{
            MovedReceipt, RECEIPT_BY_STREAM, RECEIPT_BY_USER, RECEIPT_CHANGE_BY_POSITION,
            ReceiptKind, ReceiptName, ReceiptRow,
        },
        room::Membership,
    },
};
use wick_room::{Graph, RelatesTo};
use wick_runtime::Resources;

/// The account data type of the marker that only its user sees.
const FULLY_READ: &str = "m.fully_read";

/// How many events of one receipt of another server are looked for.
const MAX_RECEIVED: usize = 10;

/// What a user has read.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// Where the read marker goes.
    pub fully_read: Option<OwnedEventId>,
    /// Where the public receipt goes.
    pub public: Option<OwnedEventId>,
    /// Where the private receipt goes.
    pub private: Option<OwnedEventId>,
    /// What the receipts are about.
    pub thread: ReceiptThread,
}

/// The receipts of users.
pub struct Receipts {
    resources: Resources,
    graph: Arc<Graph>,
}

/// An event of the room with its place.
struct Mark {
    event_id: OwnedEventId,
    place: i64,
    /// When it was read.
    at: Timestamp,
}

#[derive(Serialize, Deserialize)]
struct FullyRead {
    event_id: OwnedEventId,
}

impl Receipts {
    /// Receipts for events of these rooms.
    #[must_use]
    pub fn new(resources: Resources, graph: Arc<Graph>) -> Self {
        Self { resources, graph }
    }

    /// Moves what is given, all at once. What is there already, or further on, stays.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if the user is not in the room, `M_NOT_FOUND` if an event is not, and
    /// `M_INVALID_PARAM` if the thread is none, or does not have the event.
    pub async fn read(&self, session: &Session, room_id: &RoomId, read: &Reading) -> Result<()> {
        let thread = thread_key(&read.thread)?;
        if read.fully_read.is_some() && !thread.is_empty() {
            return Err(Error::invalid_param("the read marker is not about a thread"));
        }
        let (room, user) = (self.joined(session.user, room_id)?, session.user);
        let [fully_read, public, private] = [&read.fully_read, &read.public, &read.private]
            .map(|event_id| event_id.as_deref().map(|id| self.mark(room, id)).transpose());
        let (fully_read, public, private) = (fully_read?, public?, private?);
        for mark in [&public, &private].into_iter().flatten() {
            self.ensure_in_thread(mark, &read.thread)?;
        }
        self.resources
            .change_with(Durability::Flushed, |batch| {
                if let Some(mark) = &fully_read {
                    self.put_marker(user, room, mark, batch)?;
                }
                if let Some(mark) = &public {
                    self.put(&(room, user, ReceiptKind::Public, thread), mark, batch)?;
                }
                if let Some(mark) = &private {
                    self.put(&(room, user, ReceiptKind::Private, thread), mark, batch)?;
                }
                Ok(())
            })
            .await
    }

    /// Moves the public receipt of a user of another server. Events that are not here are passed over.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if the user is not in the room, and `M_INVALID_PARAM` if the thread is none.
    pub async fn receive(
        &self,
        user_id: &UserId,
        room_id: &RoomId,
        (receipt, event_ids): (&ReceiptContent, &[OwnedEventId]),
    ) -> Result<()> {
        let thread = thread_key(&receipt.thread)?;
        let read = self.resources.database.published();
        let user = self.graph.intern().lookup_user(&read, user_id)?;
        let user = user.ok_or_else(|| Error::forbidden("the user is not in this room"))?;
        let room = self.joined(user, room_id)?;
        let now = self.resources.clock.now();
        let at = receipt.ts.map_or(now, |at| Timestamp::from(at).min(now));
        let mut newest = None::<Mark>;
        for event_id in event_ids.iter().take(MAX_RECEIVED) {
            if let Some(place) = self.place(room, event_id)?
                && newest.as_ref().is_none_or(|newest| newest.place < place)
            {
                newest = Some(Mark { event_id: event_id.clone(), place, at });
            }
        }
        let Some(mark) = newest else { return Ok(()) };
        let key = (room, user, ReceiptKind::Public, thread);
        let put = |batch: &mut Batch| self.put(&key, &mark, batch);
        self.resources.change_with(Durability::Flushed, put).await
    }

    fn joined(&self, user: ShortUserId, room_id: &RoomId) -> Result<ShortRoomId> {
        let read = self.resources.database.published();
        if let Some(room) = self.graph.short(&read, room_id)?
            && let Some(member) = self.graph.member(&read, room, user)?
            && member.membership == Membership::Join
        {
            return Ok(room);
        }
        Err(Error::forbidden("you are not in this room"))
    }

    /// Refuses a threaded receipt for an event of another thread. The root of a thread is in the main
    /// timeline and in its thread, and so is what relates to the root by anything but `m.thread`.
    fn ensure_in_thread(&self, mark: &Mark, thread: &ReceiptThread) -> Result<()> {
        let (graph, read) = (&self.graph, &self.resources.database.published());
        let Some((_, pdu)) = graph.event_by_id(read, &mark.event_id)? else { return Ok(()) };
        let own = first_relation(graph, read, &pdu, |relation| relation.rel_type == "m.thread")?;
        let fits = match (thread, own) {
            (ReceiptThread::Main, own) => own.is_none(),
            (ReceiptThread::Thread(root), Some(own)) => own.event_id == *root,
            (ReceiptThread::Thread(root), None) => {
                let leads_to_root = |relation: &RelatesTo| relation.event_id == *root;
                *root == mark.event_id
                    || first_relation(graph, read, &pdu, leads_to_root)?.is_some()
            }
            _ => true,
        };
        if fits { Ok(()) } else { Err(Error::invalid_param("this event is not in the thread")) }
    }

    fn mark(&self, room: ShortRoomId, event_id: &EventId) -> Result<Mark> {
        self.place(room, event_id)?
            .map(|place| Mark {
                event_id: event_id.to_owned(),
                place,
                at: self.resources.clock.now(),
            })
            .ok_or_else(|| Error::not_found("this event is not in the room"))
    }

    fn place(&self, room: ShortRoomId, event_id: &EventId) -> Result<Option<i64>> {
        let read = self.resources.database.published();
        let Some(event) = self.graph.intern().lookup_event(&read, event_id)? else {
            return Ok(None);
        };
        let place = self.graph.place(&read, event)?.filter(|place| place.room == room);
        Ok(place.and_then(|place| place.position))
    }

    fn put(
        &self,
        (room, user, kind, thread): &(ShortRoomId, ShortUserId, ReceiptKind, &str),
        mark: &Mark,
        batch: &mut Batch,
    ) -> Result<()> {
        let (room, user, kind) = (*room, *user, *kind as u8);
        let key = (room, user, kind, (*thread).to_owned());
        let old = batch.read_for_update(&RECEIPT_BY_USER, &key)?;
        if old.as_ref().is_some_and(|old| old.place >= mark.place) {
            return Ok(());
        }
        if let Some(old) = old {
            batch.delete(&RECEIPT_CHANGE_BY_POSITION, &(room, old.position));
            batch.delete(&RECEIPT_BY_STREAM, &old.position);
        }
        let name = ReceiptName { user, kind, thread: (*thread).to_owned() };
        let (event_id, place) = (mark.event_id.clone(), mark.place);
        let at = mark.at;
        let slot = batch.reserve_position();
        batch.put_at(slot, &RECEIPT_BY_USER, move |position| {
            (key, ReceiptRow { position, event_id, place, at })
        });
        batch.put_at(slot, &RECEIPT_CHANGE_BY_POSITION, move |position| ((room, position), name));
        let moved = MovedReceipt { room, user };
        batch.put_at(slot, &RECEIPT_BY_STREAM, move |position| (position, moved));
        Ok(())
    }

    fn put_marker(
        &self,
        user: ShortUserId,
        room: ShortRoomId,
        mark: &Mark,
        batch: &mut Batch,
    ) -> Result<()> {
        account_data::update(user, Some(room), FULLY_READ, batch, |content| {
            let old = content.and_then(|content| serde_json::from_str::<FullyRead>(content).ok());
            if let Some(old) = old
                && self.place(room, &old.event_id)?.is_some_and(|place| place >= mark.place)
            {
                return Ok(content.map(str::to_owned));
            }
            serde_json::to_string(&FullyRead { event_id: mark.event_id.clone() })
                .map(Some)
                .map_err(|error| Error::internal("a read marker", error))
        })
    }
}

/// The thread as part of a key.
fn thread_key(thread: &ReceiptThread) -> Result<&str> {
    match thread {
        ReceiptThread::Unthreaded => Ok(""),
        ReceiptThread::Main | ReceiptThread::Thread(_) => Ok(thread.as_str().unwrap_or_default()),
        _ => Err(Error::invalid_param("a thread is \"main\" or the id of its root")),
    }
}

/// How many relations are followed from an event to the thread it is in.
///
/// <https://spec.matrix.org/v1.18/client-server-api/#threaded-read-receipts>
const MAX_HOPS: usize = 3;

/// The root of the thread that an event is in.
///
/// # Errors
/// If the database cannot be read.
pub fn thread_of(graph: &Graph, read: &impl Read, pdu: &Pdu) -> Result<Option<ShortEventId>> {
    let relation = first_relation(graph, read, pdu, |relation| relation.rel_type == "m.thread")?;
    let Some(RelatesTo { event_id, .. }) = relation else { return Ok(None) };
    Ok(graph.intern().lookup_event(read, &event_id)?)
}

/// The first relation that is wanted, of an event or of those that it relates to.
fn first_relation(
    graph: &Graph,
    read: &impl Read,
    pdu: &Pdu,
    is_wanted: impl Fn(&RelatesTo) -> bool,
) -> Result<Option<RelatesTo>> {
    let mut relation = RelatesTo::of(&pdu.content);
    for _ in 0..MAX_HOPS {
        let Some(current) = relation else { return Ok(None) };
        if is_wanted(&current) {
            return Ok(Some(current));
        }
        let Some(parent) = graph.intern().lookup_event(read, &current.event_id)? else {
            return Ok(None);
        };
        let Some(pdu) = graph.event(read, parent)? else { return Ok(None) };
        relation = RelatesTo::of(&pdu.content);
    }
    Ok(None)
}

/// A receipt with what it is.
pub struct Receipt {
    /// Its type and thread.
    pub name: ReceiptName,
    /// The event it is for.
    pub row: ReceiptRow,
}

/// All receipts of one user in a room.
pub fn of_user(read: &impl Read, room: ShortRoomId, user: ShortUserId) -> Result<Vec<Receipt>> {
    collect(read, Range::prefix((room, user)))
}

/// All receipts of a room.
pub fn of_room(read: &impl Read, room: ShortRoomId) -> Result<Vec<Receipt>> {
    collect(read, Range::prefix((room,)))
}

fn collect(
    read: &impl Read,
    range: Range<(ShortRoomId, ShortUserId, u8, String)>,
) -> Result<Vec<Receipt>> {
    let mut receipts = Vec::new();
    for row in read.scan(&RECEIPT_BY_USER, range) {
        let ((_, user, kind, thread), row) = row?;
        receipts.push(Receipt { name: ReceiptName { user, kind, thread }, row });
    }
    Ok(receipts)
}

/// The receipts of a room that moved after `since`, up to and including `upto`.
pub fn moved(
    read: &impl Read,
    room: ShortRoomId,
    since: Position,
    upto: Position,
) -> Result<Vec<Receipt>> {
    let range = Range::between(&(room, since.next()), &(room, upto.next()));
    let mut receipts = Vec::new();
    for row in read.scan(&RECEIPT_CHANGE_BY_POSITION, range) {
        let (_, name) = row?;
        let key = (room, name.user, name.kind, &name.thread);
        let row = read
            .get(&RECEIPT_BY_USER, &key)?
            .ok_or_else(|| Error::corrupt("a receipt that moved is not there"))?;
        receipts.push(Receipt { name, row });
    }
    Ok(receipts)
}
