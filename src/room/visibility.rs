//! What a user may see of a room: the one gate that everything read on a user's behalf passes.
//!
//! Invariant: an event is shown only if [`Viewer::can_see`] allows it, a piece of state only from a state
//! that [`Viewer::state_at`] or [`Viewer::latest_state`] returns. Nothing else decides what a user may
//! see of a room's history.
//!
//! <https://spec.matrix.org/v1.18/client-server-api/#room-history-visibility>

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use ruma::{
    DeviceId, OwnedDeviceId, OwnedUserId, UserId,
    events::{StateEventType, TimelineEventType, room::history_visibility::HistoryVisibility},
};
use serde::Deserialize;
use wick_core::{Pdu, Result, ShortRoomId, ShortUserId, StateRoot};
use wick_database::{
    Read, Snapshot,
    schema::{
        room::{MemberRow, Membership, Place},
        users::ERASED_BY_USER,
    },
};

mod server;
mod tenure;

pub use self::{server::ServerViewer, tenure::Reach};
use crate::{Graph, render::Format};

/// A user reading one room from one snapshot. Caches what decides visibility by state, since
/// neighbouring events share their states.
pub struct Viewer<'a> {
    pub(crate) rooms: &'a Graph,
    pub(crate) read: &'a Snapshot,
    pub(crate) user_id: OwnedUserId,
    pub(crate) user: Option<ShortUserId>,
    pub(crate) device_id: Option<OwnedDeviceId>,
    pub(crate) ignored: Arc<HashSet<OwnedUserId>>,
    pub(crate) format: Arc<Format>,
    pub(crate) room: ShortRoomId,
    member: Option<MemberRow>,
    joined_until: Option<Option<i64>>,
    at_root: HashMap<StateRoot, AtRoot>,
}

/// What of a state decides visibility.
#[derive(Clone)]
struct AtRoot {
    visibility: HistoryVisibility,
    membership: Option<Membership>,
}

#[derive(Deserialize)]
struct VisibilityContent {
    history_visibility: HistoryVisibility,
}

#[derive(Deserialize)]
struct JoinRuleContent {
    join_rule: String,
}

impl Graph {
    /// Whether the current history visibility is `world_readable`.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn is_world_readable(&self, read: &impl Read, room: ShortRoomId) -> Result<bool> {
        let event = self.state_event(read, room, &StateEventType::RoomHistoryVisibility, "")?;
        let content = event.and_then(|event| event.content_as::<VisibilityContent>().ok());
        Ok(content
            .is_some_and(|content| content.history_visibility == HistoryVisibility::WorldReadable))
    }

    /// The history visibility in a state, which never changes: the redaction of its event keeps it.
    pub(crate) fn visibility_in(
        &self,
        read: &impl Read,
        root: StateRoot,
    ) -> Result<HistoryVisibility> {
        if let Some(known) = self.visibilities.get(&root) {
            return Ok(known);
        }
        let visibility = self
            .state_event_at(read, root, &StateEventType::RoomHistoryVisibility, "")?
            .map(|event| self.load_event(read, event))
            .transpose()?
            .and_then(|event| event.content_as::<VisibilityContent>().ok())
            .map_or(HistoryVisibility::Shared, |content| content.history_visibility);
        self.visibilities.insert(root, visibility.clone());
        Ok(visibility)
    }

    /// Whether the room is public now.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn is_public(&self, read: &impl Read, room: ShortRoomId) -> Result<bool> {
        let event = self.state_event(read, room, &StateEventType::RoomJoinRules, "")?;
        let content = event.and_then(|event| event.content_as::<JoinRuleContent>().ok());
        Ok(content.is_some_and(|content| content.join_rule == "public"))
    }
}

/// The type of events that servers send to join forward extremities. They say nothing to users.
pub const DUMMY_EVENT: &str = "org.matrix.dummy_event";

fn is_dummy(pdu: &Pdu) -> bool {
    pdu.state_key.is_none() && pdu.event_type.to_string() == DUMMY_EVENT
}

impl<'a> Viewer<'a> {
    /// A viewer of `room`.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn new(
        rooms: &'a Graph,
        read: &'a Snapshot,
        room: ShortRoomId,
        user_id: &UserId,
        device_id: Option<&DeviceId>,
    ) -> Result<Self> {
        let user = rooms.intern().lookup_user(read, user_id)?;
        let member = match user {
            Some(user) => rooms.member(read, room, user)?,
            None => None,
        };
        Ok(Self {
            rooms,
            read,
            user_id: user_id.to_owned(),
            user,
            device_id: device_id.map(ToOwned::to_owned),
            ignored: Arc::default(),
            format: Arc::default(),
            room,
            member,
            joined_until: None,
            at_root: HashMap::new(),
        })
    }

    /// The same viewer with the users that they ignore, whose events are left out of aggregations.
    ///
    /// <https://spec.matrix.org/v1.18/client-server-api/#ignoring-users>
    #[must_use]
    pub fn ignoring(self, ignored: Arc<HashSet<OwnedUserId>>) -> Self {
        Self { ignored, ..self }
    }

    /// The same viewer with events in another form.
    #[must_use]
    pub fn formatted(self, format: Arc<Format>) -> Self {
        Self { format, ..self }
    }

    /// The users that the viewer ignores.
    #[must_use]
    pub fn ignored(&self) -> Arc<HashSet<OwnedUserId>> {
        Arc::clone(&self.ignored)
    }

    /// The viewer's membership row in the room now.
    #[must_use]
    pub fn member(&self) -> Option<&MemberRow> {
        self.member.as_ref()
    }

    /// Whether the viewer may see the event.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn can_see(&mut self, pdu: &Pdu, place: &Place) -> Result<bool> {
        let is_elsewhere = place.room != self.room || place.is_outlier();
        if place.soft_failed || pdu.rejected || is_elsewhere || is_dummy(pdu) {
            return Ok(false);
        }
        let before = self.at(place.before)?;
        // The event that changes one's membership, or the visibility, counts as either side of it.
        let own_membership = pdu.is_state(&TimelineEventType::RoomMember, self.user_id.as_str());
        let is_visibility = pdu.is_state(&TimelineEventType::RoomHistoryVisibility, "");
        if own_membership || is_visibility {
            let after = self.at(place.after)?;
            return Ok(own_membership
                || self.allowed(&before, place.position)?
                || self.allowed(&after, place.position)?);
        }
        self.allowed(&before, place.position)
    }

    /// Whether the viewer may see an event because it is sticky (MSC4354): members may, whatever the history
    /// visibility was.
    #[must_use]
    pub fn can_see_sticky(&self, pdu: &Pdu, place: &Place) -> bool {
        let is_known = !place.soft_failed && !pdu.rejected && place.room == self.room;
        let is_shown = is_known && pdu.sticky_duration.is_some();
        is_shown && self.is_joined() && !self.ignored.contains(&pdu.sender)
    }

    /// The viewer's membership at an event, for `unsigned.membership`.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn membership_at(&mut self, pdu: &Pdu, place: &Place) -> Result<Membership> {
        let own = pdu.is_state(&TimelineEventType::RoomMember, self.user_id.as_str());
        let root = if own { place.after } else { place.before };
        Ok(self.at(root)?.membership.unwrap_or(Membership::Leave))
    }

    /// Whether a message is shown redacted: its sender was erased, and the viewer was not in the room when it
    /// was sent.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn is_erased(&mut self, pdu: &Pdu, place: &Place) -> Result<bool> {
        if pdu.state_key.is_some() {
            return Ok(false);
        }
        let erased = match self.rooms.intern().lookup_user(self.read, &pdu.sender)? {
            Some(sender) => self.read.contains(&ERASED_BY_USER, &sender)?,
            None => false,
        };
        Ok(erased && self.membership_at(pdu, place)? != Membership::Join)
    }

    /// Whether history that stands at `position` in a state like `at` is visible to the viewer.
    ///
    /// <https://spec.matrix.org/v1.18/client-server-api/#server-behaviour-5>
    fn allowed(&mut self, at: &AtRoot, position: Option<i64>) -> Result<bool> {
        if at.visibility == HistoryVisibility::WorldReadable {
            return Ok(true);
        }
        if self.has_forgotten() {
            return Ok(false);
        }
        match (&at.visibility, at.membership) {
            (_, Some(Membership::Join))
            | (HistoryVisibility::Invited, Some(Membership::Invite)) => Ok(true),
            (HistoryVisibility::Shared, _) => self.joined_after(position),
            _ => Ok(false),
        }
    }

    fn at(&mut self, root: StateRoot) -> Result<AtRoot> {
        if let Some(known) = self.at_root.get(&root) {
            return Ok(known.clone());
        }
        let visibility = self.rooms.visibility_in(self.read, root)?;
        let membership = self.rooms.membership_at(self.read, root, &self.user_id)?;
        let at = AtRoot { visibility, membership };
        self.at_root.insert(root, at.clone());
        Ok(at)
    }
}
