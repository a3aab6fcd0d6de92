//! What every part of a sync response is computed from: one snapshot, the session, the users it ignores.
//!
//! Invariant: everything in one response is read from the snapshot of one context.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    sync::Arc,
};

use ruma::{OwnedRoomId, OwnedUserId, UserId};
use wick_account::{
    Session, account_data,
    invite_filter::{InviteAction, InviteFilter},
};
use wick_core::{Error, Position, Result, ShortRoomId, StateRoot};
use wick_database::{Snapshot, Table, schema::room::Membership};
use wick_room::{Graph, to_place, visibility::Viewer};

/// The input that all parts share.
pub struct Context<'a> {
    /// Reads rooms.
    pub graph: &'a Graph,
    /// The session that syncs.
    pub session: &'a Session,
    /// What all is read from.
    pub read: Snapshot,
    /// The position of the snapshot: the end of the response, and its token.
    pub upto: Position,
    /// The users that the session's user ignores.
    pub ignored: Arc<HashSet<OwnedUserId>>,
    /// States that were looked up: several parts ask for those at the client's token and at the end.
    roots: RefCell<HashMap<(ShortRoomId, i64), StateRoot>>,
}

impl<'a> Context<'a> {
    /// The context of a session at a snapshot.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn new(graph: &'a Graph, session: &'a Session, read: Snapshot) -> Result<Self> {
        let ignored = Arc::new(account_data::ignored_users(&read, session.user, &session.user_id)?);
        Ok(Self { graph, session, upto: read.position(), read, ignored, roots: RefCell::default() })
    }

    /// The id of a room.
    ///
    /// # Errors
    /// If it has none, or the database cannot be read.
    pub fn room_id(&self, room: ShortRoomId) -> Result<OwnedRoomId> {
        self.graph
            .intern()
            .room_id(&self.read, room)?
            .ok_or_else(|| Error::corrupt(format!("room {room} has no room id")))
    }

    /// Whether the session's user ignores another.
    #[must_use]
    pub fn ignores(&self, user_id: &UserId) -> bool {
        self.ignored.contains(user_id)
    }

    /// Whether the session's user is shown an invite by another.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn wants_invite_of(&self, inviter: &UserId) -> Result<bool> {
        let action = InviteFilter::of(&self.read, self.session.user)?.action(inviter);
        Ok(!self.ignores(inviter) && action == InviteAction::Allow)
    }

    /// Whether something that is stored of the session's user alone may have been written above `since`; `false` is
    /// certain, and saves the reads.
    #[must_use]
    pub fn is_user_changed_since(&self, since: Position) -> bool {
        self.graph.database().is_user_changed_since(self.session.user, since)
    }

    /// The same of a table that wakes its own topic.
    #[must_use]
    pub fn is_table_changed_since<K, V>(&self, table: &Table<K, V>, since: Position) -> bool {
        self.graph.database().is_table_changed_since(table, since)
    }

    /// The gate through which the session's device sees a room.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn viewer(&self, room: ShortRoomId) -> Result<Viewer<'_>> {
        let Session { user_id, device_id, .. } = self.session;
        let viewer = Viewer::new(self.graph, &self.read, room, user_id, Some(device_id))?;
        Ok(viewer.ignoring(Arc::clone(&self.ignored)))
    }

    /// The state of a room when the stream was at `place`; the empty state before its beginning.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn root_at(&self, room: ShortRoomId, place: i64) -> Result<StateRoot> {
        if let Some(known) = self.roots.borrow().get(&(room, place)) {
            return Ok(*known);
        }
        let root = self.graph.root_at(&self.read, room, place)?;
        self.roots.borrow_mut().insert((room, place), root);
        Ok(root)
    }

    /// Whether the session's user was in a room at a position.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn was_joined(&self, room: ShortRoomId, at: Position) -> Result<bool> {
        let root = self.root_at(room, to_place(at))?;
        Ok(self.membership_in(root)? == Some(Membership::Join))
    }

    /// The membership of the session's user in a state of a room.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn membership_in(&self, root: StateRoot) -> Result<Option<Membership>> {
        self.graph.membership_at(&self.read, root, &self.session.user_id)
    }
}
