//! The member rows and counts of a room, updated from the changes of its current state.

use ruma::{UserId, events::StateEventType};
use wick_core::{Error, Result, ShortEventId};
use wick_database::{
    Slot,
    schema::room::{MEMBER_BY_ROOM, MEMBER_BY_USER, MemberCounts, MemberRow, Membership},
};

use super::{Entry, servers, typing};
use crate::{Assembly, membership, remote, state::StateChange};

pub(super) fn write(room: &mut Assembly<'_>, entry: &Entry, slot: Slot) -> Result<()> {
    for change in &entry.changes {
        let tuple = room.rooms.intern().state_key_tuple(&room.batch, change.key)?;
        let Some((StateEventType::RoomMember, user)) = tuple else { continue };
        // A state key that is not a user id makes no member row, whatever the content is.
        let Ok(user) = <&UserId>::try_from(user.as_str()) else { continue };
        write_member(room, (entry, slot), user, change)?;
    }
    Ok(())
}

fn write_member(
    room: &mut Assembly<'_>,
    (entry, slot): (&Entry, Slot),
    user_id: &UserId,
    change: &StateChange,
) -> Result<()> {
    let user = room.rooms.intern().user(user_id, &mut room.batch)?;
    let old = change.old.map(|event| membership_of(room, entry, event)).transpose()?;
    let new = change.new.map(|event| membership_of(room, entry, event)).transpose()?;
    if old == Some(Membership::Join) && new != Some(Membership::Join) {
        typing::stop(room, slot, user_id)?;
    }
    servers::write(room, user_id.server_name(), (old, new))?;
    if let Some(old) = old {
        let count = count_of(&mut room.head.counts, old);
        *count = count.saturating_sub(1);
        room.batch.delete(&MEMBER_BY_ROOM, &(room.room, old as u8, user));
    }
    if user_id.server_name() == room.rooms.server {
        remote::end(room, user)?;
    }
    let key = (user, room.room);
    let (Some(membership), Some(event)) = (new, change.new) else {
        // State resolution left no member event. The row of a user of this server stays: syncs show what it says.
        let is_local = user_id.server_name() == room.rooms.server;
        match change.old.filter(|_| is_local) {
            Some(event) => room.batch.put_at(slot, &MEMBER_BY_USER, move |position| {
                let membership = Membership::Leave;
                (key, MemberRow { membership, event, position, forgotten: false })
            }),
            None => room.batch.delete(&MEMBER_BY_USER, &key),
        }
        return Ok(());
    };
    *count_of(&mut room.head.counts, membership) += 1;
    room.batch.put(&MEMBER_BY_ROOM, &(room.room, membership as u8, user), &event);
    room.batch.put_at(slot, &MEMBER_BY_USER, move |position| {
        (key, MemberRow { membership, event, position, forgotten: false })
    });
    Ok(())
}

fn membership_of(room: &Assembly<'_>, entry: &Entry, event: ShortEventId) -> Result<Membership> {
    let pdu = if event == entry.short {
        entry.pdu.clone()
    } else {
        room.rooms.events.load(&room.batch, event)?
    };
    membership::of(&pdu)
        .ok_or_else(|| Error::bad_json("the content of a member event has no known membership"))
}

fn count_of(counts: &mut MemberCounts, membership: Membership) -> &mut u64 {
    match membership {
        Membership::Join => &mut counts.joined,
        Membership::Invite => &mut counts.invited,
        Membership::Knock => &mut counts.knocked,
        Membership::Leave => &mut counts.left,
        Membership::Ban => &mut counts.banned,
    }
}
