//! Heads, timelines and places agree.

use std::collections::{HashMap, HashSet};

use ruma::OwnedEventId;
use serde::Deserialize;
use wick_core::{Error, Result, ShortEventId};
use wick_database::{
    Range, Read,
    schema::room::{
        EVENT_BY_POSITION, PLACE_BY_EVENT, Place, STORED_BY_EVENT, THREAD_BY_ACTIVITY,
        THREAD_BY_ROOT,
    },
};

use super::{Class, Report, Room};

#[derive(Deserialize)]
struct Edges {
    prev_events: HashSet<OwnedEventId>,
}

pub(super) fn check<R: Read>(report: &mut Report<'_, R>, rooms: &[Room]) -> Result<()> {
    let extremities = heads(report, rooms)?;
    for row in report.read.scan(&PLACE_BY_EVENT, Range::all()) {
        let (event, place) = row?;
        check_place(report, event, &place, &extremities)?;
    }
    for row in report.read.scan(&EVENT_BY_POSITION, Range::all()) {
        let ((room, position), event) = row?;
        let place = report.read.get(&PLACE_BY_EVENT, &event)?;
        let there = place.is_some_and(|p| p.room == room && p.position == Some(position));
        let at = format_args!("room {room} position {position} event {event}");
        report.expect(there, Class::TimelineRowWithoutEvent, at);
    }
    threads(report)
}

/// Each thread is listed once, where its newest event is.
fn threads<R: Read>(report: &mut Report<'_, R>) -> Result<()> {
    for row in report.read.scan(&THREAD_BY_ACTIVITY, Range::all()) {
        let ((room, position), root) = row?;
        let thread = report.read.get(&THREAD_BY_ROOT, &(room, root))?;
        let newest = thread.is_some_and(|thread| thread.latest_position == position);
        let at = format_args!("room {room} position {position} root {root}");
        report.expect(newest, Class::ThreadIndexDiffers, at);
    }
    for row in report.read.scan(&THREAD_BY_ROOT, Range::all()) {
        let ((room, root), thread) = row?;
        let listed = report.read.get(&THREAD_BY_ACTIVITY, &(room, thread.latest_position))?;
        let at = format_args!("room {room} root {root}");
        report.expect(listed == Some(root), Class::ThreadIndexDiffers, at);
    }
    Ok(())
}

/// Checks the heads; gives their extremities.
fn heads<R: Read>(
    report: &mut Report<'_, R>,
    rooms: &[Room],
) -> Result<HashMap<OwnedEventId, ShortEventId>> {
    let mut extremities = HashMap::new();
    for (room, head) in rooms {
        report.expect(
            !head.extremities.is_empty(),
            Class::NoExtremity,
            format_args!("room {room}"),
        );
        for event in &head.extremities {
            let place = report.read.get(&PLACE_BY_EVENT, event)?;
            let stored = report.read.get(&STORED_BY_EVENT, event)?;
            let accepted = place
                .is_some_and(|p| p.room == *room && p.position.is_some() && !p.soft_failed)
                && stored.as_ref().is_some_and(|event| !event.rejected);
            let at = format_args!("room {room} event {event}");
            report.expect(accepted, Class::ExtremityMissing, at);
            extremities.extend(stored.map(|stored| (stored.event_id, *event)));
        }
    }
    Ok(extremities)
}

fn check_place<R: Read>(
    report: &mut Report<'_, R>,
    event: ShortEventId,
    place: &Place,
    extremities: &HashMap<OwnedEventId, ShortEventId>,
) -> Result<()> {
    let room = place.room;
    let Some(stored) = report.read.get(&STORED_BY_EVENT, &event)? else {
        report.add(Class::PlaceWithoutEvent, format_args!("room {room} event {event}"));
        return Ok(());
    };
    let Some(position) = place.position else { return Ok(()) };
    let row = report.read.get(&EVENT_BY_POSITION, &(room, position))?;
    let at = format_args!("room {room} position {position} event {event}");
    report.expect(row == Some(event), Class::EventWithoutTimelineRow, at);
    let edges: Edges = serde_json::from_str(&stored.json)
        .map_err(|error| Error::internal("a stored event cannot be parsed", error))?;
    for prev in edges.prev_events.iter().filter_map(|id| extremities.get(id)) {
        let at = format_args!("room {room} event {prev} referred to by event {event}");
        report.add(Class::ExtremityReferenced, at);
    }
    Ok(())
}
