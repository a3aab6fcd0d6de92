//! What a destination is sent that was out of reach for long: the newest event of each room, from which it finds what it
//! missed.

use ruma::OwnedServerName;
use wick_core::event::pdu::SharedPdu;
use wick_core::{Position, Result, ShortRoomId};
use wick_database::{
    Range, Read,
    schema::{
        outgoing::Gap,
        room::{EVENT_BY_POSITION, ROOM_BY_SERVER},
    },
};
use wick_room::to_place;

use crate::{
    sender::Shared,
    transaction::{Acknowledged, Step, Transaction},
};

/// How many rooms are looked at for one transaction.
const ROOMS: usize = 50;

/// How many events of a room are looked at for one that this server sent.
const LOOKED_AT: usize = 100;

/// The newest events of the next rooms.
pub(crate) fn next(
    shared: &Shared,
    read: &impl Read,
    server: &OwnedServerName,
    gap: Gap,
) -> Result<Step> {
    let rooms = Range::prefix((server.clone(),));
    let rooms = match gap.room {
        Some(room) => rooms.and(Range::after(&(server.clone(), room))),
        None => rooms,
    };
    let rooms = read.scan(&ROOM_BY_SERVER, rooms).keys().take(ROOMS);
    let rooms = rooms.map(|key| key.map(|(_, room)| room)).collect::<Result<Vec<_>, _>>()?;
    let mut events = Vec::new();
    for room in &rooms {
        if let Some(pdu) = newest(shared, read, (server, *room), &gap)? {
            events.push(pdu.json.clone());
        }
    }
    let last = if rooms.len() < ROOMS { None } else { rooms.last().copied() };
    let upto = gap.upto.unwrap_or_default();
    let place = format!("gap-{upto}-{}", gap.room.unwrap_or_default());
    let acknowledged = Acknowledged::Gap(gap, last);
    if events.is_empty() {
        return Ok(Step::Pass(acknowledged));
    }
    Ok(Step::Send(Box::new(Transaction::new(&place, events, Vec::new(), acknowledged))))
}

/// The newest event of a room in a gap that this server sent and that was for the destination.
fn newest(
    shared: &Shared,
    read: &impl Read,
    (server, room): (&OwnedServerName, ShortRoomId),
    gap: &Gap,
) -> Result<Option<SharedPdu>> {
    let graph = &shared.graph;
    if !graph.acl(read, room)?.allows(server) {
        return Ok(None);
    }
    let place = |position: Position| to_place(position);
    let upto = gap.upto.unwrap_or_default();
    let range = Range::after(&(room, place(gap.after))).and(Range::through(&(room, place(upto))));
    for row in read.scan_back(&EVENT_BY_POSITION, range).take(LOOKED_AT) {
        let (_, event) = row?;
        let pdu = graph.load_event(read, event)?;
        if pdu.sender.server_name() != graph.server_name() {
            continue;
        }
        let Some(place) = graph.place(read, event)? else { continue };
        let is_for_it = graph.servers_at(read, room, place.after)?.contains(server);
        return Ok(is_for_it.then_some(pdu));
    }
    Ok(None)
}
