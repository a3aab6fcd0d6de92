//! How much is unread over all rooms of a user: the badge in the requests to push gateways.
//!
//! In memory: the count of each of a user's rooms, at a position.
//!
//! Invariant: what is remembered of a room is counted again once something was written in the room since, and all of it
//! once a membership of the user or the list of users they ignore changed.

use std::{
    collections::{HashMap, HashSet},
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
};

use quick_cache::sync::Cache;
use ruma::OwnedUserId;
use wick_core::{Position, Result, ShortRoomId, ShortUserId};
use wick_database::{Database, Snapshot, schema::room::Membership};
use wick_room::{Graph, to_place};

use crate::{Counts, Recipient};

/// Users that are remembered.
const USERS: usize = 10_000;

/// How much is unread. An invitation counts as a room with one message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Badge {
    /// Rooms with something unread that notifies.
    pub rooms: u64,
    /// Unread messages that notify.
    pub messages: u64,
}

/// Counts what is unread over all rooms.
pub struct Badges {
    database: Database,
    graph: Arc<Graph>,
    counts: Arc<Counts>,
    known: Cache<ShortUserId, Arc<Mutex<Known>>>,
}

/// What was counted for a user.
#[derive(Default)]
struct Known {
    at: Option<Position>,
    ignored: Arc<HashSet<OwnedUserId>>,
    /// Of each room the user is in.
    joined: HashMap<ShortRoomId, u64>,
    invitations: u64,
}

impl Known {
    fn badge(&self) -> Badge {
        let unread = self.joined.values().filter(|unread| **unread > 0);
        let rooms = u64::try_from(unread.count()).unwrap_or(u64::MAX);
        let messages =
            self.joined.values().fold(self.invitations, |sum, unread| sum.saturating_add(*unread));
        Badge { rooms: rooms.saturating_add(self.invitations), messages }
    }
}

impl Badges {
    /// Counts in these rooms.
    #[must_use]
    pub fn new(database: Database, graph: Arc<Graph>, counts: Arc<Counts>) -> Self {
        Self { database, graph, counts, known: Cache::new(USERS) }
    }

    /// The unread count of a user who ignores these others, at the snapshot or later.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn badge(
        &self,
        read: &Snapshot,
        recipient: Recipient<'_>,
        ignored: &Arc<HashSet<OwnedUserId>>,
    ) -> Result<Badge> {
        let entry =
            self.known.get_or_insert_with(&recipient.user, || Ok::<_, Infallible>(Arc::default()));
        let entry = match entry {
            Ok(entry) => entry,
            Err(never) => match never {},
        };
        let mut known = entry.lock().unwrap_or_else(PoisonError::into_inner);
        let is_same = known.ignored == *ignored;
        match known.at {
            Some(at) if is_same && at >= read.position() => {}
            Some(at) if is_same && !self.database.is_member_changed_since(recipient.user, at) => {
                for (room, unread) in &mut known.joined {
                    if self.database.is_busy_since(*room, at) {
                        *unread = self.unread(read, recipient, *room, ignored)?;
                    }
                }
                known.at = Some(read.position());
            }
            _ => *known = self.count(read, recipient, ignored)?,
        }
        Ok(known.badge())
    }

    fn count(
        &self,
        read: &Snapshot,
        recipient: Recipient<'_>,
        ignored: &Arc<HashSet<OwnedUserId>>,
    ) -> Result<Known> {
        let (mut joined, mut invitations) = (HashMap::new(), 0_u64);
        for row in self.graph.rooms_of(read, recipient.user) {
            let (room, member) = row?;
            match member.membership {
                Membership::Join => {
                    joined.insert(room, self.unread(read, recipient, room, ignored)?);
                }
                Membership::Invite => {
                    let sender = &self.graph.load_event(read, member.event)?.sender;
                    let counts = u64::from(!ignored.contains(sender));
                    invitations = invitations.saturating_add(counts);
                }
                _ => {}
            }
        }
        let (at, ignored) = (Some(read.position()), Arc::clone(ignored));
        Ok(Known { at, ignored, joined, invitations })
    }

    fn unread(
        &self,
        read: &Snapshot,
        recipient: Recipient<'_>,
        room: ShortRoomId,
        ignored: &Arc<HashSet<OwnedUserId>>,
    ) -> Result<u64> {
        let upto = to_place(read.position());
        let unread = self.counts.unread(read, recipient, (room, upto), ignored)?;
        Ok(unread.total().notification_count)
    }
}
