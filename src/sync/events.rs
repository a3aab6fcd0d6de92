//! Events as they go to the client: JSON already, so that the bytes of a rendered event can be shared.

use serde::Serialize;
use serde_json::value::RawValue;
use wick_core::{Error, Result};

/// An event as it goes to the client.
pub type Json = Box<RawValue>;

/// A list of events.
#[derive(Debug, Default, Serialize)]
pub struct Events {
    /// One after another.
    pub events: Vec<Json>,
}

impl Events {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }
}

impl From<Vec<Json>> for Events {
    fn from(events: Vec<Json>) -> Self {
        Self { events }
    }
}

/// An event that has a type and a content and nothing else.
pub(crate) fn basic_event(event_type: &str, content: &impl Serialize) -> Result<Json> {
    #[derive(Serialize)]
    struct Basic<'a, C> {
        #[serde(rename = "type")]
        event_type: &'a str,
        content: &'a C,
    }
    serde_json::value::to_raw_value(&Basic { event_type, content })
        .map_err(|error| Error::internal("an event cannot be written", error))
}
