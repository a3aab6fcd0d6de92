//! The `device_lists` of a sync: the users whose devices changed, and those that no room is shared with.
//!
//! Two users see each other's device lists as long as they are both in one room. The lists name
//! only users for whom that began or ended since the client's last sync, or whose keys changed meanwhile. A user shares
//! the rooms that they join with themselves, too.
//!
//! Invariants: what a client missed while it shared no room with a user is made good when it does again: changes of users of
//! other servers are not known for that time, so their joining again is one;
//! the lists depend on memberships alone, not on what a filter leaves out or how members are loaded.
//!
//! <https://spec.matrix.org/v1.18/client-server-api/#tracking-the-device-list-for-a-user>

use std::collections::{BTreeSet, HashSet};

use ruma::{OwnedUserId, UserId, events::StateEventType};
use serde::Serialize;
use wick_account::Session;
use wick_core::{Error, Position, Result, ShortEventId, ShortRoomId, ShortUserId, StateRoot};
use wick_database::{
    Database,
    schema::{
        device_lists::DEVICE_LIST_CHANGE_BY_POSITION,
        room::{MemberRow, Membership},
    },
};
use wick_encryption::device_lists;
use wick_people::presence::shares_room;
use wick_room::{Graph, membership, to_place};

use crate::context::Context;

/// How many changes of one member between two syncs are looked at.
const MAX_MEMBER_CHANGES: usize = 20;

/// `changed` and `left` of a response.
#[derive(Debug, Default, Serialize)]
pub struct DeviceLists {
    /// Changed, or new in a room that the user shares with them.
    pub changed: Vec<OwnedUserId>,
    /// No room is shared with them any more.
    pub left: Vec<OwnedUserId>,
}

/// The users that a room may be newly shared with, and those that none may be shared with any more.
#[derive(Default)]
struct Moves {
    met: BTreeSet<ShortUserId>,
    lost: BTreeSet<ShortUserId>,
}

/// How the device lists changed after `since`, up to the snapshot of the context. `joined` are the rooms
/// that the user is in, `rooms` at least those of the user's rooms in which a membership changed.
///
/// # Errors
/// If the database cannot be read.
pub fn device_lists(
    context: &Context<'_>,
    since: Position,
    joined: &HashSet<ShortRoomId>,
    rooms: &[(ShortRoomId, MemberRow)],
) -> Result<DeviceLists> {
    let (read, user) = (&context.read, context.session.user);
    let mut moves = Moves::default();
    for (room, member) in rooms {
        moves.add_room(context, since, *room, member)?;
    }
    let mut changed = BTreeSet::new();
    if context.is_table_changed_since(&DEVICE_LIST_CHANGE_BY_POSITION, since) {
        for other in device_lists::changed_after(read, since)? {
            if other == user || shares_room(read, joined, other)? {
                changed.insert(other);
            }
        }
    }
    if context.is_user_changed_since(since) {
        changed.extend(device_lists::signatures_changed_after(read, user, since)?);
    }
    for other in moves.met {
        if !shared_throughout(context, since, other)? {
            changed.insert(other);
        }
    }
    let mut left = BTreeSet::new();
    for other in moves.lost {
        if other != user && !changed.contains(&other) && !shares_room(read, joined, other)? {
            left.insert(other);
        }
    }
    Ok(DeviceLists { changed: user_ids(context, changed)?, left: user_ids(context, left)? })
}

/// The same for a request of its own. A position from the future, as after a restore, has nothing above it.
///
/// # Errors
/// If the database cannot be read.
pub fn changes(
    database: &Database,
    graph: &Graph,
    session: &Session,
    since: Position,
) -> Result<DeviceLists> {
    let context = Context::new(graph, session, database.published())?;
    let since = since.min(context.upto);
    let (mut joined, mut rooms) = (HashSet::new(), Vec::new());
    for row in graph.rooms_of(&context.read, session.user) {
        let (room, member) = row?;
        let is_joined = member.membership == Membership::Join;
        if is_joined {
            joined.insert(room);
        }
        if member.position > since || (is_joined && database.is_busy_since(room, since)) {
            rooms.push((room, member));
        }
    }
    device_lists(&context, since, &joined, &rooms)
}

impl Moves {
    fn add_room(
        &mut self,
        context: &Context<'_>,
        since: Position,
        room: ShortRoomId,
        member: &MemberRow,
    ) -> Result<()> {
        let (graph, read) = (context.graph, &context.read);
        let before = context.root_at(room, to_place(since))?;
        let is_joined = member.membership == Membership::Join;
        let was_joined = if is_joined && member.position <= since {
            true
        } else {
            context.membership_in(before)? == Some(Membership::Join)
        };
        if !was_joined {
            // A room that the user was not in and is not in now adds no users.
            for other in graph.members(read, room, Membership::Join).take_while(|_| is_joined) {
                self.met.insert(other?.0);
            }
            return Ok(());
        }
        if !is_joined {
            for other in graph.members(read, room, Membership::Join) {
                let (other, _) = other?;
                let row = graph.member(read, room, other)?;
                if row.is_some_and(|row| row.position <= since) {
                    self.lost.insert(other);
                }
            }
        }
        let own = &context.session.user_id;
        if is_joined && member.position > since && has_left(context, before, (own, member.event))? {
            for other in graph.members(read, room, Membership::Join) {
                let (other, _) = other?;
                if graph.user_id(read, other)?.server_name() != graph.server_name() {
                    self.met.insert(other);
                }
            }
        }
        self.add_changes(context, (before, is_joined), room)
    }

    /// Adds users whose membership changed after the state `before`, if the user could see them.
    fn add_changes(
        &mut self,
        context: &Context<'_>,
        (before, is_joined): (StateRoot, bool),
        room: ShortRoomId,
    ) -> Result<()> {
        let (graph, read) = (context.graph, &context.read);
        let head = graph.head(read, room)?.ok_or_else(|| Error::corrupt("a room has no head"))?;
        for change in graph.states().diff(read, before, head.state)? {
            let tuple = graph.intern().state_key_tuple(read, change.key)?;
            let Some((StateEventType::RoomMember, user_id)) = tuple else { continue };
            let Ok(user_id) = <&UserId>::try_from(&*user_id) else { continue };
            let Some(other) = graph.intern().lookup_user(read, user_id)? else { continue };
            let was_there = is_join(context, change.old)?;
            let is_there = is_joined && is_join(context, change.new)?;
            if was_there && !is_there {
                self.lost.insert(other);
            } else if is_there
                && (!was_there || has_been_away(context, before, (user_id, change.new))?)
            {
                self.met.insert(other);
            }
        }
        Ok(())
    }
}

/// Whether there is a room in which both the user and `other` have been since `since`.
fn shared_throughout(context: &Context<'_>, since: Position, other: ShortUserId) -> Result<bool> {
    let is_old = |row: &MemberRow| row.membership == Membership::Join && row.position <= since;
    for row in context.graph.rooms_of(&context.read, other) {
        let (room, member) = row?;
        let own = || context.graph.member(&context.read, room, context.session.user);
        if is_old(&member) && own()?.is_some_and(|own| is_old(&own)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a user of another server, who was in a room at the state `before` and is there by the member event `now`, was not
/// there at some time in between.
fn has_been_away(
    context: &Context<'_>,
    before: StateRoot,
    (user_id, now): (&UserId, Option<ShortEventId>),
) -> Result<bool> {
    let Some(now) = now.filter(|_| user_id.server_name() != context.graph.server_name()) else {
        return Ok(false);
    };
    has_left(context, before, (user_id, now))
}

/// Whether a user who was in a room at the state `before` and is there by the member event `now` was not there at some time
/// in between. After very many changes it is taken for granted.
fn has_left(
    context: &Context<'_>,
    before: StateRoot,
    (user_id, now): (&UserId, ShortEventId),
) -> Result<bool> {
    let (graph, read, member) = (context.graph, &context.read, StateEventType::RoomMember);
    let first = graph.state_event_at(read, before, &member, user_id.as_str())?;
    let mut event = Some(now);
    for _ in 0..MAX_MEMBER_CHANGES {
        if event == first {
            return Ok(false);
        }
        if !is_join(context, event)? {
            return Ok(true);
        }
        let place = event.map(|event| graph.place(read, event)).transpose()?.flatten();
        let Some(place) = place else { return Ok(true) };
        event = graph.state_event_at(read, place.before, &member, user_id.as_str())?;
    }
    Ok(true)
}

fn is_join(context: &Context<'_>, event: Option<ShortEventId>) -> Result<bool> {
    let Some(event) = event else { return Ok(false) };
    let pdu = context.graph.load_event(&context.read, event)?;
    Ok(membership::of(&pdu) == Some(Membership::Join))
}

fn user_ids(context: &Context<'_>, users: BTreeSet<ShortUserId>) -> Result<Vec<OwnedUserId>> {
    users.into_iter().map(|user| context.graph.user_id(&context.read, user)).collect()
}
