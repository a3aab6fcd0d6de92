//! Use cases of rooms: creation, membership, messages, state, aliases, upgrades.
//!
//! Invariant: every use case is one change of one room in one batch, its rows in other tables included. What
//! follows elsewhere afterwards is noted in that batch, and resumed after a crash.

mod alias;
mod append;
mod content;
mod create;
mod directory;
mod event_request;
mod follow;
mod forget;
mod invite;
mod join;
mod kick;
mod knock;
mod leave;
mod membership;
mod power;
mod redact;
mod send;
mod state;
mod sticky;
mod stripped;
mod summary;
mod upgrade;
mod upkeep;

use std::sync::Arc;

use ruma::{
    RoomId, UserId,
    api::error::ErrorKind,
    events::{
        StateEventType,
        room::{member::MembershipState, power_levels::RoomPowerLevels},
    },
};
use wick_core::{Error, Result};
use wick_people::Profiles;
use wick_room::{Assembly, Graph};
use wick_runtime::{Resources, Supervisor};
use wick_timers::Expiry;

pub use self::{
    append::Sent,
    directory::Page,
    follow::note_predecessor,
    redact::Redact,
    send::SendMessage,
    state::{SendState, StateFormat},
    stripped::{stripped_events, stripped_state},
    summary::{guests_can_join, summary},
};
pub(crate) use self::{event_request::EventRequest, send::transaction};

/// The rooms of this server, as their members use them.
pub struct Rooms {
    resources: Resources,
    graph: Arc<Graph>,
    profiles: Arc<Profiles>,
    expiry: Arc<Expiry>,
    supervisor: Arc<Supervisor>,
    directory: directory::Cache,
}

impl Rooms {
    /// The rooms in `graph`.
    #[must_use]
    pub fn new(
        resources: Resources,
        graph: Arc<Graph>,
        profiles: Arc<Profiles>,
        expiry: Arc<Expiry>,
        supervisor: Arc<Supervisor>,
    ) -> Self {
        let directory = directory::Cache::default();
        Self { resources, graph, profiles, expiry, supervisor, directory }
    }

    /// Changes a room for a user who must be joined to it: an unknown room gives the same error as
    /// one they are not in.
    async fn change<T>(
        &self,
        room_id: &RoomId,
        mut change: impl FnMut(&mut Assembly<'_>) -> Result<T>,
    ) -> Result<T> {
        let mut here = false;
        let changed = self
            .graph
            .transact(room_id, |room| {
                here = true;
                change(room)
            })
            .await;
        match changed {
            Err(error) if !here && error.kind() == Some(&ErrorKind::NotFound) => Err(not_joined()),
            changed => changed,
        }
    }

    fn is_local(&self, user_id: &UserId) -> bool {
        user_id.server_name() == self.graph.server_name()
    }
}

/// The power levels of a room that is being changed.
fn power_levels(room: &Assembly<'_>) -> Result<RoomPowerLevels> {
    wick_room::membership::power_levels(
        room.rules(),
        room.state_event(&StateEventType::RoomCreate, "")?.as_deref(),
        room.state_event(&StateEventType::RoomPowerLevels, "")?.as_deref(),
    )
}

/// `M_FORBIDDEN` unless the user is joined to the room.
fn ensure_joined(room: &Assembly<'_>, user_id: &UserId) -> Result<()> {
    match room.membership(user_id)? {
        Some(MembershipState::Join) => Ok(()),
        _ => Err(not_joined()),
    }
}

fn not_joined() -> Error {
    Error::forbidden("you are not in this room")
}
