//! Bundled aggregations: what other events say of this one, in one place.
//!
//! <https://spec.matrix.org/v1.18/client-server-api/#aggregations-of-child-events>

use serde_json::{Map, Value, json};
use wick_core::{Pdu, Result, ShortEventId};
use wick_database::{
    Range, Read,
    schema::room::{
        PARTICIPATION_BY_THREAD, PLACE_BY_EVENT, REDACTION_BY_EVENT, RELATION_BY_PARENT,
        THREAD_BY_ROOT,
    },
};

use crate::visibility::Viewer;

/// How many references are bundled at most; the rest is to be had from `/relations`.
const MAX_REFERENCES: usize = 50;

/// How many edits, or answers in a thread, are looked at in search of the newest.
const MAX_EDITS: usize = 200;

impl Viewer<'_> {
    pub(super) fn aggregations(
        &mut self,
        short: ShortEventId,
        pdu: &Pdu,
    ) -> Result<Map<String, Value>> {
        let mut relations = Map::new();
        // One look tells nearly every event that nobody relates to it.
        if self.read.first(&RELATION_BY_PARENT, Range::prefix((short,)))?.is_none() {
            return Ok(relations);
        }
        if let Some(edit) = self.latest_edit(short, pdu)?
            && let Some(edit) = self.nested(edit)?
        {
            relations.insert("m.replace".to_owned(), edit);
        }
        if let Some(thread) = self.thread(short)? {
            relations.insert("m.thread".to_owned(), thread);
        }
        let references = self.references(short)?;
        if !references.is_empty() {
            relations.insert("m.reference".to_owned(), json!({ "chunk": references }));
        }
        Ok(relations)
    }

    /// The newest event that replaces this one and may: by the same sender, of the same type, no state.
    fn latest_edit(&mut self, short: ShortEventId, pdu: &Pdu) -> Result<Option<ShortEventId>> {
        if pdu.state_key.is_some() {
            return Ok(None);
        }
        let edits = Range::prefix((short, "m.replace".to_owned()));
        let mut latest: Option<(u64, String, ShortEventId)> = None;
        for row in self.read.scan_back(&RELATION_BY_PARENT, edits).take(MAX_EDITS) {
            let (_, row) = row?;
            if row.sender != pdu.sender || row.event_type != pdu.event_type.to_string() {
                continue;
            }
            let edit = self.rooms.load_event(self.read, row.child)?;
            if edit.state_key.is_some() || !self.sees(row.child, &edit)? {
                continue;
            }
            let key = (edit.origin_server_ts.0, edit.event_id.to_string(), row.child);
            if latest.as_ref().is_none_or(|latest| (key.0, &key.1) > (latest.0, &latest.1)) {
                latest = Some(key);
            }
        }
        Ok(latest.map(|(_, _, event)| event))
    }

    fn thread(&mut self, short: ShortEventId) -> Result<Option<Value>> {
        let Some(place) = self.read.get(&PLACE_BY_EVENT, &short)? else { return Ok(None) };
        let Some(thread) = self.read.get(&THREAD_BY_ROOT, &(place.room, short))? else {
            return Ok(None);
        };
        if thread.count == 0 {
            return Ok(None);
        }
        let participated = match self.user {
            Some(user) => self.read.contains(&PARTICIPATION_BY_THREAD, &(short, user))?,
            None => false,
        };
        let sender = self.rooms.load_event(self.read, short)?.sender.clone();
        let Some(latest) = self.latest_in_thread(short, thread.latest)? else { return Ok(None) };
        Ok(Some(json!({
            "latest_event": latest,
            "count": thread.count,
            "current_user_participated": participated || sender == self.user_id,
        })))
    }

    /// The newest event of a thread that the viewer may see.
    fn latest_in_thread(
        &mut self,
        root: ShortEventId,
        latest: ShortEventId,
    ) -> Result<Option<Value>> {
        if let Some(latest) = self.nested(latest)? {
            return Ok(Some(latest));
        }
        let earlier = Range::prefix((root, "m.thread".to_owned()));
        for row in self.read.scan_back(&RELATION_BY_PARENT, earlier).take(MAX_EDITS) {
            let (_, row) = row?;
            if let Some(event) = self.nested(row.child)? {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    fn sees(&mut self, event: ShortEventId, pdu: &Pdu) -> Result<bool> {
        let place = self.rooms.place(self.read, event)?;
        place.map_or(Ok(false), |place| self.can_see(pdu, &place))
    }

    fn references(&mut self, short: ShortEventId) -> Result<Vec<Value>> {
        let range = Range::prefix((short, "m.reference".to_owned()));
        let mut references = Vec::new();
        for row in self.read.scan(&RELATION_BY_PARENT, range).take(MAX_REFERENCES) {
            let (_, row) = row?;
            if self.read.contains(&REDACTION_BY_EVENT, &row.child)? {
                continue;
            }
            let event = self.rooms.load_event(self.read, row.child)?;
            if !self.sees(row.child, &event)? {
                continue;
            }
            references.push(json!({ "event_id": event.event_id }));
        }
        Ok(references)
    }
}
