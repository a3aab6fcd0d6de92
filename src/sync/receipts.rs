//! Read receipts of a room.

use std::collections::BTreeMap;

use ruma::{OwnedEventId, OwnedUserId};
use serde::Serialize;
use wick_core::Result;
use wick_database::schema::ephemeral::ReceiptKind;
use wick_people::receipts::{self, Receipt};

use crate::{
    context::Context,
    events::{Json, basic_event},
    scope::Scope,
};

#[derive(Serialize)]
struct Content {
    ts: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    thread_id: Option<String>,
}

type Contents = BTreeMap<OwnedEventId, BTreeMap<&'static str, BTreeMap<OwnedUserId, Content>>>;

/// The receipts that moved; all of a room that the client does not have.
///
/// # Errors
/// If the database cannot be read.
pub fn moved(context: &Context<'_>, scope: &Scope) -> Result<Vec<Receipt>> {
    match scope.since {
        Some(since) => receipts::moved(&context.read, scope.room, since, context.upto),
        None => receipts::of_room(&context.read, scope.room),
    }
}

/// One `m.receipt` event for all: of several receipts of a user for the same event the unthreaded one is
/// kept, as it covers the others (MSC4102). Private receipts of others are left out.
///
/// # Errors
/// If the database cannot be read.
pub fn event(context: &Context<'_>, receipts: Vec<Receipt>) -> Result<Option<Json>> {
    let mut contents = Contents::new();
    for Receipt { name, row } in receipts {
        let kind = if name.kind == ReceiptKind::Public as u8 {
            "m.read"
        } else if name.user == context.session.user {
            "m.read.private"
        } else {
            continue;
        };
        let user_id = context.graph.user_id(&context.read, name.user)?;
        if context.ignores(&user_id) {
            continue;
        }
        let users = contents.entry(row.event_id).or_default().entry(kind).or_default();
        if name.thread.is_empty() || !users.contains_key(&user_id) {
            let thread_id = Some(name.thread).filter(|thread| !thread.is_empty());
            users.insert(user_id, Content { ts: row.at.0, thread_id });
        }
    }
    if contents.is_empty() {
        return Ok(None);
    }
    basic_event("m.receipt", &contents).map(Some)
}
