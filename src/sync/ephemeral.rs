//! What passes in a room: typing and receipts.

use std::collections::BTreeMap;

use ruma::{OwnedEventId, OwnedUserId};
use serde::Serialize;
use serde_json::json;
use wick_account::filters;
use wick_core::{Position, Result};
use wick_database::{
    Read,
    schema::ephemeral::{ReceiptKind, TYPING_BY_ROOM},
};
use wick_people::receipts::{self, Receipt};

use super::{
    builder::Builder,
    response::{Json, basic_event},
    room::Scope,
};

/// What is new of what passes.
#[derive(Default)]
pub(super) struct Ephemeral {
    pub(super) events: Vec<Json>,
    /// The user's own receipts moved, so the counts did.
    pub(super) has_read: bool,
}

#[derive(Serialize)]
struct Told {
    ts: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    thread_id: Option<String>,
}

type Receipts = BTreeMap<OwnedEventId, BTreeMap<&'static str, BTreeMap<OwnedUserId, Told>>>;

impl Builder<'_> {
    /// What is new in a joined room.
    pub(super) fn ephemeral(&self, scope: &Scope) -> Result<Ephemeral> {
        let mut found = Ephemeral::default();
        if !scope.joined {
            return Ok(found);
        }
        let filter = &self.request.filter.room.ephemeral;
        let wants_room = filters::allows_events_of(filter, &self.room_id(scope.room)?);
        let wants = |event_type| wants_room && filters::allows_room_type(filter, event_type);
        if wants("m.typing")
            && let Some(typing) = self.typing(scope)?
        {
            found.events.push(typing);
        }
        let receipts = match scope.since {
            Some(since) => receipts::moved(&self.read, scope.room, since, self.upto)?,
            None => receipts::of_room(&self.read, scope.room)?,
        };
        found.has_read = receipts.iter().any(|receipt| receipt.name.user == self.session.user);
        if wants("m.receipt")
            && let Some(receipts) = self.receipts(receipts)?
        {
            found.events.push(receipts);
        }
        Ok(found)
    }

    fn typing(&self, scope: &Scope) -> Result<Option<Json>> {
        let Some(row) = self.read.get(&TYPING_BY_ROOM, &scope.room)? else { return Ok(None) };
        let is_new = match scope.since {
            Some(since) => row.position > Position(u64::try_from(since).unwrap_or_default()),
            None => !row.users.is_empty(),
        };
        if !is_new {
            return Ok(None);
        }
        let users: Vec<_> = row.users.iter().filter(|user| !self.ignores(user)).collect();
        basic_event("m.typing", &json!({ "user_ids": users })).map(Some)
    }

    /// One event for all: of receipts that go to the same event the one about no thread is told, as
    /// it says more (MSC4102).
    fn receipts(&self, receipts: Vec<Receipt>) -> Result<Option<Json>> {
        let mut content = Receipts::new();
        for Receipt { name, row } in receipts {
            let kind = if name.kind == ReceiptKind::Public as u8 {
                "m.read"
            } else if name.user == self.session.user {
                "m.read.private"
            } else {
                continue;
            };
            let user_id = self.graph.user_id(&self.read, name.user)?;
            if self.ignores(&user_id) {
                continue;
            }
            let users = content.entry(row.event_id).or_default().entry(kind).or_default();
            if name.thread.is_empty() || !users.contains_key(&user_id) {
                let thread_id = Some(name.thread).filter(|thread| !thread.is_empty());
                users.insert(user_id, Told { ts: row.at.0, thread_id });
            }
        }
        if content.is_empty() {
            return Ok(None);
        }
        basic_event("m.receipt", &content).map(Some)
    }
}
