//! What events rest on: their auth events, the auth events of these, and so on.
//!
//! Invariant: of the events on the way nothing is held but short ids, and none of them takes a place in the cache, however
//! long the chain is.

use std::collections::HashSet;

use ruma::OwnedEventId;
use serde::Deserialize;
use serde_json::value::RawValue;
use wick_core::{Error, Result, ShortEventId};
use wick_database::{Read, schema::room::STORED_BY_EVENT};

use crate::Graph;

/// The part of an event that is read here.
#[derive(Deserialize)]
struct Edges {
    auth_events: Vec<OwnedEventId>,
}

impl Graph {
    /// The auth chain of events, as far as it is stored, without these events unless others of them rest on them.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn auth_chain(
        &self,
        read: &impl Read,
        of: impl IntoIterator<Item = ShortEventId>,
    ) -> Result<Vec<ShortEventId>> {
        let (mut open, mut seen, mut chain) = (Vec::new(), HashSet::new(), Vec::new());
        for event in of {
            self.note_auth_events(read, event, (&mut seen, &mut open))?;
            while let Some(event) = open.pop() {
                chain.push(event);
                self.note_auth_events(read, event, (&mut seen, &mut open))?;
            }
        }
        Ok(chain)
    }

    fn note_auth_events(
        &self,
        read: &impl Read,
        event: ShortEventId,
        (seen, open): (&mut HashSet<ShortEventId>, &mut Vec<ShortEventId>),
    ) -> Result<()> {
        let Some(stored) = read.get(&STORED_BY_EVENT, &event)? else { return Ok(()) };
        let Edges { auth_events } = serde_json::from_str(&stored.json)
            .map_err(|error| Error::internal("a stored event cannot be parsed", error))?;
        for id in auth_events {
            let Some(auth_event) = self.intern().lookup_event(read, &id)? else { continue };
            if !seen.contains(&auth_event) && read.contains(&STORED_BY_EVENT, &auth_event)? {
                seen.insert(auth_event);
                open.push(auth_event);
            }
        }
        Ok(())
    }

    /// The JSON of an event that must be stored here, past the cache.
    ///
    /// # Errors
    /// If it cannot be read or is not there.
    pub fn stored_json(&self, read: &impl Read, event: ShortEventId) -> Result<Box<RawValue>> {
        let stored = read.get(&STORED_BY_EVENT, &event)?;
        let stored =
            stored.ok_or_else(|| Error::corrupt(format!("event {event} is not stored")))?;
        RawValue::from_string(stored.json)
            .map_err(|error| Error::internal("a stored event is not JSON", error))
    }
}
