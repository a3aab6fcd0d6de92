//! A page of a timeline: the events that are visible to the user and pass the filter.
//!
//! Invariant: a page has a token to continue from exactly if there is more between its two ends.

use std::{collections::HashSet, sync::Arc};

use ruma::{OwnedUserId, UserId, events::StateEventType};
use serde_json::value::RawValue;
use wick_core::{Result, StateRoot, event::pdu::SharedPdu};
use wick_database::{Read, schema::room::REDACTION_BY_EVENT};
use wick_room::{Direction, TimelineItem, render::Show, visibility::Reach};

use super::{EventFilter, MAX_SCANNED, Reader, room_id};

/// What of a timeline to read.
pub(crate) struct Span<'a> {
    /// Where to begin.
    pub(crate) from: i64,
    /// Where to end at the latest.
    pub(crate) to: Option<i64>,
    /// Which way.
    pub(crate) direction: Direction,
    /// How many events at most.
    pub(crate) limit: usize,
    /// Which ones.
    pub(crate) filter: &'a EventFilter,
    /// Whether to read on behind a gap in which events are missing.
    pub(crate) skips_gaps: bool,
}

/// What was found.
#[derive(Default)]
pub(crate) struct Page {
    /// The events in the order in which they were read.
    pub(crate) events: Vec<Shown>,
    /// Where to continue; `None` at the end.
    pub(crate) next: Option<i64>,
    /// The place of the event after the gap at which the page ends early.
    pub(crate) gap: Option<i64>,
}

/// An event of a page.
pub(crate) struct Shown {
    pub(crate) place: i64,
    pub(crate) sender: OwnedUserId,
    pub(crate) json: Box<RawValue>,
}

impl Reader<'_> {
    /// The same reader with events in the form that a filter wants.
    pub(crate) fn formatted(self, filter: &EventFilter) -> Self {
        Self { viewer: self.viewer.formatted(Arc::clone(&filter.format)), ..self }
    }

    /// Reads a page.
    pub(crate) fn page(&mut self, span: &Span<'_>) -> Result<Page> {
        let mut page = Page::default();
        if !span.filter.allows_room(&room_id(self.graph, self.read, self.room)?) {
            return Ok(page);
        }
        let from = match (self.reach, span.direction) {
            (Reach::Until(end), Direction::Backward) => span.from.min(end),
            _ => span.from,
        };
        // A token for what comes next, whatever comes into the timeline behind it.
        let mut next = from;
        let graph = self.graph;
        let gaps =
            if span.skips_gaps { Vec::new() } else { graph.open_gaps(self.read, self.room)? };
        let timeline = graph.timeline(self.read, self.room, from, span.direction);
        for (scanned, item) in timeline.enumerate() {
            let item = item?;
            if self.is_beyond(span, item) {
                break;
            }
            let (low, high) = match span.direction {
                Direction::Backward => (item.place, next),
                Direction::Forward => (next, item.place),
            };
            let gap = gaps.iter().find(|gap| gap.is_between(low, high));
            if gap.is_some() || page.events.len() >= span.limit || scanned >= MAX_SCANNED {
                page.gap = gap.map(|gap| gap.place);
                page.next = Some(next);
                break;
            }
            next = match span.direction {
                Direction::Backward => item.place.saturating_sub(1),
                Direction::Forward => item.place,
            };
            page.events.extend(self.take(span, item)?);
        }
        Ok(page)
    }

    fn is_beyond(&self, span: &Span<'_>, item: TimelineItem) -> bool {
        match span.direction {
            Direction::Backward => span.to.is_some_and(|to| item.place <= to),
            Direction::Forward => {
                let left = match self.reach {
                    Reach::Until(end) => item.place > end,
                    Reach::Live => false,
                };
                left || span.to.is_some_and(|to| item.place > to)
            }
        }
    }

    fn take(&mut self, span: &Span<'_>, item: TimelineItem) -> Result<Option<Shown>> {
        let pdu = self.graph.load_event(self.read, item.event)?;
        if pdu.state_key.is_none() && self.ignored.contains(&pdu.sender) {
            return Ok(None);
        }
        let redacted = self.read.contains(&REDACTION_BY_EVENT, &item.event)?;
        if !span.filter.allows(&pdu, redacted) {
            return Ok(None);
        }
        self.shown(item, &pdu)
    }

    /// The event, if it may be seen.
    pub(crate) fn shown(&mut self, item: TimelineItem, pdu: &SharedPdu) -> Result<Option<Shown>> {
        let Some(place) = self.graph.place(self.read, item.event)? else { return Ok(None) };
        if !self.viewer.can_see(pdu, &place)? {
            return Ok(None);
        }
        let json = self.viewer.show_event(item.event, pdu, &place, Show::CLIENT)?;
        let sender = pdu.sender.clone();
        Ok(Some(Shown { place: item.place, sender, json }))
    }

    /// The member events of the senders, for clients that lazy-load
    /// members.
    pub(crate) fn members_of<'s>(
        &mut self,
        senders: impl Iterator<Item = &'s UserId>,
        root: StateRoot,
    ) -> Result<Vec<Box<RawValue>>> {
        let mut members = Vec::new();
        for sender in senders.collect::<HashSet<_>>() {
            let event = self.graph.state_event_at(
                self.read,
                root,
                &StateEventType::RoomMember,
                sender.as_str(),
            )?;
            if let Some(event) = event {
                members.push(self.viewer.show(event, Show::CLIENT)?);
            }
        }
        Ok(members)
    }
}
