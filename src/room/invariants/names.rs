//! Names and short ids lead to each other; transactions lead to events.

use std::fmt::Display;

use wick_core::Result;
use wick_database::{
    Key, Range, Read, Table, Value,
    schema::{
        intern::{
            EVENT_BY_SHORT, ROOM_BY_SHORT, SHORT_BY_EVENT, SHORT_BY_ROOM, SHORT_BY_STATE_KEY,
            SHORT_BY_USER, STATE_KEY_BY_SHORT, USER_BY_SHORT,
        },
        room::{ANSWER_BY_TRANSACTION, STORED_BY_EVENT},
    },
};

use super::{Class, Report};

pub(super) fn check<R: Read>(report: &mut Report<'_, R>) -> Result<()> {
    both_ways(report, &SHORT_BY_ROOM, &ROOM_BY_SHORT)?;
    both_ways(report, &SHORT_BY_USER, &USER_BY_SHORT)?;
    both_ways(report, &SHORT_BY_STATE_KEY, &STATE_KEY_BY_SHORT)?;
    both_ways(report, &SHORT_BY_EVENT, &EVENT_BY_SHORT)?;
    for row in report.read.scan(&ANSWER_BY_TRANSACTION, Range::all()) {
        let ((user, _, _), answer) = row?;
        let event = report.read.get(&SHORT_BY_EVENT, &answer.event)?;
        let stored = match event {
            Some(event) => report.read.contains(&STORED_BY_EVENT, &event)?,
            None => false,
        };
        let at = format_args!("user {user} event {}", answer.event);
        report.expect(stored, Class::TransactionWithoutEvent, at);
    }
    Ok(())
}

fn both_ways<R: Read, N, S>(
    report: &mut Report<'_, R>,
    short_by_name: &Table<N, S>,
    name_by_short: &Table<S, N>,
) -> Result<()>
where
    N: Key + Value + PartialEq,
    S: Key + Value + PartialEq + Display,
{
    for row in report.read.scan(short_by_name, Range::all()) {
        let (name, short) = row?;
        let back = report.read.get(name_by_short, &short)?;
        let at = format_args!("{} {short}", short_by_name.name());
        report.expect(back.is_some_and(|back| back == name), Class::NameDiffers, at);
    }
    for row in report.read.scan(name_by_short, Range::all()) {
        let (short, name) = row?;
        let back = report.read.get(short_by_name, &name)?;
        let at = format_args!("{} {short}", name_by_short.name());
        report.expect(back.is_some_and(|back| back == short), Class::NameDiffers, at);
    }
    Ok(())
}
