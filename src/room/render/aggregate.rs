//! Bundled aggregations: what an event's children add to it.
//!
//! Invariants: only children that the viewer may see count, and none of a user they ignore; what one
//! event costs is bounded, however many children it has.
//!
//! <https://spec.matrix.org/v1.18/client-server-api/#aggregations-of-child-events>

use serde::Deserialize;
use serde_json::{Map, Value, json, value::RawValue};
use wick_core::{Pdu, Result, ShortEventId, json};
use wick_database::{
    Range, Read,
    schema::room::{
        RELATION_BY_PARENT, RELATION_BY_SENDER, RelationRow, THREAD_BY_ROOT, ThreadRow,
    },
};

use super::{Aggregations, Show};
use crate::{RelatesTo, visibility::Viewer};

/// References that are bundled at most; the rest is to be had from `/relations`.
const MAX_REFERENCES: usize = 50;

/// Edits by the sender of an event that are looked at for the newest one.
const MAX_EDITS: usize = 200;

/// Events of a thread that are looked at for the newest one, or to count those that do not count.
const MAX_ANSWERS: usize = 1000;

impl Viewer<'_> {
    /// The aggregations of an event. A state event has none; a redacted one was not edited.
    pub(super) fn aggregations(
        &mut self,
        short: ShortEventId,
        pdu: &Pdu,
        redacted: bool,
        wanted: Aggregations,
    ) -> Result<Map<String, Value>> {
        let mut relations = Map::new();
        if wanted == Aggregations::None || pdu.state_key.is_some() {
            return Ok(relations);
        }
        if !redacted
            && let Some(edit) = self.latest_edit(short, pdu)?
            && let Some(edit) = self.nested(edit, Show::NESTED)?
        {
            relations.insert("m.replace".to_owned(), edit);
        }
        if wanted == Aggregations::All
            && let Some(thread) = self.thread(short, pdu)?
        {
            relations.insert("m.thread".to_owned(), thread);
        }
        let references = self.references(short)?;
        if !references.is_empty() {
            relations.insert("m.reference".to_owned(), json!({ "chunk": references }));
        }
        Ok(relations)
    }

    /// Whether the viewer has an event in a thread that was not redacted.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn participated(&self, root: ShortEventId) -> Result<bool> {
        let Some(user) = self.user else { return Ok(false) };
        let own = Range::prefix((root, user, "m.thread".to_owned()));
        Ok(self.read.first(&RELATION_BY_SENDER, own)?.is_some())
    }

    /// The newest event that replaces this one and is valid as an edit.
    ///
    /// <https://spec.matrix.org/v1.18/client-server-api/#validity-of-replacement-events>
    fn latest_edit(&mut self, short: ShortEventId, pdu: &Pdu) -> Result<Option<ShortEventId>> {
        let is_edit = |relation: RelatesTo| relation.rel_type == "m.replace";
        if RelatesTo::of(&pdu.content).is_some_and(is_edit) {
            return Ok(None);
        }
        let Some(sender) = self.rooms.intern().lookup_user(self.read, &pdu.sender)? else {
            return Ok(None);
        };
        let edits = Range::prefix((short, sender, "m.replace".to_owned()));
        let mut latest: Option<(u64, String, ShortEventId)> = None;
        for row in self.read.scan_back(&RELATION_BY_SENDER, edits).take(MAX_EDITS) {
            let (_, row) = row?;
            if row.event_type != pdu.event_type.to_string() {
                continue;
            }
            let edit = self.rooms.load_event(self.read, row.child)?;
            if edit.state_key.is_some()
                || !has_new_content(&edit.content)
                || !self.sees(row.child, &edit)?
            {
                continue;
            }
            let key = (edit.origin_server_ts.0, edit.event_id.to_string(), row.child);
            if latest.as_ref().is_none_or(|latest| (key.0, &key.1) > (latest.0, &latest.1)) {
                latest = Some(key);
            }
        }
        Ok(latest.map(|(_, _, event)| event))
    }

    fn thread(&mut self, root: ShortEventId, pdu: &Pdu) -> Result<Option<Value>> {
        let Some(thread) = self.read.get(&THREAD_BY_ROOT, &(self.room, root))? else {
            return Ok(None);
        };
        let count = self.answers(root, &thread)?;
        let Some(latest) = self.latest_answer(root)? else { return Ok(None) };
        let participated = pdu.sender == self.user_id || self.participated(root)?;
        Ok(Some(json!({
            "latest_event": latest,
            "count": count,
            "current_user_participated": participated,
        })))
    }

    /// How many events a thread has for the viewer.
    fn answers(&mut self, root: ShortEventId, thread: &ThreadRow) -> Result<u64> {
        if self.ignored.is_empty() && self.is_joined() {
            return Ok(thread.count);
        }
        let mut count = thread.count;
        let rows = Range::prefix((root, "m.thread".to_owned()));
        for row in self.read.scan_back(&RELATION_BY_PARENT, rows).take(MAX_ANSWERS) {
            let (_, row) = row?;
            if !self.counts(&row)? {
                count = count.saturating_sub(1);
            }
        }
        Ok(count)
    }

    /// The newest event of a thread, with what relates to it.
    fn latest_answer(&mut self, root: ShortEventId) -> Result<Option<Value>> {
        let rows = Range::prefix((root, "m.thread".to_owned()));
        for row in self.read.scan_back(&RELATION_BY_PARENT, rows).take(MAX_ANSWERS) {
            let (_, row) = row?;
            if self.ignores(&row) {
                continue;
            }
            if let Some(event) = self.nested(row.child, Show::IN_THREAD)? {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    fn references(&mut self, short: ShortEventId) -> Result<Vec<Value>> {
        let range = Range::prefix((short, "m.reference".to_owned()));
        let mut references = Vec::new();
        for row in self.read.scan(&RELATION_BY_PARENT, range).take(MAX_REFERENCES) {
            let (_, row) = row?;
            if self.counts(&row)? {
                let event = self.rooms.load_event(self.read, row.child)?;
                references.push(json!({ "event_id": event.event_id }));
            }
        }
        Ok(references)
    }

    /// Whether a child is one for this viewer.
    fn counts(&mut self, row: &RelationRow) -> Result<bool> {
        if self.ignores(row) {
            return Ok(false);
        }
        let event = self.rooms.load_event(self.read, row.child)?;
        self.sees(row.child, &event)
    }

    fn ignores(&self, row: &RelationRow) -> bool {
        self.ignored.contains(&row.sender)
    }

    fn sees(&mut self, event: ShortEventId, pdu: &Pdu) -> Result<bool> {
        let place = self.rooms.place(self.read, event)?;
        place.map_or(Ok(false), |place| self.can_see(pdu, &place))
    }
}

/// Whether an edit has a new content. That of an encrypted edit is inside its ciphertext.
fn has_new_content(content: &RawValue) -> bool {
    #[derive(Deserialize)]
    struct Content<'a> {
        #[serde(rename = "m.new_content", borrow)]
        new_content: Option<&'a RawValue>,
        #[serde(borrow)]
        ciphertext: Option<&'a RawValue>,
    }
    serde_json::from_str::<Content<'_>>(content.get()).is_ok_and(|content| {
        content.ciphertext.is_some() || content.new_content.is_some_and(json::is_object)
    })
}
