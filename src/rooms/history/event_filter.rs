//! What a filter lets through of a timeline, relations included.

use std::sync::Arc;

use ruma::{RoomId, api::client::filter::RoomEventFilter};
use wick_account::filters;
use wick_core::Pdu;
use wick_room::{RelatesTo, render::Format};

/// A filter of events with what ruma's does not have (MSC3874).
#[derive(Clone, Debug, Default)]
pub struct EventFilter {
    /// By type, sender, URL.
    pub events: RoomEventFilter,
    /// How they must relate to others.
    pub rel_types: Option<Vec<String>>,
    /// How they must not.
    pub not_rel_types: Vec<String>,
    /// In which form to show the events.
    pub format: Arc<Format>,
}

impl EventFilter {
    /// Whether events of the room pass at all.
    pub(crate) fn allows_room(&self, room_id: &RoomId) -> bool {
        filters::allows_events_of(&self.events, room_id)
    }

    /// Whether an event passes. A redacted one has no relation any more.
    pub(crate) fn allows(&self, event: &Pdu, redacted: bool) -> bool {
        filters::allows_event(&self.events, event) && self.allows_relation(event, redacted)
    }

    fn allows_relation(&self, event: &Pdu, redacted: bool) -> bool {
        if self.rel_types.is_none() && self.not_rel_types.is_empty() {
            return true;
        }
        let relation = if redacted { None } else { RelatesTo::of(&event.content) };
        match relation {
            Some(RelatesTo { rel_type, .. }) => {
                !self.not_rel_types.contains(&rel_type)
                    && self.rel_types.as_ref().is_none_or(|wanted| wanted.contains(&rel_type))
            }
            None => self.rel_types.is_none(),
        }
    }
}
