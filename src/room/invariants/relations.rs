//! The two indexes of relations hold the same relations.

use wick_core::Result;
use wick_database::{
    Range, Read,
    schema::{
        intern::{SHORT_BY_USER, USER_BY_SHORT},
        room::{RELATION_BY_PARENT, RELATION_BY_SENDER},
    },
};

use super::{Class, Report};

pub(super) fn check<R: Read>(report: &mut Report<'_, R>) -> Result<()> {
    for row in report.read.scan(&RELATION_BY_PARENT, Range::all()) {
        let ((parent, rel_type, place), row) = row?;
        let same = match report.read.get(&SHORT_BY_USER, &row.sender)? {
            Some(sender) => {
                report.read.get(&RELATION_BY_SENDER, &(parent, sender, &*rel_type, place))?
            }
            None => None,
        };
        let at = format_args!("parent {parent} place {place} child {}", row.child);
        report.expect(same.as_ref() == Some(&row), Class::RelationIndexDiffers, at);
    }
    for row in report.read.scan(&RELATION_BY_SENDER, Range::all()) {
        let ((parent, sender, rel_type, place), row) = row?;
        let same = report.read.get(&RELATION_BY_PARENT, &(parent, &*rel_type, place))?;
        let is_by_sender = report.read.get(&USER_BY_SHORT, &sender)?.as_ref() == Some(&row.sender);
        let at = format_args!("parent {parent} place {place} sender {sender}");
        let agrees = same.as_ref() == Some(&row) && is_by_sender;
        report.expect(agrees, Class::RelationIndexDiffers, at);
    }
    Ok(())
}
