//! The devices that are here, in memory.

use std::{collections::HashMap, time::Duration};

use ruma::{DeviceId, OwnedDeviceId};
use wick_core::{Monotonic, ShortUserId, Timestamp};
use wick_database::schema::ephemeral::PresenceKind;

use super::GONE_AFTER;

/// Stands for the unknown device of an active user. No device has this ID.
const ANY_DEVICE: &str = "";

/// A user's presence as others see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The presence state.
    pub kind: PresenceKind,
    /// The status message.
    pub status_msg: Option<String>,
    /// The time since the user's last activity, if that is known.
    pub active_ago: Option<Duration>,
}

#[derive(Default)]
pub(super) struct Here {
    users: HashMap<ShortUserId, User>,
}

#[derive(Default)]
struct User {
    devices: HashMap<OwnedDeviceId, Device>,
    last_active: Timestamp,
    /// The state in the user's row.
    told: Option<PresenceKind>,
}

pub(super) struct Device {
    kind: PresenceKind,
    last: Monotonic,
    /// How many of its syncs wait for news.
    pub(super) waiting: usize,
}

impl Here {
    /// A device is here.
    pub(super) fn seen(
        &mut self,
        user: ShortUserId,
        device_id: &DeviceId,
        kind: PresenceKind,
        now: Monotonic,
    ) -> &mut Device {
        let devices = &mut self.users.entry(user).or_default().devices;
        // The presence that a device sets overrides what was inferred.
        devices.remove::<DeviceId>(ANY_DEVICE.into());
        let device =
            devices.entry(device_id.to_owned()).or_insert(Device { kind, last: now, waiting: 0 });
        (device.kind, device.last) = (kind, now);
        device
    }

    /// Records activity of a user, from an unknown device.
    pub(super) fn act(&mut self, user: ShortUserId, now: Monotonic, at: Timestamp) {
        self.seen(user, ANY_DEVICE.into(), PresenceKind::Online, now);
        self.users.entry(user).or_default().last_active = at;
    }

    /// None of a user's devices is here.
    pub(super) fn leave(&mut self, user: ShortUserId) {
        if let Some(user) = self.users.get_mut(&user) {
            user.devices.retain(|_, device| {
                device.kind = PresenceKind::Offline;
                device.waiting > 0
            });
        }
    }

    /// One of a device's syncs ended.
    pub(super) fn stop_waiting(&mut self, user: ShortUserId, device_id: &DeviceId, now: Monotonic) {
        let user = self.users.get_mut(&user);
        if let Some(device) = user.and_then(|user| user.devices.get_mut(device_id)) {
            device.waiting = device.waiting.saturating_sub(1);
            device.last = now;
        }
    }

    /// How present a user is.
    pub(super) fn kind(&self, user: ShortUserId) -> PresenceKind {
        let Some(user) = self.users.get(&user) else { return PresenceKind::Offline };
        let is = |kind| user.devices.values().any(|device| device.kind == kind);
        if is(PresenceKind::Online) {
            PresenceKind::Online
        } else if is(PresenceKind::Unavailable) {
            PresenceKind::Unavailable
        } else {
            PresenceKind::Offline
        }
    }

    /// The state in the user's row.
    pub(super) fn told(&self, user: ShortUserId) -> PresenceKind {
        let user = self.users.get(&user);
        user.and_then(|user| user.told).unwrap_or(PresenceKind::Offline)
    }

    /// Records the state that is in the user's row now.
    pub(super) fn tell(&mut self, user: ShortUserId, kind: PresenceKind) {
        if kind == PresenceKind::Offline
            && self.users.get(&user).is_some_and(|user| user.devices.is_empty())
        {
            self.users.remove(&user);
        } else if let Some(user) = self.users.get_mut(&user) {
            user.told = Some(kind);
        }
    }

    /// The last activity of a user that is here.
    pub(super) fn last_active(&self, user: ShortUserId) -> Option<Timestamp> {
        self.users.get(&user).map(|user| user.last_active)
    }

    /// The users that are here.
    pub(super) fn users(&self) -> Vec<ShortUserId> {
        self.users.keys().copied().collect()
    }

    /// When the next device is to be forgotten.
    pub(super) fn next_gone(&self) -> Option<Monotonic> {
        let devices = self.users.values().flat_map(|user| user.devices.values());
        devices.filter(|device| device.waiting == 0).map(|device| device.last + GONE_AFTER).min()
    }

    /// Forgets the devices that were silent for too long, and returns their users.
    pub(super) fn forget_gone(&mut self, now: Monotonic) -> Vec<ShortUserId> {
        let mut users = Vec::new();
        for (short, user) in &mut self.users {
            let before = user.devices.len();
            user.devices.retain(|_, device| device.waiting > 0 || device.last + GONE_AFTER > now);
            if user.devices.len() < before {
                users.push(*short);
            }
        }
        users
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER: ShortUserId = ShortUserId(1);

    fn at(seconds: u64) -> Monotonic {
        Monotonic(Duration::from_secs(seconds))
    }

    #[test]
    fn a_user_is_as_present_as_their_most_present_device() {
        let mut here = Here::default();
        here.seen(USER, "A".into(), PresenceKind::Unavailable, at(0));
        assert_eq!(here.kind(USER), PresenceKind::Unavailable);
        here.seen(USER, "B".into(), PresenceKind::Online, at(5));
        here.seen(USER, "A".into(), PresenceKind::Unavailable, at(10));
        assert_eq!(here.kind(USER), PresenceKind::Online);
        assert_eq!(here.forget_gone(at(35)), [USER]);
        assert_eq!(here.kind(USER), PresenceKind::Unavailable);
    }

    #[test]
    fn a_device_that_waits_is_not_forgotten() {
        let mut here = Here::default();
        here.seen(USER, "A".into(), PresenceKind::Online, at(0)).waiting += 1;
        assert_eq!((here.next_gone(), here.forget_gone(at(100)).len()), (None, 0));
        here.stop_waiting(USER, "A".into(), at(100));
        assert_eq!(here.next_gone(), Some(at(130)));
        assert_eq!(here.forget_gone(at(130)), [USER]);
        here.tell(USER, here.kind(USER));
        assert!(here.users().is_empty());
    }
}
