//! What a device needs for end-to-end encryption: to-device messages, changes of device lists, the
//! numbers of its keys.
//!
//! Syncs read what the encryption use cases store only here. A change of what is read
//! here has to wake the waiting syncs that it concerns: by `Topic::User` for what belongs to one user, by
//! `Topic::Room` for what concerns the members of a room.

use std::collections::HashSet;

use wick_account::Session;
use wick_core::{Position, Result, ShortRoomId, SyncToken};
use wick_database::schema::room::MemberRow;
use wick_encryption::{
    device_keys::KeyCounts,
    to_device::{self, InboxPortion},
};

use crate::{
    context::Context,
    device_lists::{DeviceLists, device_lists},
    events::Json,
};

/// The fields of a response that concern encryption.
#[derive(Debug)]
pub struct Encryption {
    /// Messages to this device, the oldest first.
    pub to_device: Vec<Json>,
    /// The token of the next sync: behind the snapshot, and behind the last of these messages.
    pub next: SyncToken,
    /// The users whose device lists changed or became irrelevant.
    pub device_lists: DeviceLists,
    /// What is left of the keys of the device that others claim.
    pub keys: KeyCounts,
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
/// `rooms` are at least those of the user's rooms in which a membership changed.
///
/// # Errors
/// If the database cannot be read.
pub fn encryption(
    context: &Context<'_>,
    since: Option<SyncToken>,
    joined: &HashSet<ShortRoomId>,
    rooms: &[(ShortRoomId, MemberRow)],
) -> Result<Encryption> {
    let Session { user, device_id, .. } = context.session;
    let device_lists = match since {
        Some(since) => device_lists(context, since.position, joined, rooms)?,
        None => DeviceLists::default(),
    };
    let keys = KeyCounts::of(&context.read, *user, device_id)?;
    let delivered = since.map_or(Position(0), |since| since.to_device);
    let delivery = if context.is_user_changed_since(delivered) {
        to_device::deliver(&context.read, (*user, device_id), delivered)?
    } else {
        InboxPortion::default()
    };
    let next = match since {
        // Its position is not reached yet.
        Some(since) if since.position > context.upto => since,
        _ => SyncToken { position: context.upto, to_device: delivery.upto.unwrap_or(context.upto) },
    };
    Ok(Encryption { to_device: delivery.events, next, device_lists, keys })
}
