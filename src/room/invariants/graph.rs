//! Heads, timelines and places agree.

use std::collections::{HashMap, HashSet};

use ruma::{EventId, OwnedEventId};
use serde::Deserialize;
use wick_core::{Error, Position, Result, ShortEventId};
use wick_database::{
    Range, Read,
    schema::{
        intern::SHORT_BY_EVENT,
        room::{
            CHILD_BY_MISSING, EVENT_BY_POSITION, GAP_BY_PLACE, MISSING_BY_CHILD, PLACE_BY_EVENT,
            Place, STORED_BY_EVENT, THREAD_BY_ACTIVITY, THREAD_BY_ROOT,
        },
        stream::EVENT_BY_STREAM,
    },
};

use super::{Class, Report, Room};
use crate::{gaps::is_in_gap, to_place};

#[derive(Deserialize)]
struct Edges {
    prev_events: HashSet<OwnedEventId>,
    auth_events: HashSet<OwnedEventId>,
}

pub(super) fn check<R: Read>(report: &mut Report<'_, R>, rooms: &[Room]) -> Result<()> {
    let known = Known {
        extremities: heads(report, rooms)?,
        stream: report.read.first(&EVENT_BY_STREAM, Range::all())?.map(|(first, _)| first),
    };
    for row in report.read.scan(&PLACE_BY_EVENT, Range::all()) {
        let (event, place) = row?;
        check_place(report, event, &place, &known)?;
    }
    stream(report)?;
    for row in report.read.scan(&EVENT_BY_POSITION, Range::all()) {
        let ((room, position), event) = row?;
        let place = report.read.get(&PLACE_BY_EVENT, &event)?;
        let there = place.is_some_and(|p| p.room == room && p.position == Some(position));
        let at = format_args!("room {room} position {position} event {event}");
        report.expect(there, Class::TimelineRowWithoutEvent, at);
    }
    missing(report)?;
    gaps(report)?;
    threads(report)
}

/// Gaps do not overlap, and have events from above only.
fn gaps<R: Read>(report: &mut Report<'_, R>) -> Result<()> {
    let mut last = None;
    for row in report.read.scan(&GAP_BY_PLACE, Range::all()) {
        let ((room, place), gap) = row?;
        let free = Range::prefix((room,)).and(Range::after(&(room, gap.floor)));
        let free = free.and(Range::upto(&(room, gap.lowest)));
        let is_free = report.read.first(&EVENT_BY_POSITION, free)?.is_none();
        let is_apart = last.is_none_or(|(other, end)| other != room || end <= gap.floor);
        let is_ordered = gap.floor < gap.lowest && gap.lowest <= place;
        let at = format_args!("room {room} place {place}");
        report.expect(is_free && is_apart && is_ordered, Class::GapDiffers, at);
        last = Some((room, place));
    }
    Ok(())
}

/// No event is listed as missing that is here with its place.
fn missing<R: Read>(report: &mut Report<'_, R>) -> Result<()> {
    for row in report.read.scan(&CHILD_BY_MISSING, Range::all()) {
        let ((room, id), child) = row?;
        let is_here = has_place(report.read, &id)?;
        report.expect(!is_here, Class::MissingEventIsHere, format_args!("room {room}"));
        let listed = report.read.contains(&MISSING_BY_CHILD, &(room, child, id))?;
        report.expect(listed, Class::MissingIndexDiffers, format_args!("room {room} {child}"));
    }
    for row in report.read.scan(&MISSING_BY_CHILD, Range::all()).keys() {
        let (room, child, id) = row?;
        let same = report.read.get(&CHILD_BY_MISSING, &(room, id))? == Some(child);
        report.expect(same, Class::MissingIndexDiffers, format_args!("room {room} {child}"));
    }
    Ok(())
}

fn has_place(read: &impl Read, id: &EventId) -> Result<bool> {
    let Some(short) = read.get(&SHORT_BY_EVENT, id)? else { return Ok(false) };
    let place = read.get(&PLACE_BY_EVENT, &short)?;
    let is_stored = read.contains(&STORED_BY_EVENT, &short)?;
    Ok(is_stored && place.is_some_and(|place| !place.is_outlier()))
}

/// What places are compared with.
struct Known {
    extremities: HashMap<OwnedEventId, ShortEventId>,
    /// Where the stream begins.
    stream: Option<Position>,
}

/// Each entry of the stream is the event at that position.
fn stream<R: Read>(report: &mut Report<'_, R>) -> Result<()> {
    for row in report.read.scan(&EVENT_BY_STREAM, Range::all()) {
        let (position, entry) = row?;
        let place = report.read.get(&PLACE_BY_EVENT, &entry.event)?;
        let is_there = place.is_some_and(|place| {
            place.room == entry.room && place.position == i64::try_from(position.0).ok()
        });
        let at = format_args!("position {position} event {}", entry.event);
        report.expect(is_there, Class::StreamDiffers, at);
    }
    Ok(())
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
    known: &Known,
) -> Result<()> {
    let room = place.room;
    let Some(stored) = report.read.get(&STORED_BY_EVENT, &event)? else {
        report.add(Class::PlaceWithoutEvent, format_args!("room {room} event {event}"));
        return Ok(());
    };
    let edges: Edges = serde_json::from_str(&stored.json)
        .map_err(|error| Error::internal("a stored event cannot be parsed", error))?;
    for auth in &edges.auth_events {
        let is_stored = match report.read.get(&SHORT_BY_EVENT, auth)? {
            Some(auth) => report.read.contains(&STORED_BY_EVENT, &auth)?,
            None => false,
        };
        let at = format_args!("room {room} event {event}");
        report.expect(is_stored, Class::AuthEventMissing, at);
    }
    let Some(position) = place.position else { return Ok(()) };
    let row = report.read.get(&EVENT_BY_POSITION, &(room, position))?;
    let at = format_args!("room {room} position {position} event {event}");
    report.expect(row == Some(event), Class::EventWithoutTimelineRow, at);
    for prev in edges.prev_events.iter().filter_map(|id| known.extremities.get(id)) {
        let at = format_args!("room {room} event {prev} referred to by event {event}");
        report.add(Class::ExtremityReferenced, at);
    }
    for prev in edges.prev_events {
        let listed = report.read.contains(&CHILD_BY_MISSING, &(room, prev.clone()))?;
        let there = listed || has_place(report.read, &prev)?;
        report.expect(there, Class::PrevEventMissing, format_args!("room {room} event {event}"));
    }
    if let Ok(position) = u64::try_from(position).map(Position)
        && known.stream.is_some_and(|first| position >= first)
        && !is_in_gap(report.read, room, to_place(position))?
    {
        let entry = report.read.get(&EVENT_BY_STREAM, &position)?;
        let is_there = entry.is_some_and(|entry| entry.event == event && entry.room == room);
        let at = format_args!("room {room} position {position} event {event}");
        report.expect(is_there, Class::StreamDiffers, at);
    }
    Ok(())
}
