//! The member tables and counts agree with the rooms' current states.

use std::collections::{BTreeMap, BTreeSet};

use ruma::{
    UserId,
    events::{StateEventType, room::member::MembershipState},
};
use serde::Deserialize;
use wick_core::{Result, ShortEventId, ShortRoomId, ShortUserId};
use wick_database::{
    Range, Read,
    schema::{
        intern::{SHORT_BY_USER, STATE_KEY_BY_SHORT, USER_BY_SHORT},
        room::{
            EVENT_BY_STATE, JOINED_BY_SERVER, MEMBER_BY_ROOM, MEMBER_BY_USER, MemberCounts,
            Membership, ROOM_BY_SERVER, STORED_BY_EVENT,
        },
    },
};

use super::{Class, Report, Room};
use crate::membership;

type Members = BTreeMap<(ShortRoomId, ShortUserId), (u8, ShortEventId)>;

#[derive(Deserialize)]
struct MemberEvent {
    content: MemberContent,
}

#[derive(Deserialize)]
struct MemberContent {
    membership: MembershipState,
}

pub(super) fn check<R: Read>(report: &mut Report<'_, R>, rooms: &[Room]) -> Result<()> {
    let mut wanted = Members::new();
    let mut by_room = Members::new();
    for (room, head) in rooms {
        let members = current_members(report.read, *room)?;
        let counts = counted(members.values().map(|(membership, _)| *membership));
        let at = format_args!("room {room}");
        report.expect(counts == head.counts, Class::MemberCountDiffers, at);
        wanted.extend(members);
        for row in report.read.scan(&MEMBER_BY_ROOM, Range::prefix((*room,))) {
            let ((room, membership, user), event) = row?;
            if by_room.insert((room, user), (membership, event)).is_some() {
                report.add(Class::MemberOfRoomDiffers, format_args!("room {room} user {user}"));
            }
        }
    }
    compare(report, Class::MemberOfRoomDiffers, &wanted, &by_room);

    let known: BTreeSet<_> = rooms.iter().map(|(room, _)| *room).collect();
    let mut by_user = Members::new();
    for row in report.read.scan(&MEMBER_BY_USER, Range::all()) {
        let ((user, room), member) = row?;
        // Users of this server who lost their membership without another one have no member event.
        let is_lost = member.membership == Membership::Leave && !wanted.contains_key(&(room, user));
        // A user can be invited to a room that is elsewhere.
        if known.contains(&room) && !is_lost {
            by_user.insert((room, user), (member.membership as u8, member.event));
        }
    }
    compare(report, Class::MemberOfUserDiffers, &wanted, &by_user);
    check_servers(report, &wanted)
}

/// Checks the counts of joined users by server.
fn check_servers<R: Read>(report: &mut Report<'_, R>, members: &Members) -> Result<()> {
    let mut wanted = BTreeMap::<_, u64>::new();
    for ((room, user), (membership, _)) in members {
        if *membership == Membership::Join as u8
            && let Some(user) = report.read.get(&USER_BY_SHORT, user)?
        {
            *wanted.entry((*room, user.server_name().to_owned())).or_default() += 1;
        }
    }
    let read = report.read;
    let counted =
        read.scan(&JOINED_BY_SERVER, Range::all()).collect::<Result<BTreeMap<_, _>, _>>()?;
    let mut by_server = BTreeSet::new();
    for key in read.scan(&ROOM_BY_SERVER, Range::all()).keys() {
        let (server, room) = key?;
        by_server.insert((room, server));
    }
    for key in wanted.keys().chain(counted.keys()).chain(&by_server).collect::<BTreeSet<_>>() {
        let same = wanted.get(key) == counted.get(key)
            && by_server.contains(key) == counted.contains_key(key);
        let at = format_args!("room {} server {}", key.0, key.1);
        report.expect(same, Class::ServerOfRoomDiffers, at);
    }
    Ok(())
}

fn compare<R>(report: &mut Report<'_, R>, class: Class, wanted: &Members, found: &Members) {
    for key in wanted.keys().chain(found.keys()).collect::<BTreeSet<_>>() {
        let (room, user) = key;
        let same = wanted.get(key) == found.get(key);
        report.expect(same, class, format_args!("room {room} user {user}"));
    }
}

/// The members by the room's current state.
fn current_members(read: &impl Read, room: ShortRoomId) -> Result<Members> {
    let mut members = Members::new();
    for row in read.scan(&EVENT_BY_STATE, Range::prefix((room,))) {
        let ((_, key), event) = row?;
        let Some((StateEventType::RoomMember, user)) = read.get(&STATE_KEY_BY_SHORT, &key)? else {
            continue;
        };
        let Ok(user) = UserId::parse(user) else { continue };
        let (Some(user), Some(stored)) =
            (read.get(&SHORT_BY_USER, &user)?, read.get(&STORED_BY_EVENT, &event)?)
        else {
            continue;
        };
        let member: Option<MemberEvent> = serde_json::from_str(&stored.json).ok();
        let membership = member.and_then(|m| membership::from_state(&m.content.membership));
        if let Some(membership) = membership {
            members.insert((room, user), (membership as u8, event));
        }
    }
    Ok(members)
}

fn counted(memberships: impl Iterator<Item = u8>) -> MemberCounts {
    let mut counts = MemberCounts::default();
    for membership in memberships {
        let count = match membership {
            _ if membership == Membership::Join as u8 => &mut counts.joined,
            _ if membership == Membership::Invite as u8 => &mut counts.invited,
            _ if membership == Membership::Knock as u8 => &mut counts.knocked,
            _ if membership == Membership::Leave as u8 => &mut counts.left,
            _ => &mut counts.banned,
        };
        *count = count.saturating_add(1);
    }
    counts
}
