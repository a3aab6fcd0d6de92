//! Delayed events: the handle of the one that this event was, and, where the server is set up so, the end
//! of those that it makes superfluous.

use wick_core::Result;
use wick_database::{
    Range, Read,
    schema::{
        delayed::{DELAY_ID_BY_EVENT, DELAYED_BY_STATE},
        timer::TIMER_BY_ID,
    },
};

use super::{Entry, timer};
use crate::{Assembly, Finish, Outcome, delayed};

/// The event that a delayed event became.
pub(super) fn sent(room: &mut Assembly<'_>, finish: &Finish, entry: &Entry) {
    if let Some(delay_id) = &finish.delay_id {
        room.batch.put(&DELAY_ID_BY_EVENT, &entry.short, delay_id);
    }
}

/// Ends the delayed events of others for state that this event sets, as earlier revisions of MSC4140
/// wanted it. Nothing is left of them: to clients of that time they are unknown from then on.
pub(super) fn write(room: &mut Assembly<'_>, entry: &Entry) -> Result<()> {
    if !room.rooms.hooks.cancel_superseded || entry.changes.is_empty() {
        return Ok(());
    }
    let setter = room.rooms.intern().lookup_user(&room.batch, &entry.pdu.sender)?;
    for change in entry.changes.iter().filter(|change| change.new.is_some()) {
        let range = Range::prefix((room.room, change.key));
        let pending: Vec<_> =
            room.batch.scan(&DELAYED_BY_STATE, range).collect::<Result<_, _>>()?;
        for ((_, _, id), ()) in pending {
            let Some(row) = room.batch.get(&TIMER_BY_ID, &id)? else { continue };
            if setter == Some(row.owner) {
                continue;
            }
            timer::stop(room, id, Outcome::Superseded)?;
            delayed::erase(&mut room.batch, room.rooms.intern(), id, (row.owner, row.room))?;
        }
    }
    Ok(())
}
