//! Typing notifications of a room.

use serde_json::json;
use wick_core::Result;
use wick_database::{Read, schema::ephemeral::TYPING_BY_ROOM};

use crate::{
    context::Context,
    events::{Json, basic_event},
    scope::Scope,
};

/// The `m.typing` event, if it is new to the client.
///
/// <https://spec.matrix.org/v1.18/client-server-api/#typing-notifications>
///
/// # Errors
/// If the database cannot be read.
pub fn typing(context: &Context<'_>, scope: &Scope) -> Result<Option<Json>> {
    let Some(row) = context.read.get(&TYPING_BY_ROOM, &scope.room)? else { return Ok(None) };
    let is_new = match scope.since {
        Some(since) => row.position > since,
        None => !row.users.is_empty(),
    };
    if !is_new {
        return Ok(None);
    }
    let users = row.users.iter().map(|user| &user.user_id);
    let users: Vec<_> = users.filter(|user| !context.ignores(user)).collect();
    basic_event("m.typing", &json!({ "user_ids": users })).map(Some)
}
