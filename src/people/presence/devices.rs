//! The devices that are present, in memory: what is not in the rows.

use std::{collections::HashMap, time::Duration};

use ruma::{DeviceId, OwnedDeviceId};
use wick_core::{Monotonic, ShortUserId};
use wick_database::schema::ephemeral::PresenceKind;

use super::{GONE_AFTER, IDLE_AFTER};

/// The present devices of all users.
#[derive(Default)]
pub(super) struct Devices {
    users: HashMap<ShortUserId, User>,
}

#[derive(Default)]
struct User {
    devices: HashMap<OwnedDeviceId, Device>,
    /// A device that is not known: the one of an activity, or of a state from before the start.
    unknown: Option<Device>,
    /// When the user becomes idle.
    idle_at: Monotonic,
    /// Until when the state in the user's row holds.
    held_until: Monotonic,
}

#[derive(Clone, Copy)]
struct Device {
    requested: PresenceKind,
    /// Until when it is present if it does not wait by then.
    until: Monotonic,
    /// How many of its syncs wait for news.
    waiting: usize,
}

/// What a user's devices amount to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Summary {
    /// The most present state that one of them asks for; `None` if there is none.
    pub(super) requested: Option<PresenceKind>,
    /// What others see.
    pub(super) state: PresenceKind,
    /// For how long that holds at least.
    pub(super) holds_for: Duration,
}

impl User {
    /// Whether nothing is known of the user.
    fn is_gone(&self) -> bool {
        self.devices.is_empty() && self.unknown.is_none()
    }

    fn requested(&self) -> Option<PresenceKind> {
        let devices = self.devices.values().chain(&self.unknown);
        devices.map(|device| device.requested).min_by_key(|kind| match kind {
            PresenceKind::Online => 0,
            PresenceKind::Unavailable => 1,
            PresenceKind::Offline => 2,
        })
    }

    fn state(&self, now: Monotonic) -> PresenceKind {
        match self.requested() {
            Some(PresenceKind::Online) if self.idle_at <= now => PresenceKind::Unavailable,
            requested => requested.unwrap_or(PresenceKind::Offline),
        }
    }
}

impl Devices {
    /// A device asks for a state. It is present until the given time.
    pub(super) fn seen(
        &mut self,
        user: ShortUserId,
        device_id: &DeviceId,
        requested: PresenceKind,
        until: Monotonic,
    ) {
        let user = self.users.entry(user).or_default();
        // The presence that a device sets overrides what was inferred.
        user.unknown = None;
        match user.devices.get_mut(device_id) {
            Some(device) => {
                (device.requested, device.until) = (requested, device.until.max(until));
            }
            None => {
                let device = Device { requested, until, waiting: 0 };
                user.devices.insert(device_id.to_owned(), device);
            }
        }
    }

    /// One of a device's syncs begins to wait.
    pub(super) fn begin_waiting(&mut self, user: ShortUserId, device_id: &DeviceId) {
        if let Some(device) = self.device(user, device_id) {
            device.waiting += 1;
        }
    }

    /// One of a device's syncs ended.
    pub(super) fn stop_waiting(&mut self, user: ShortUserId, device_id: &DeviceId, now: Monotonic) {
        if let Some(device) = self.device(user, device_id) {
            device.waiting = device.waiting.saturating_sub(1);
            device.until = now + GONE_AFTER;
        }
    }

    /// A user is active: they are not idle for a while.
    pub(super) fn active(&mut self, user: ShortUserId, now: Monotonic) {
        self.users.entry(user).or_default().idle_at = now + IDLE_AFTER;
    }

    /// A user sent something, from a device that is not known: they are `online`, unless they are `offline`.
    /// Returns whether their row may have to change.
    pub(super) fn acted(&mut self, user: ShortUserId, now: Monotonic) -> bool {
        let Some(user) = self.users.get_mut(&user) else { return false };
        let state = user.state(now);
        if state == PresenceKind::Offline {
            return false;
        }
        let was_online = state == PresenceKind::Online;
        let until = now + GONE_AFTER;
        user.unknown = Some(Device { requested: PresenceKind::Online, until, waiting: 0 });
        user.idle_at = now + IDLE_AFTER;
        !was_online || user.held_until < until
    }

    /// Takes up a state from before the start, which holds until the given time.
    pub(super) fn restore(
        &mut self,
        user: ShortUserId,
        requested: PresenceKind,
        until: Monotonic,
        idle_at: Monotonic,
    ) {
        let user = self.users.entry(user).or_default();
        user.unknown = Some(Device { requested, until, waiting: 0 });
        (user.idle_at, user.held_until) = (idle_at, until);
    }

    /// Records until when a user's row holds.
    pub(super) fn held(&mut self, user: ShortUserId, until: Monotonic) {
        if let Some(user) = self.users.get_mut(&user) {
            user.held_until = until;
        }
    }

    /// No device of a user asks to be seen any more.
    pub(super) fn set_offline(&mut self, user: ShortUserId) {
        if let Some(user) = self.users.get_mut(&user) {
            user.unknown = None;
            user.devices.retain(|_, device| {
                device.requested = PresenceKind::Offline;
                device.waiting > 0
            });
        }
    }

    /// The state that a device asks for; `None` if it is not present.
    pub(super) fn requested(
        &self,
        user: ShortUserId,
        device_id: &DeviceId,
    ) -> Option<PresenceKind> {
        Some(self.users.get(&user)?.devices.get(device_id)?.requested)
    }

    /// Whether a device of a user asks for `online`, though the user may be idle.
    pub(super) fn is_online(&self, user: ShortUserId) -> bool {
        let user = self.users.get(&user);
        user.and_then(User::requested) == Some(PresenceKind::Online)
    }

    /// What a user's devices amount to.
    pub(super) fn summary(&self, user: ShortUserId, now: Monotonic) -> Summary {
        let Some(user) = self.users.get(&user) else {
            let holds_for = Duration::ZERO;
            return Summary { requested: None, state: PresenceKind::Offline, holds_for };
        };
        let until = user.devices.values().chain(&user.unknown).map(|device| device.until).max();
        Summary {
            requested: user.requested(),
            state: user.state(now),
            holds_for: until.unwrap_or_default().since(now),
        }
    }

    /// The users that have a device.
    pub(super) fn users(&self) -> Vec<ShortUserId> {
        self.users.keys().copied().collect()
    }

    /// When a user's state may change by itself next.
    pub(super) fn next_change(&self, user: ShortUserId, now: Monotonic) -> Option<Monotonic> {
        let user = self.users.get(&user)?;
        let idles = user.idle_at > now && user.requested() == Some(PresenceKind::Online);
        let devices = user.devices.values().chain(&user.unknown);
        let ends = devices.filter(|device| device.waiting == 0).map(|device| device.until);
        ends.chain(idles.then_some(user.idle_at)).min()
    }

    /// Forgets the devices of a user that were silent for too long.
    pub(super) fn forget_gone(&mut self, user: ShortUserId, now: Monotonic) {
        if let Some(user) = self.users.get_mut(&user) {
            user.devices.retain(|_, device| device.waiting > 0 || device.until > now);
            user.unknown = user.unknown.filter(|device| device.until > now);
        }
    }

    /// Forgets a user with all of their devices.
    pub(super) fn remove(&mut self, user: ShortUserId) {
        self.users.remove(&user);
    }

    /// Forgets a user without devices.
    pub(super) fn forget_user(&mut self, user: ShortUserId) {
        if self.users.get(&user).is_some_and(User::is_gone) {
            self.users.remove(&user);
        }
    }

    fn device(&mut self, user: ShortUserId, device_id: &DeviceId) -> Option<&mut Device> {
        self.users.get_mut(&user)?.devices.get_mut(device_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use PresenceKind::{Offline, Online, Unavailable};

    const USER: ShortUserId = ShortUserId(1);

    fn at(seconds: u64) -> Monotonic {
        Monotonic(Duration::from_secs(seconds))
    }

    fn state(devices: &Devices, now: u64) -> PresenceKind {
        devices.summary(USER, at(now)).state
    }

    #[test]
    fn a_user_is_as_present_as_their_most_present_device() {
        let mut devices = Devices::default();
        devices.active(USER, at(0));
        devices.seen(USER, "A".into(), Unavailable, at(30));
        assert_eq!(state(&devices, 0), Unavailable);
        devices.seen(USER, "B".into(), Online, at(35));
        devices.seen(USER, "A".into(), Unavailable, at(40));
        assert_eq!(state(&devices, 10), Online);
        devices.forget_gone(USER, at(35));
        assert_eq!(state(&devices, 35), Unavailable);
    }

    #[test]
    fn a_device_that_waits_is_present() {
        let mut devices = Devices::default();
        devices.seen(USER, "A".into(), Unavailable, at(60));
        devices.begin_waiting(USER, "A".into());
        devices.forget_gone(USER, at(100));
        assert_eq!((devices.next_change(USER, at(0)), state(&devices, 100)), (None, Unavailable));
        devices.stop_waiting(USER, "A".into(), at(100));
        assert_eq!(devices.next_change(USER, at(100)), Some(at(130)));
        devices.forget_gone(USER, at(130));
        devices.forget_user(USER);
        assert!(devices.users().is_empty());
    }

    #[test]
    fn a_user_idles_without_activity_and_comes_back_with_it() {
        let mut devices = Devices::default();
        devices.active(USER, at(10));
        devices.seen(USER, "A".into(), Online, at(1000));
        assert_eq!((state(&devices, 309), state(&devices, 310)), (Online, Unavailable));
        assert_eq!(devices.next_change(USER, at(10)), Some(at(310)));
        assert!(devices.acted(USER, at(400)));
        assert_eq!(state(&devices, 400), Online);
    }

    #[test]
    fn an_activity_makes_nobody_present() {
        let mut devices = Devices::default();
        assert!(!devices.acted(USER, at(0)));
        assert_eq!(state(&devices, 0), Offline);
        devices.seen(USER, "A".into(), Unavailable, at(30));
        devices.begin_waiting(USER, "A".into());
        devices.set_offline(USER);
        assert!(!devices.acted(USER, at(1)));
        assert_eq!(state(&devices, 1), Offline);
        devices.seen(USER, "A".into(), Unavailable, at(30));
        assert!(devices.acted(USER, at(2)));
        assert_eq!(state(&devices, 2), Online);
    }
}
