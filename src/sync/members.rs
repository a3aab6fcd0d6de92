//! The member events of a room for clients that load members lazily.
//!
//! <https://spec.matrix.org/v1.18/client-server-api/#lazy-loading-room-members>

use std::collections::{BTreeSet, HashSet};

use ruma::{
    OwnedUserId,
    api::client::filter::{LazyLoadOptions, RoomEventFilter},
    events::{StateEventType, TimelineEventType},
};
use wick_core::{Result, ShortEventId, StateRoot};

use crate::{context::Context, lazy::Lazy, scope::Scope, timeline::Piece};

/// How a client loads the members of rooms.
#[derive(Clone, Copy)]
pub enum Members<'a> {
    /// All that changed.
    All,
    /// Those that a response needs, unless the device has them.
    Lazily {
        /// The members that devices have.
        known: &'a Lazy,
        /// Also those that the device has.
        redundant: bool,
    },
}

impl<'a> Members<'a> {
    /// The filter's `include_redundant_members`.
    #[must_use]
    pub fn of(filter: &RoomEventFilter, known: &'a Lazy) -> Self {
        match filter.lazy_load_options {
            LazyLoadOptions::Enabled { include_redundant_members: redundant } => {
                Self::Lazily { known, redundant }
            }
            LazyLoadOptions::Disabled => Self::All,
        }
    }

    /// Whether members are loaded lazily.
    #[must_use]
    pub fn are_lazy(self) -> bool {
        matches!(self, Self::Lazily { .. })
    }
}

/// The member events, in the state `at`, of the senders of a timeline and of others that the response names;
/// at first also of the user. Where the timeline leaves a later one out, that of the state `end`.
pub(crate) fn needed(
    context: &Context<'_>,
    scope: &Scope,
    piece: &Piece,
    named: &[OwnedUserId],
    (at, end): (StateRoot, StateRoot),
) -> Result<HashSet<ShortEventId>> {
    let mut users: BTreeSet<&str> =
        piece.items.iter().map(|item| item.pdu.sender.as_str()).collect();
    users.extend(named.iter().map(|user_id| user_id.as_str()));
    if scope.since.is_none() {
        users.insert(context.session.user_id.as_str());
    }
    let mut needed = HashSet::new();
    let member_at = |root: StateRoot, user_id: &str| {
        context.graph.state_event_at(&context.read, root, &StateEventType::RoomMember, user_id)
    };
    let shown: HashSet<ShortEventId> = piece.items.iter().map(|item| item.event).collect();
    for user_id in users {
        let missing = member_at(end, user_id)?.filter(|event| !shown.contains(event));
        needed.extend(match missing {
            Some(event) => Some(event),
            None => member_at(at, user_id)?,
        });
    }
    Ok(needed)
}

/// Removes the members that are not needed, if `whole`: the state is no difference to what the client
/// has. Of a difference all members stay, so that a client never keeps a member event that was replaced.
pub(crate) fn remove_others(
    context: &Context<'_>,
    events: &mut BTreeSet<ShortEventId>,
    needed: &HashSet<ShortEventId>,
) -> Result<()> {
    let mut kept = BTreeSet::new();
    for event in std::mem::take(events) {
        let pdu = context.graph.load_event(&context.read, event)?;
        if pdu.event_type != TimelineEventType::RoomMember || needed.contains(&event) {
            kept.insert(event);
        }
    }
    *events = kept;
    Ok(())
}

/// Adds the needed members that the device does not have, and notes that the response has them.
pub(crate) fn add_needed(
    context: &Context<'_>,
    scope: &Scope,
    (known, redundant): (&Lazy, bool),
    events: &mut BTreeSet<ShortEventId>,
    needed: &HashSet<ShortEventId>,
) {
    let since = scope.since.filter(|_| !redundant);
    let session = context.session;
    let unknown = |event: &ShortEventId| !known.has(session, (scope.room, *event), since);
    let unknown: Vec<ShortEventId> = needed.iter().copied().filter(unknown).collect();
    if !unknown.is_empty() {
        known.note(session, scope.room, unknown.iter().copied(), context.upto);
        events.extend(unknown);
    }
}
