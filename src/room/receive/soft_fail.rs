//! Whether the room as it is now would have the event.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#soft-failure>

use wick_core::{Pdu, Result};

use super::auth::{self, Verdict};
use crate::Assembly;

/// The auth rules by the room's current state. Who was banned on one branch cannot go on on another that
/// pretends not to know.
pub(super) fn check(room: &Assembly<'_>, pdu: &Pdu) -> Result<Verdict> {
    auth::by_state(room, pdu, room.head.state)
}
