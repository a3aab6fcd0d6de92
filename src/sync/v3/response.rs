//! The response of `/sync`, of events that are JSON already.

use std::collections::BTreeMap;

use ruma::{OwnedEventId, OwnedRoomId};
use serde::Serialize;
use wick_notify::counts::Unread;

use crate::{
    device_lists::DeviceLists,
    events::{Events, Json},
    summary::Summary,
};

/// Everything that is new.
///
/// <https://spec.matrix.org/v1.18/client-server-api/#get_matrixclientv3sync>
#[derive(Debug, Default, Serialize)]
pub struct Response {
    /// The token of the next sync.
    pub next_batch: String,
    /// What the user keeps here for all rooms.
    #[serde(skip_serializing_if = "Events::is_empty")]
    pub account_data: Events,
    /// The presence of users who share a room.
    #[serde(skip_serializing_if = "Events::is_empty")]
    pub presence: Events,
    /// By section.
    #[serde(skip_serializing_if = "RoomUpdates::is_empty")]
    pub rooms: RoomUpdates,
    /// Messages from device to device.
    pub to_device: Events,
    /// The users whose devices changed.
    pub device_lists: DeviceLists,
    /// How many one-time keys the device has left, by algorithm.
    pub device_one_time_keys_count: BTreeMap<&'static str, u64>,
    /// Algorithms of fallback keys that were not claimed yet.
    pub device_unused_fallback_key_types: Vec<&'static str>,
}

/// The rooms with news, by the user's membership.
#[derive(Debug, Default, Serialize)]
pub struct RoomUpdates {
    /// Joined.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub join: BTreeMap<OwnedRoomId, RoomUpdate>,
    /// Invited.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub invite: BTreeMap<OwnedRoomId, InvitedRoom>,
    /// Knocked.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub knock: BTreeMap<OwnedRoomId, KnockedRoom>,
    /// Left, kicked or banned.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub leave: BTreeMap<OwnedRoomId, RoomUpdate>,
}

/// A room that the user is or was in.
#[derive(Debug, Serialize)]
pub struct RoomUpdate {
    /// What a client needs to name the room.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<Summary>,
    /// What happened.
    pub timeline: Timeline,
    /// The state before the timeline that is new to the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<Events>,
    /// The state up to the timeline's end (MSC4222).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_after: Option<Events>,
    /// The same by its unstable name.
    #[serde(rename = "org.matrix.msc4222.state_after", skip_serializing_if = "Option::is_none")]
    pub state_after_unstable: Option<Events>,
    /// What the user keeps here for the room.
    pub account_data: Events,
    /// Typing and receipts.
    pub ephemeral: Events,
    /// Sticky events that the timeline does not have (MSC4354).
    #[serde(rename = "msc4354_sticky", skip_serializing_if = "Events::is_empty")]
    pub sticky: Events,
    /// What the user has not read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unread_notifications: Option<Unread>,
    /// The same by thread root, if the filter asks for it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub unread_thread_notifications: BTreeMap<OwnedEventId, Unread>,
}

/// A piece of a room's timeline.
#[derive(Debug, Serialize)]
pub struct Timeline {
    /// Old to new.
    pub events: Vec<Json>,
    /// There is more between this piece and the one before it.
    pub limited: bool,
    /// The token to page backwards from.
    pub prev_batch: String,
}

/// A room that the user is invited to.
#[derive(Debug, Serialize)]
pub struct InvitedRoom {
    /// What they may see of it.
    pub invite_state: Events,
}

/// A room that the user knocked on.
#[derive(Debug, Serialize)]
pub struct KnockedRoom {
    /// What they may see of it.
    pub knock_state: Events,
}

impl Response {
    /// Whether there is nothing that a client would not know already.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.account_data.is_empty()
            && self.presence.is_empty()
            && self.rooms.is_empty()
            && self.to_device.is_empty()
            && self.device_lists.changed.is_empty()
            && self.device_lists.left.is_empty()
    }
}

impl RoomUpdate {
    /// An update that is nothing but a timeline.
    pub(super) fn of(timeline: Timeline) -> Self {
        Self {
            summary: None,
            timeline,
            state: None,
            state_after: None,
            state_after_unstable: None,
            account_data: Events::default(),
            ephemeral: Events::default(),
            sticky: Events::default(),
            unread_notifications: None,
            unread_thread_notifications: BTreeMap::new(),
        }
    }
}

impl RoomUpdates {
    /// Whether nothing happened in any room.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.join.is_empty()
            && self.invite.is_empty()
            && self.knock.is_empty()
            && self.leave.is_empty()
    }
}
