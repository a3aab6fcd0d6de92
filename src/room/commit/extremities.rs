//! The room's head: old forward extremities out, the new one in.

use super::Entry;
use crate::Assembly;

pub(super) fn write(room: &mut Assembly<'_>, entry: &Entry) {
    // Only what the event refers to is replaced: with more extremities than an event can name, the
    // others stay.
    room.head.extremities.retain(|extremity| !entry.prev.contains(extremity));
    room.head.extremities.push(entry.short);
    room.head.depth = room.head.depth.max(entry.pdu.depth);
}
