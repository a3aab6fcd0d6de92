//! What a device needs for end-to-end encryption: to-device messages, changes of device lists, the
//! numbers of its keys.
//!
//! This is the one place where a sync reads what the encryption use cases store. A change of what is read
//! here has to wake the waiting syncs that it concerns: by `Topic::User` for what belongs to one user, by
//! `Topic::Room` for what concerns the members of a room.

use std::collections::{BTreeMap, BTreeSet};

use ruma::{OwnedUserId, events::StateEventType};
use serde::Serialize;
use wick_account::Session;
use wick_core::{Position, Result, ShortRoomId, ShortUserId, SyncToken};
use wick_database::schema::room::Membership;
use wick_encryption::to_device;
use wick_people::presence::shares_room;

use crate::{context::Context, events::Json, roster::RosterChanges};

/// The fields of a response that concern encryption.
#[derive(Debug)]
pub struct Encryption {
    /// Messages to this device, the oldest first.
    pub to_device: Vec<Json>,
    /// Where the next sync goes on: behind the snapshot, and behind the last of these messages.
    pub next: SyncToken,
    /// The users whose device lists changed or became irrelevant.
    pub device_lists: DeviceLists,
    /// How many one-time keys the device has left, by algorithm.
    pub one_time_keys_count: BTreeMap<String, u64>,
    /// The algorithms of fallback keys that were not used yet.
    pub unused_fallback_key_types: Vec<String>,
}

/// Users whose devices are to be looked up anew, and users who are of no interest any more.
///
/// <https://spec.matrix.org/v1.18/client-server-api/#tracking-the-device-list-for-a-user>
#[derive(Debug, Default, Serialize)]
pub struct DeviceLists {
    /// Changed, or new in a room that the user shares with them.
    pub changed: Vec<OwnedUserId>,
    /// No room is shared with them any more.
    pub left: Vec<OwnedUserId>,
}

impl Encryption {
    /// Whether there is nothing that would end the wait of a sync. Counts do not: they come along.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.to_device.is_empty()
            && self.device_lists.changed.is_empty()
            && self.device_lists.left.is_empty()
    }
}

/// What changed after `since`, up to the snapshot of the context; `None`: the client begins from nothing.
///
/// # Errors
/// If the database cannot be read.
pub fn encryption(
    context: &Context<'_>,
    since: Option<SyncToken>,
    roster: &RosterChanges,
) -> Result<Encryption> {
    let device_lists = match since {
        Some(_) => device_lists(context, roster)?,
        None => DeviceLists::default(),
    };
    // Clients take a missing algorithm for "as before", so it is named even when no keys are left.
    let one_time_keys_count = BTreeMap::from([("signed_curve25519".to_owned(), 0)]);
    let Session { user, device_id, .. } = context.session;
    let delivered = since.map_or(Position(0), |since| since.to_device);
    let delivery = to_device::deliver(&context.read, (*user, device_id), delivered)?;
    Ok(Encryption {
        to_device: delivery.events,
        next: SyncToken {
            position: context.upto,
            to_device: delivery.upto.unwrap_or(context.upto),
        },
        device_lists,
        one_time_keys_count,
        unused_fallback_key_types: Vec::new(),
    })
}

/// The device lists that changed by who came and went. In rooms that come and go whole only encryption
/// makes it worth to name all members.
fn device_lists(context: &Context<'_>, roster: &RosterChanges) -> Result<DeviceLists> {
    let (mut changed, mut left) = (roster.users.clone(), roster.left.clone());
    for (rooms, users) in [(&roster.rooms, &mut changed), (&roster.left_rooms, &mut left)] {
        for room in rooms {
            if is_encrypted(context, *room)? {
                for member in context.graph.members(&context.read, *room, Membership::Join) {
                    users.insert(member?.0);
                }
            }
        }
    }
    let mut gone = BTreeSet::new();
    for user in left {
        if user != context.session.user && !shares_room(&context.read, &roster.joined, user)? {
            gone.insert(user);
        }
    }
    Ok(DeviceLists { changed: user_ids(context, changed)?, left: user_ids(context, gone)? })
}

fn is_encrypted(context: &Context<'_>, room: ShortRoomId) -> Result<bool> {
    let encryption = StateEventType::RoomEncryption;
    Ok(context.graph.state_event_short(&context.read, room, &encryption, "")?.is_some())
}

fn user_ids(context: &Context<'_>, users: BTreeSet<ShortUserId>) -> Result<Vec<OwnedUserId>> {
    users.into_iter().map(|user| context.graph.user_id(&context.read, user)).collect()
}
