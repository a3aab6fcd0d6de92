//! Every state that is referred to is whole, and the current one agrees with the table.

use std::collections::{BTreeMap, HashSet};

use ruma::events::StateEventType;
use wick_core::{Result, StateRoot};
use wick_database::{
    Range, Read,
    schema::{
        intern::STATE_KEY_BY_SHORT,
        room::{
            EVENT_BY_SETTING, EVENT_BY_STATE, PLACE_BY_EVENT, ROOT_BY_POSITION, STORED_BY_EVENT,
        },
    },
};

use super::{Class, Report, Room};
use crate::state::States;

pub(super) fn check<R: Read>(report: &mut Report<'_, R>, rooms: &[Room]) -> Result<()> {
    let mut seen = HashSet::new();
    for row in report.read.scan(&PLACE_BY_EVENT, Range::all()) {
        let (event, place) = row?;
        for root in [place.before, place.after] {
            check_nodes(report, &mut seen, root, format_args!("event {event}"))?;
        }
    }
    for row in report.read.scan(&ROOT_BY_POSITION, Range::all()) {
        let ((room, position), root) = row?;
        let at = format_args!("room {room} position {position}");
        check_nodes(report, &mut seen, root, at)?;
    }
    for (room, head) in rooms {
        if check_nodes(report, &mut seen, head.state, format_args!("head of room {room}"))? {
            check_current(report, (room, head))?;
        }
    }
    Ok(())
}

/// Whether all nodes of a state are there. Nodes that were seen before are not looked at again.
fn check_nodes<R: Read>(
    report: &mut Report<'_, R>,
    seen: &mut HashSet<StateRoot>,
    root: StateRoot,
    at: std::fmt::Arguments<'_>,
) -> Result<bool> {
    let mut missing = Vec::new();
    States::walk(report.read, root, &mut |node| {
        if !seen.insert(node) {
            return Ok(false);
        }
        let stored = States::is_stored(report.read, node)?;
        if !stored {
            missing.push(node);
            // So that other states that refer to it are reported as well.
            seen.remove(&node);
        }
        Ok(stored)
    })?;
    for node in &missing {
        report.add(Class::StateNodeMissing, format_args!("node {node:?} of the state at {at}"));
    }
    Ok(missing.is_empty())
}

fn check_current<R: Read>(
    report: &mut Report<'_, R>,
    (room, head): (&wick_core::ShortRoomId, &wick_database::schema::room::Head),
) -> Result<()> {
    let Ok(tree) = States::collect_stored(report.read, head.state) else {
        // A node that another state lacks as well has been reported.
        report.add(Class::StateNodeMissing, format_args!("head of room {room}"));
        return Ok(());
    };
    let tree: BTreeMap<_, _> = tree.into_iter().collect();
    let mut table = BTreeMap::new();
    for row in report.read.scan(&EVENT_BY_STATE, Range::prefix((*room,))) {
        let ((_, key), event) = row?;
        table.insert(key, event);
    }
    for key in tree.keys().chain(table.keys()).collect::<std::collections::BTreeSet<_>>() {
        let same = tree.get(key) == table.get(key);
        report.expect(same, Class::CurrentStateDiffers, format_args!("room {room} key {key}"));
    }
    let mut settings = BTreeMap::new();
    for row in report.read.scan(&EVENT_BY_SETTING, Range::prefix((*room,))) {
        let ((_, key), event) = row?;
        settings.insert(key, event);
    }
    for key in tree.keys().chain(settings.keys()).collect::<std::collections::BTreeSet<_>>() {
        let tuple = report.read.get(&STATE_KEY_BY_SHORT, key)?;
        let is_member = matches!(tuple, Some((StateEventType::RoomMember, _)));
        let expected = tree.get(key).filter(|_| !is_member);
        let same = expected == settings.get(key);
        report.expect(same, Class::CurrentStateDiffers, format_args!("room {room} setting {key}"));
    }
    for event in tree.values() {
        let stored = report.read.contains(&STORED_BY_EVENT, event)?;
        report.expect(stored, Class::StateEventMissing, format_args!("room {room} event {event}"));
    }
    Ok(())
}
