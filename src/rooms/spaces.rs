//! Spaces: their hierarchy, and the summary of a room for users that are not in it.
//!
//! Invariants: a room is shown to users that are in it, are invited, may join it or may read it; a walk
//! shows each room once and looks at no more than [`MAX_ROOMS`].
//!
//! <https://spec.matrix.org/v1.18/client-server-api/#spaces>

mod children;
mod elsewhere;
mod for_servers;

use std::{collections::HashSet, sync::Arc};

use ruma::{
    OwnedRoomId, OwnedServerName, RoomId,
    events::room::member::MembershipState,
    room::{JoinRuleSummary, RoomSummary, RoomType},
};
use serde_json::value::RawValue;
use wick_account::Session;
use wick_core::{Error, Result, ShortRoomId};
use wick_database::{Snapshot, schema::room::Membership};
use wick_room::Graph;
use wick_runtime::Resources;

use self::children::Child;
pub use self::{
    elsewhere::{Elsewhere, RemoteRoom},
    for_servers::ServerHierarchy,
};
use crate::rooms::summary;

/// Rooms that one walk looks at.
const MAX_ROOMS: usize = 5000;

/// Rooms that one page shows.
const MAX_LIMIT: usize = 100;

/// Walks through spaces.
pub struct Spaces {
    resources: Resources,
    graph: Arc<Graph>,
}

/// Which part of a space.
pub struct AskHierarchy {
    /// The space, or any room.
    pub room_id: OwnedRoomId,
    /// Where the page before ended.
    pub from: Option<String>,
    /// How many rooms at most.
    pub limit: usize,
    /// How far down; the room itself is at 0.
    pub max_depth: Option<u64>,
    /// Only rooms that their space suggests.
    pub suggested_only: bool,
}

/// A page of a walk.
pub struct Hierarchy {
    /// The rooms with their `m.space.child` events.
    pub rooms: Vec<(RoomSummary, Vec<Box<RawValue>>)>,
    /// Where to continue; `None` at the end.
    pub next_batch: Option<String>,
}

/// A room that a walk comes to.
struct Step {
    room_id: OwnedRoomId,
    via: Vec<OwnedServerName>,
    depth: u64,
}

/// Where a walk stands: a token holds how many rooms were shown, and of which walk it is.
struct Progress {
    shown: usize,
    max_depth: Option<u64>,
    suggested_only: bool,
}

impl Progress {
    fn to_token(&self) -> String {
        let depth = self.max_depth.map_or_else(|| "x".to_owned(), |depth| depth.to_string());
        format!("h{}_{depth}_{}", self.shown, u8::from(self.suggested_only))
    }

    /// How many rooms were shown; the rest of the token must match `self`.
    fn resume(&mut self, token: &str) -> Result<()> {
        let shown = token.strip_prefix('h').and_then(|token| token.split('_').next());
        self.shown = shown.and_then(|shown| shown.parse().ok()).unwrap_or_default();
        if self.to_token() == token {
            Ok(())
        } else {
            Err(Error::invalid_param("this is no token of such a walk"))
        }
    }
}

impl Spaces {
    /// The spaces of `graph`.
    #[must_use]
    pub fn new(resources: Resources, graph: Arc<Graph>) -> Self {
        Self { resources, graph }
    }

    /// The rooms below a room, depth first, each before its children. Rooms that this server is not in are those of
    /// `elsewhere`, which takes down what is still to be asked: then the result is not whole.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if the session's user may not know of the room, `M_INVALID_PARAM` if the token is
    /// none or of another walk.
    pub fn hierarchy(
        &self,
        session: &Session,
        ask: &AskHierarchy,
        elsewhere: &mut Option<Elsewhere>,
    ) -> Result<Hierarchy> {
        let mut progress =
            Progress { shown: 0, max_depth: ask.max_depth, suggested_only: ask.suggested_only };
        if let Some(token) = &ask.from {
            progress.resume(token)?;
        }
        let (skip, limit) = (progress.shown, ask.limit.clamp(1, MAX_LIMIT));
        let read = self.resources.database.published();
        let mut hierarchy = Hierarchy { rooms: Vec::new(), next_batch: None };
        let (mut known, mut walked) = (HashSet::new(), 0_usize);
        let via = ask.room_id.server_name().map(ToOwned::to_owned).into_iter().collect();
        let mut stack = vec![Step { room_id: ask.room_id.clone(), via, depth: 0 }];
        while let Some(step) = stack.pop() {
            if known.len() >= MAX_ROOMS || !known.insert(step.room_id.clone()) {
                continue;
            }
            let found = self.look(&read, session, &step, elsewhere, ask.suggested_only)?;
            let Some((summary, children)) = found else { continue };
            if hierarchy.rooms.len() == limit {
                progress.shown = walked;
                hierarchy.next_batch = Some(progress.to_token());
                break;
            }
            if stack.len() < MAX_ROOMS && ask.max_depth.is_none_or(|max| step.depth < max) {
                let depth = step.depth.saturating_add(1);
                stack.extend(children.iter().rev().map(|child| Step {
                    room_id: child.room_id.clone(),
                    via: child.via.clone(),
                    depth,
                }));
            }
            walked += 1;
            if walked > skip {
                let children = children.into_iter().map(|child| child.stripped).collect();
                hierarchy.rooms.push((summary, children));
            }
        }
        let is_waiting = elsewhere.as_ref().is_some_and(Elsewhere::is_waiting);
        if walked == 0 && !is_waiting {
            return Err(hidden());
        }
        Ok(hierarchy)
    }

    /// A room that a walk came to, with its children, if the session's user may know of it.
    fn look(
        &self,
        read: &Snapshot,
        session: &Session,
        step: &Step,
        elsewhere: &mut Option<Elsewhere>,
        suggested_only: bool,
    ) -> Result<Option<(RoomSummary, Vec<Child>)>> {
        let room = self.graph.short(read, &step.room_id)?;
        let is_here = match room {
            Some(room) => self.graph.has_local_member(read, room)?,
            None => false,
        };
        if let Some(elsewhere) = elsewhere.as_mut().filter(|_| !is_here) {
            let own = self.graph.server_name();
            let via: Vec<_> = step.via.iter().filter(|server| *server != own).cloned().collect();
            let Some(remote) = elsewhere.find(&step.room_id, &via) else { return Ok(None) };
            if !self.admits(read, Some(session), room, &remote.summary)? {
                return Ok(None);
            }
            let children = match remote.summary.room_type {
                Some(RoomType::Space) => {
                    children::of_events(&remote.children_state, suggested_only)?
                }
                _ => Vec::new(),
            };
            return Ok(Some((remote.summary.clone(), children)));
        }
        let Some(room) = room else { return Ok(None) };
        let Some(summary) = self.visible(read, Some(session), room)? else { return Ok(None) };
        let children = self.children(read, room, &summary, suggested_only)?;
        Ok(Some((summary, children)))
    }

    /// The summary of a room, with the session's membership; without a session, only of an open room.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if the room is unknown or the requester may not know of it.
    pub fn summary(
        &self,
        session: Option<&Session>,
        room_id: &RoomId,
    ) -> Result<(RoomSummary, Option<MembershipState>)> {
        let unknown = || Error::not_found("there is no such room that you may see");
        let read = self.resources.database.published();
        let room = self.graph.short(&read, room_id)?.ok_or_else(unknown)?;
        let summary = self.visible(&read, session, room)?.ok_or_else(unknown)?;
        let Some(session) = session else { return Ok((summary, None)) };
        let member = self.graph.member(&read, room, session.user)?;
        let membership = match member.map(|member| member.membership) {
            Some(Membership::Join) => MembershipState::Join,
            Some(Membership::Invite) => MembershipState::Invite,
            Some(Membership::Knock) => MembershipState::Knock,
            Some(Membership::Ban) => MembershipState::Ban,
            Some(Membership::Leave) | None => MembershipState::Leave,
        };
        Ok((summary, Some(membership)))
    }

    /// The summary of a room, if the requester may know of it.
    fn visible(
        &self,
        read: &Snapshot,
        session: Option<&Session>,
        room: ShortRoomId,
    ) -> Result<Option<RoomSummary>> {
        let Some(summary) = summary(&self.graph, read, room)? else { return Ok(None) };
        Ok(self.admits(read, session, Some(room), &summary)?.then_some(summary))
    }

    /// Whether the requester may know of a room.
    fn admits(
        &self,
        read: &Snapshot,
        session: Option<&Session>,
        room: Option<ShortRoomId>,
        summary: &RoomSummary,
    ) -> Result<bool> {
        if is_open(summary) {
            return Ok(true);
        }
        let Some(session) = session else { return Ok(false) };
        let membership = |room| -> Result<Option<Membership>> {
            Ok(self.graph.member(read, room, session.user)?.map(|member| member.membership))
        };
        if let Some(room) = room
            && matches!(membership(room)?, Some(Membership::Join | Membership::Invite))
        {
            return Ok(true);
        }
        if let JoinRuleSummary::Restricted(rule) = &summary.join_rule {
            for allowed in &rule.allowed_room_ids {
                if let Some(allowed) = self.graph.short(read, allowed)?
                    && membership(allowed)? == Some(Membership::Join)
                {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    fn children(
        &self,
        read: &Snapshot,
        room: ShortRoomId,
        summary: &RoomSummary,
        suggested_only: bool,
    ) -> Result<Vec<Child>> {
        if summary.room_type != Some(RoomType::Space) {
            return Ok(Vec::new());
        }
        children::of(&self.graph, read, room, suggested_only)
    }
}

/// Whether a room can be seen without being in it.
fn is_open(summary: &RoomSummary) -> bool {
    summary.world_readable
        || matches!(
            summary.join_rule,
            JoinRuleSummary::Public | JoinRuleSummary::Knock | JoinRuleSummary::KnockRestricted(_)
        )
}

/// The same whether the room is unknown or closed.
fn hidden() -> Error {
    Error::forbidden("you may not see this room")
}
