//! What people do in rooms: make them, join them, say something, change their state.
//!
//! Invariant: every use case is one change of the room in one batch, what it adds to other tables
//! included.

mod alias;
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
mod stripped;
mod summary;
mod upgrade;

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
use wick_runtime::Resources;
use wick_timers::Expiry;

pub use self::{
    directory::Page,
    redact::Redact,
    send::{SendMessage, Sent},
    state::{SendState, StateFormat},
    stripped::stripped_state,
    summary::summary,
};
pub(crate) use self::{event_request::EventRequest, send::transaction};

/// The rooms of this server, as their members use them.
pub struct Rooms {
    resources: Resources,
    graph: Arc<Graph>,
    profiles: Arc<Profiles>,
    expiry: Arc<Expiry>,
}

impl Rooms {
    /// The rooms in `graph`.
    #[must_use]
    pub fn new(
        resources: Resources,
        graph: Arc<Graph>,
        profiles: Arc<Profiles>,
        expiry: Arc<Expiry>,
    ) -> Self {
        Self { resources, graph, profiles, expiry }
    }

    /// Changes a room for somebody who says to be in it: one that is not here looks no different
    /// from one they are not in.
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

/// Who may do what in a room during its turn.
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
