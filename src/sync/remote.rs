//! Rooms in which this server has no member: invites and knocks over other servers, and how they ended.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use wick_core::{Error, Result};
use wick_database::schema::remote::RemoteMembership;
use wick_room::remote_sender;

use crate::{context::Context, events::Json};

/// The stripped state of such a room.
///
/// # Errors
/// If what is stored cannot be read.
pub(crate) fn stripped(membership: &RemoteMembership) -> Result<Vec<Json>> {
    let state = membership.state.iter().map(|event| RawValue::from_string(event.clone()));
    state.collect::<Result<_, _>>().map_err(unreadable)
}

/// Whether the user is shown an invite.
///
/// # Errors
/// If what is stored cannot be read.
pub(crate) fn is_wanted(context: &Context<'_>, membership: &RemoteMembership) -> Result<bool> {
    context.wants_invite_of(&remote_sender(membership)?)
}

/// The member event in the form of a timeline.
///
/// # Errors
/// If what is stored cannot be read.
pub(crate) fn member_event(membership: &RemoteMembership) -> Result<Json> {
    #[derive(Deserialize, Serialize)]
    struct Shown<'a> {
        #[serde(rename = "type")]
        event_type: String,
        sender: String,
        state_key: String,
        origin_server_ts: u64,
        #[serde(borrow)]
        content: &'a RawValue,
        #[serde(default)]
        event_id: String,
    }
    let mut shown: Shown<'_> = serde_json::from_str(&membership.event).map_err(unreadable)?;
    shown.event_id = membership.event_id.to_string();
    serde_json::value::to_raw_value(&shown).map_err(unreadable)
}

fn unreadable(error: serde_json::Error) -> Error {
    Error::internal("a stored member event of a room that is not here", error)
}
