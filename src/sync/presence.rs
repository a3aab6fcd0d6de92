//! The presence of users who share a room with the session's user.

use std::collections::BTreeSet;

use ruma::api::client::filter::Filter;
use serde::Serialize;
use wick_account::filters;
use wick_core::{Error, Position, Result, ShortUserId};
use wick_database::{
    Range, Read,
    schema::{
        ephemeral::{PRESENCE_BY_USER, PRESENCE_CHANGE_BY_POSITION, PresenceKind},
        room::Membership,
    },
};
use wick_people::{Presence, presence::shares_room};

use crate::{context::Context, events::Json, roster::RosterChanges};

/// Of how many members of a room that is new to the client presence is sent at most.
const MAX_MEMBERS_OF_NEW_ROOM: usize = 100;

#[derive(Serialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    event_type: &'static str,
    sender: &'a ruma::UserId,
    content: Content,
}

#[derive(Serialize)]
struct Content {
    presence: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_msg: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_active_ago: Option<u64>,
    currently_active: bool,
}

/// The `m.presence` events of users whose presence changed after `since`, and of those that newly share
/// a room with the user; without `since`, of all users that are not offline.
///
/// # Errors
/// If the database cannot be read.
pub fn presence(
    context: &Context<'_>,
    presence: &Presence,
    since: Option<Position>,
    roster: &RosterChanges,
    filter: &Filter,
) -> Result<Vec<Json>> {
    if !presence.enabled() {
        return Ok(Vec::new());
    }
    let mut events = Vec::new();
    for user in candidates(context, presence, since, roster)? {
        let known = roster.users.contains(&user) || user == context.session.user;
        if known || shares_room(&context.read, &roster.joined, user)? {
            events.extend(event(context, presence, filter, user)?);
        }
    }
    Ok(events)
}

fn candidates(
    context: &Context<'_>,
    presence: &Presence,
    since: Option<Position>,
    roster: &RosterChanges,
) -> Result<BTreeSet<ShortUserId>> {
    let Some(since) = since else {
        let mut users = BTreeSet::new();
        for user in presence.users() {
            let row = context.read.get(&PRESENCE_BY_USER, &user)?;
            if row.is_some_and(|row| row.state != PresenceKind::Offline) {
                users.insert(user);
            }
        }
        return Ok(users);
    };
    let mut users = roster.users.clone();
    if context.is_table_changed_since(&PRESENCE_CHANGE_BY_POSITION, since) {
        let range = Range::between(&since.next(), &context.upto.next());
        for row in context.read.scan(&PRESENCE_CHANGE_BY_POSITION, range) {
            users.insert(row?.1);
        }
    }
    for room in &roster.rooms {
        let members = context.graph.members(&context.read, *room, Membership::Join);
        for member in members.take(MAX_MEMBERS_OF_NEW_ROOM) {
            users.insert(member?.0);
        }
    }
    Ok(users)
}

fn event(
    context: &Context<'_>,
    presence: &Presence,
    filter: &Filter,
    user: ShortUserId,
) -> Result<Option<Json>> {
    let Some(row) = context.read.get(&PRESENCE_BY_USER, &user)? else { return Ok(None) };
    let user_id = context.graph.user_id(&context.read, user)?;
    if context.ignores(&user_id) || !filters::allows_global(filter, "m.presence", &user_id) {
        return Ok(None);
    }
    let status = presence.status_of(&context.read, user, row)?;
    let content = Content {
        presence: match status.kind {
            PresenceKind::Online => "online",
            PresenceKind::Unavailable => "unavailable",
            PresenceKind::Offline => "offline",
        },
        status_msg: status.status_msg,
        last_active_ago: status.active_ago.map(wick_core::clock::millis),
        currently_active: status.kind == PresenceKind::Online,
    };
    let event = Event { event_type: "m.presence", sender: &user_id, content };
    serde_json::value::to_raw_value(&event)
        .map(Some)
        .map_err(|error| Error::internal("a presence cannot be written", error))
}
