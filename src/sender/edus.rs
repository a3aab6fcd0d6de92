//! EDUs that are made from tables of changes: receipts and presence.
//!
//! Invariant: an EDU is made of what a table has at the position at which it changed; what changed again since is left
//! out, since it comes at its own position.

use std::collections::BTreeSet;

use ruma::{
    OwnedServerName, UInt, events::receipt::Receipt, events::receipt::ReceiptThread,
    presence::PresenceState,
};
use ruma_federation_api::transactions::edu::{
    Edu, PresenceContent, PresenceUpdate, ReceiptContent, ReceiptData, ReceiptMap,
};
use wick_core::{Error, Position, Result, ShortRoomId, ShortUserId, clock::millis};
use wick_database::{
    Read,
    schema::ephemeral::{
        ACTIVITY_BY_USER, PRESENCE_BY_USER, PresenceKind, RECEIPT_BY_USER,
        RECEIPT_CHANGE_BY_POSITION, ReceiptKind,
    },
};
use wick_room::shared_rooms::joined_rooms;

use crate::sender::Shared;

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
    let to = others(shared, graph.servers_in(read, room)?);
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
    addressed(&Edu::Presence(PresenceContent::new(vec![update])), others(shared, to))
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
    let json = serde_json::to_string(edu).map_err(|error| Error::internal("an EDU", error))?;
    Ok(Some((json, to)))
}
