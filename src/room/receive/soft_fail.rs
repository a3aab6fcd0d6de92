//! Whether the room as it is now would have the event.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#soft-failure>

use wick_core::{Pdu, Result};

use super::auth::{self, Verdict};
use crate::Assembly;

/// The auth rules against the room's current state: a ban on one branch also applies to events that are
/// sent on another branch to evade it.
pub(super) fn check(room: &Assembly<'_>, pdu: &Pdu) -> Result<Verdict> {
    auth::by_state(room, pdu, room.head.state)
}
