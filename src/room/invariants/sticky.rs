//! The two tables of sticky events hold the same events, which are stored and not redacted.

use wick_core::Result;
use wick_database::{
    Range, Read,
    schema::{
        room::{EVENT_BY_POSITION, REDACTION_BY_EVENT},
        sticky::{STICKY_BY_END, STICKY_BY_ROOM},
    },
};

use super::{Class, Report};

pub(super) fn check<R: Read>(report: &mut Report<'_, R>) -> Result<()> {
    for row in report.read.scan(&STICKY_BY_ROOM, Range::all()) {
        let ((room, place), row) = row?;
        let is_listed = report.read.contains(&STICKY_BY_END, &(row.until, room, place))?;
        let event = report.read.get(&EVENT_BY_POSITION, &(room, place))?;
        let is_redacted = report.read.contains(&REDACTION_BY_EVENT, &row.event)?;
        let holds = is_listed && event == Some(row.event) && !is_redacted;
        report.expect(holds, Class::StickyDiffers, format_args!("room {room} place {place}"));
    }
    for key in report.read.scan(&STICKY_BY_END, Range::all()).keys() {
        let (until, room, place) = key?;
        let row = report.read.get(&STICKY_BY_ROOM, &(room, place))?;
        let holds = row.is_some_and(|row| row.until == until);
        report.expect(holds, Class::StickyDiffers, format_args!("room {room} place {place}"));
    }
    Ok(())
}
