//! Keeps the forward extremities of a room few: a dummy event that refers to them takes their place.

use ruma::{OwnedRoomId, canonical_json::CanonicalJsonObject};
use wick_core::{Draft, Result};
use wick_database::schema::room::Membership;
use wick_room::{Effects, visibility::DUMMY_EVENT};

use crate::{Inbound, Peer};

/// More extremities than this are joined. An event can refer to twenty.
const MAX_EXTREMITIES: usize = 10;

/// How many members are looked at to find one of this server that may send the event.
const MAX_MEMBERS: usize = 1_000;

/// How many dummy events are sent at once.
const MAX_EVENTS: usize = 50;

/// Joins the forward extremities of a room if there are many. It needs a user of this server that may send messages
/// there; without one they stay as they are.
pub(crate) async fn join<P: Peer>(inbound: &Inbound<P>, room_id: &OwnedRoomId) -> Result<()> {
    for _ in 0..MAX_EVENTS {
        if !is_due(inbound, room_id)? || !send_dummy(inbound, room_id).await? {
            break;
        }
    }
    Ok(())
}

fn is_due<P: Peer>(inbound: &Inbound<P>, room_id: &OwnedRoomId) -> Result<bool> {
    let read = inbound.resources.database.latest();
    let Some(room) = inbound.graph.short(&read, room_id)? else { return Ok(false) };
    let head = inbound.graph.head(&read, room)?;
    Ok(head.is_some_and(|head| head.extremities.len() > MAX_EXTREMITIES))
}

/// Sends one dummy event. Returns whether a member of this server may.
async fn send_dummy<P: Peer>(inbound: &Inbound<P>, room_id: &OwnedRoomId) -> Result<bool> {
    let graph = &inbound.graph;
    let mut own = Vec::new();
    {
        let read = inbound.resources.database.latest();
        let Some(room) = graph.short(&read, room_id)? else { return Ok(false) };
        for member in graph.members(&read, room, Membership::Join).take(MAX_MEMBERS) {
            let user = graph.user_id(&read, member?.0)?;
            if user.server_name() == graph.server_name() {
                own.push(user);
            }
        }
        if graph.uses_policy_server(&read, room)? {
            // Each attempt may wait for it.
            own.truncate(1);
        }
    }
    for sender in own {
        let content = CanonicalJsonObject::new();
        let draft = Draft::message(room_id.clone(), sender, DUMMY_EVENT.into(), content);
        match graph.send(draft, Effects::default()).await {
            Ok(_) => return Ok(true),
            Err(error) if !error.is_internal() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}
