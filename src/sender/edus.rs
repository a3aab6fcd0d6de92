//! EDUs that are made from tables of changes: receipts and presence.
//!
//! Invariant: an EDU is made of what a table has at the position at which it changed; what changed again since is left
//! out, since it comes at its own position.

use std::collections::BTreeSet;

use ruma::{
    OwnedServerName, OwnedUserId, UInt, events::receipt::Receipt, events::receipt::ReceiptThread,
    presence::PresenceState,
};
use ruma_federation_api::transactions::edu::{
    Edu, PresenceContent, PresenceUpdate, ReceiptContent, ReceiptData, ReceiptMap,
};
use wick_core::{Error, Position, Result, ShortRoomId, ShortUserId, clock::millis};
use wick_database::{
    Read,
    schema::{
        ephemeral::{
            ACTIVITY_BY_USER, PRESENCE_BY_USER, PresenceKind, PresenceRow, RECEIPT_BY_USER,
            RECEIPT_CHANGE_BY_POSITION, ReceiptKind,
        },
        outgoing::QueuedEdu,
        room::Membership,
    },
};
use wick_room::shared_rooms::joined_rooms;

use crate::sender::Shared;

/// How many users' presence a server is sent at most when it joins a room, and in one EDU.
const MAX_PRESENT: usize = 1_000;
const UPDATES: usize = 100;

/// An EDU with the servers that it is for.
type Addressed = (String, Vec<OwnedServerName>);

/// The EDU of a receipt that moved; `None` if it is not for other servers.
pub(crate) fn receipt(
    shared: &Shared,
    read: &impl Read,
    (room, user, position): (ShortRoomId, ShortUserId, Position),
) -> Result<Option<Addressed>> {
    let graph = &shared.graph;
    let user_id = graph.user_id(read, user)?;
    let Some(name) = read.get(&RECEIPT_CHANGE_BY_POSITION, &(room, position))? else {
        return Ok(None);
    };
    if user_id.server_name() != graph.server_name() || name.kind != ReceiptKind::Public as u8 {
        return Ok(None);
    }
    let row = read.get(&RECEIPT_BY_USER, &(room, user, name.kind, &name.thread))?;
    let Some(row) = row.filter(|row| row.position == position) else { return Ok(None) };
    let acl = graph.acl(read, room)?;
    let mut to = others(shared, graph.servers_in(read, room)?);
    to.retain(|server| acl.allows(server));
    let Some(room_id) = graph.intern().room_id(read, room)? else { return Ok(None) };
    let mut receipt = Receipt::new(row.at.matrix());
    receipt.thread = match &*name.thread {
        "" => ReceiptThread::Unthreaded,
        thread => ReceiptThread::try_from(Some(thread))
            .map_err(|error| Error::internal("the thread of a receipt", error))?,
    };
    let read = [(user_id, ReceiptData::new(receipt, vec![row.event_id]))].into();
    let content = ReceiptContent::new([(room_id, ReceiptMap::new(read))].into());
    addressed(&Edu::Receipt(content), to)
}

/// The EDU of a change of presence; `None` if it is not for other servers.
pub(crate) fn presence(
    shared: &Shared,
    read: &impl Read,
    (user, position): (ShortUserId, Position),
) -> Result<Option<Addressed>> {
    let graph = &shared.graph;
    let user_id = graph.user_id(read, user)?;
    if user_id.server_name() != graph.server_name() {
        return Ok(None);
    }
    let row = read.get(&PRESENCE_BY_USER, &user)?;
    let Some(row) = row.filter(|row| row.position == position) else { return Ok(None) };
    let mut to = BTreeSet::new();
    for room in joined_rooms(read, user) {
        to.extend(graph.servers_in(read, room?)?);
    }
    let update = update(shared, read, (user, user_id), row)?;
    addressed(&Edu::Presence(PresenceContent::new(vec![update])), others(shared, to))
}

/// The presence of the local users in a room who are not offline, for servers that get to know of them.
pub(crate) fn presence_in(
    shared: &Shared,
    read: &impl Read,
    room: ShortRoomId,
    to: &[OwnedServerName],
) -> Result<Vec<QueuedEdu>> {
    let mut updates = Vec::new();
    for member in shared.graph.members(read, room, Membership::Join) {
        updates.extend(present(shared, read, member?.0)?);
        if updates.len() == MAX_PRESENT {
            break;
        }
    }
    updates.chunks(UPDATES).map(|updates| queued_presence(updates.to_vec(), to)).collect()
}

/// The presence of a local user who is not offline, for servers that get to know of the user.
pub(crate) fn presence_of(
    shared: &Shared,
    read: &impl Read,
    user: ShortUserId,
    to: &[OwnedServerName],
) -> Result<Option<QueuedEdu>> {
    let update = present(shared, read, user)?;
    update.map(|update| queued_presence(vec![update], to)).transpose()
}

fn queued_presence(updates: Vec<PresenceUpdate>, to: &[OwnedServerName]) -> Result<QueuedEdu> {
    let json = json(&Edu::Presence(PresenceContent::new(updates)))?;
    Ok(QueuedEdu { destinations: to.to_vec(), json, is_transient: true })
}

/// The presence of a user; `None` if they are offline or a user of another server.
fn present(shared: &Shared, read: &impl Read, user: ShortUserId) -> Result<Option<PresenceUpdate>> {
    let row = read.get(&PRESENCE_BY_USER, &user)?;
    let Some(row) = row.filter(|row| row.state != PresenceKind::Offline) else { return Ok(None) };
    let user_id = shared.graph.user_id(read, user)?;
    if user_id.server_name() != shared.graph.server_name() {
        return Ok(None);
    }
    update(shared, read, (user, user_id), row).map(Some)
}

fn update(
    shared: &Shared,
    read: &impl Read,
    (user, user_id): (ShortUserId, OwnedUserId),
    row: PresenceRow,
) -> Result<PresenceUpdate> {
    let state = match row.state {
        PresenceKind::Online => PresenceState::Online,
        PresenceKind::Unavailable => PresenceState::Unavailable,
        PresenceKind::Offline => PresenceState::Offline,
    };
    let active = read.get(&ACTIVITY_BY_USER, &user)?.unwrap_or_default();
    let active_ago = millis(shared.resources.clock.now().since(active));
    let mut update =
        PresenceUpdate::new(user_id, state, UInt::try_from(active_ago).unwrap_or(UInt::MAX));
    update.status_msg = row.status_msg;
    update.currently_active = row.state == PresenceKind::Online;
    Ok(update)
}

fn others(
    shared: &Shared,
    servers: impl IntoIterator<Item = OwnedServerName>,
) -> Vec<OwnedServerName> {
    servers.into_iter().filter(|server| server != shared.graph.server_name()).collect()
}

fn addressed(edu: &Edu, to: Vec<OwnedServerName>) -> Result<Option<Addressed>> {
    if to.is_empty() {
        return Ok(None);
    }
    Ok(Some((json(edu)?, to)))
}

fn json(edu: &Edu) -> Result<String> {
    serde_json::to_string(edu).map_err(|error| Error::internal("an EDU", error))
}
