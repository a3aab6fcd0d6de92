//! Events as push rules match them, kept for the other users in the room.
//!
//! Invariant: what is kept follows from the signed event and its place alone, which never change. In memory alone, and bounded.

use std::sync::{Arc, OnceLock};

use quick_cache::{Weighter, sync::Cache};
use ruma::{push::FlattenedJson, serde::Raw};
use serde_json::value::RawValue;
use wick_core::{Pdu, ShortEventId};
use wick_room::RelatesTo;
use wick_ruma::{EXPIRE_RELATION, ExpireStatus};

use crate::rules::BODY;

/// How much memory the events may take, by [`Flattened::weight`].
const CACHED_BYTES: u64 = 16 << 20;

/// What an event takes of memory for each byte of its JSON, about.
const BYTES_PER_BYTE: u64 = 4;

/// An event as push rules match it.
pub(crate) struct Flattened {
    /// Its fields, by their paths.
    pub(crate) fields: FlattenedJson,
    /// Its `content.body` in lower case.
    pub(crate) body: Option<String>,
    /// Whether it is the terminal copy of an event that expired or was ended.
    pub(crate) ends_another: bool,
    /// Whether it came into a gap of the timeline, once that was looked up.
    pub(crate) is_in_gap: OnceLock<bool>,
    weight: u64,
}

impl Flattened {
    fn new(pdu: &Pdu) -> Self {
        Self { ends_another: is_end_of_another(pdu), ..Self::of_invite(&pdu.json) }
    }

    /// An invite of which nothing but its JSON is known.
    pub(crate) fn of_invite(json: &RawValue) -> Self {
        let fields = FlattenedJson::from_raw(&Raw::<()>::from_json(json.to_owned()));
        let bytes = u64::try_from(json.get().len()).unwrap_or(u64::MAX);
        Self {
            body: fields.get_str(BODY).map(str::to_lowercase),
            fields,
            ends_another: false,
            is_in_gap: OnceLock::new(),
            weight: bytes.saturating_mul(BYTES_PER_BYTE),
        }
    }
}

/// Whether an event is the terminal copy of one that expired or was ended.
pub(crate) fn is_end_of_another(pdu: &Pdu) -> bool {
    RelatesTo::of(&pdu.content).is_some_and(|relation| relation.rel_type == EXPIRE_RELATION)
        && ExpireStatus::from_content(&pdu.content).is_some_and(|status| status.is_terminal())
}

#[derive(Clone)]
struct Weight;

impl Weighter<ShortEventId, Arc<Flattened>> for Weight {
    fn weight(&self, _: &ShortEventId, event: &Arc<Flattened>) -> u64 {
        event.weight
    }
}

/// Events that were matched recently.
pub(crate) struct FlattenedEvents(Cache<ShortEventId, Arc<Flattened>, Weight>);

impl Default for FlattenedEvents {
    fn default() -> Self {
        Self(Cache::with_weighter(1_000, CACHED_BYTES, Weight))
    }
}

impl FlattenedEvents {
    /// An event as push rules match it.
    pub(crate) fn get(&self, short: ShortEventId, pdu: &Pdu) -> Arc<Flattened> {
        if let Some(known) = self.0.get(&short) {
            return known;
        }
        let event = Arc::new(Flattened::new(pdu));
        self.0.insert(short, Arc::clone(&event));
        event
    }
}
