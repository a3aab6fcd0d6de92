//! What a client needs to name a room: its heroes and how many members it has.

use ruma::{OwnedUserId, events::StateEventType};
use serde::Serialize;
use wick_core::{Error, Pdu, Result, ShortEventId, event::pdu::SharedPdu};
use wick_database::schema::room::MemberCounts;

use crate::{context::Context, roster::RosterChanges, scope::Scope};

/// What a client needs to name a room.
#[derive(Debug, Serialize)]
pub struct Summary {
    /// The heroes: members after whom a room without a name is named.
    #[serde(rename = "m.heroes", skip_serializing_if = "Option::is_none")]
    pub heroes: Option<Vec<OwnedUserId>>,
    /// How many joined.
    #[serde(rename = "m.joined_member_count")]
    pub joined: u64,
    /// How many are invited.
    #[serde(rename = "m.invited_member_count")]
    pub invited: u64,
}

impl Summary {
    /// The members that it names.
    #[must_use]
    pub fn heroes(&self) -> &[OwnedUserId] {
        self.heroes.as_deref().unwrap_or_default()
    }
}

/// The summary of a joined room as it is now.
///
/// # Errors
/// If the database cannot be read.
pub fn summary(context: &Context<'_>, scope: &Scope) -> Result<Summary> {
    let head = context
        .graph
        .head(&context.read, scope.room)?
        .ok_or_else(|| Error::corrupt("a joined room has no head"))?;
    let has_name = has(context, scope, &StateEventType::RoomName)?
        || has(context, scope, &StateEventType::RoomCanonicalAlias)?;
    let heroes = if has_name { None } else { Some(heroes(context, scope, head.counts)?) };
    Ok(Summary { heroes, joined: head.counts.joined, invited: head.counts.invited })
}

/// Whether memberships, or whether the room has a name, changed in a scope, so that the summary can have.
/// Counts the members that joined and left.
///
/// # Errors
/// If the database cannot be read.
pub fn has_changed(
    context: &Context<'_>,
    scope: &Scope,
    roster: &mut RosterChanges,
) -> Result<bool> {
    let Some(from) = scope.from() else { return Ok(true) };
    let before = context.root_at(scope.room, from)?;
    let now = context.root_at(scope.room, scope.upto)?;
    let mut changed = false;
    for change in context.graph.states().diff(&context.read, before, now)? {
        match context.graph.intern().state_key_tuple(&context.read, change.key)? {
            Some((StateEventType::RoomMember, user_id)) => {
                changed |= roster.note(context, &user_id, &change)?;
            }
            Some((name @ (StateEventType::RoomName | StateEventType::RoomCanonicalAlias), _)) => {
                let (old, new) = (load(context, change.old)?, load(context, change.new)?);
                changed |= is_shown(&name, old.as_deref()) != is_shown(&name, new.as_deref());
            }
            _ => {}
        }
    }
    Ok(changed)
}

fn load(context: &Context<'_>, event: Option<ShortEventId>) -> Result<Option<SharedPdu>> {
    event.map(|event| context.graph.load_event(&context.read, event)).transpose()
}

/// Whether a name that clients can show is set.
fn has(context: &Context<'_>, scope: &Scope, event_type: &StateEventType) -> Result<bool> {
    let event = context.graph.state_event(&context.read, scope.room, event_type, "")?;
    Ok(is_shown(event_type, event.as_deref()))
}

fn is_shown(event_type: &StateEventType, event: Option<&Pdu>) -> bool {
    let content: serde_json::Map<String, serde_json::Value> =
        event.and_then(|event| event.content_as().ok()).unwrap_or_default();
    let key = if *event_type == StateEventType::RoomName { "name" } else { "alias" };
    let value = content.get(key).and_then(serde_json::Value::as_str);
    value.is_some_and(|value| !value.is_empty())
}

fn heroes(context: &Context<'_>, scope: &Scope, counts: MemberCounts) -> Result<Vec<OwnedUserId>> {
    let (graph, read) = (context.graph, &context.read);
    let heroes = graph.heroes(read, scope.room, context.session.user, counts)?;
    heroes.into_iter().map(|(user, _)| graph.user_id(read, user)).collect()
}
