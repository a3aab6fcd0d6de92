//! The devices of local users: log in with one, list, rename, remove.
//!
//! Invariant: what belongs to a device goes with it, in the same batch (all that remove devices end in
//! [`Devices::drop_devices`], which names all of it; other crates add theirs as a [`DeviceListener`]). A user has
//! at most `accounts.max_devices`.

use std::sync::Arc;

use ruma::{DeviceId, OwnedDeviceId, UserId, api::client::device};
use wick_core::{Error, Result, ShortUserId};
use wick_database::{
    Batch, Range, Read,
    schema::{
        confirmations::UiaOutcome,
        dehydrated::DEHYDRATED_DEVICE_BY_USER,
        devices::{DEVICE_BY_ID, Device, SEEN_BY_DEVICE, Seen},
    },
};
use wick_runtime::Resources;

use crate::{
    account_data,
    proof::{Proof, RequestSecret},
    pushers,
    sessions::{NewTokens, Owner, Session, Sessions, Tokens},
};

/// Bounds on a device's id and display name.
const MAX_DEVICE_ID_BYTES: usize = 255;
const MAX_DISPLAY_NAME_BYTES: usize = 1024;

/// What a log-in asks for.
#[derive(Clone, Debug, Default)]
pub struct NewDevice {
    /// The id it wants; a known one is logged in anew.
    pub device_id: Option<OwnedDeviceId>,
    /// Its display name, if it is new.
    pub display_name: Option<String>,
    /// Whether it wants a refresh token and an access token that expires.
    pub refresh_token: bool,
}

impl NewDevice {
    /// # Errors
    /// `M_INVALID_PARAM` if something in it is too long.
    pub(crate) fn ensure_sensible(&self) -> Result<()> {
        let too_long = |text: Option<&str>, max| text.is_some_and(|text| text.len() > max);
        if too_long(self.device_id.as_ref().map(|id| id.as_str()), MAX_DEVICE_ID_BYTES)
            || self.device_id.as_ref().is_some_and(|id| id.as_str().is_empty())
        {
            return Err(Error::invalid_param("the device id is empty or too long"));
        }
        ensure_display_name(self.display_name.as_deref())
    }
}

/// What other crates do in the batch that changes a device.
pub trait DeviceListener: Send + Sync {
    /// A user has a new device.
    ///
    /// # Errors
    /// If the database cannot be read.
    fn added(&self, user: ShortUserId, batch: &mut Batch) -> Result<()>;

    /// Devices of a user are removed: deletes what belongs to them.
    ///
    /// # Errors
    /// If the database cannot be read.
    fn removed(
        &self,
        user: ShortUserId,
        device_ids: &[OwnedDeviceId],
        batch: &mut Batch,
    ) -> Result<()>;

    /// A device has another display name.
    ///
    /// # Errors
    /// If the database cannot be read.
    fn renamed(&self, user: ShortUserId, device_id: &DeviceId, batch: &mut Batch) -> Result<()>;

    /// An account is deactivated, its devices are removed already: deletes what belongs to the user.
    ///
    /// # Errors
    /// If the database cannot be read.
    fn deactivated(&self, user: ShortUserId, batch: &mut Batch) -> Result<()>;
}

/// The devices of local users.
pub struct Devices {
    resources: Resources,
    sessions: Arc<Sessions>,
    listeners: Vec<Box<dyn DeviceListener>>,
}

impl Devices {
    /// Devices of the accounts in the database.
    #[must_use]
    pub fn new(
        resources: Resources,
        sessions: Arc<Sessions>,
        listeners: Vec<Box<dyn DeviceListener>>,
    ) -> Self {
        Self { resources, sessions, listeners }
    }

    /// All devices of a user.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn list(&self, user: ShortUserId) -> Result<Vec<device::Device>> {
        let read = self.resources.database.published();
        let mut devices = Vec::new();
        for row in read.scan(&DEVICE_BY_ID, Range::prefix((user,))) {
            let ((_, device_id), device) = row?;
            let seen = read.get(&SEEN_BY_DEVICE, &(user, &device_id))?;
            devices.push(listed(device_id, device, seen));
        }
        Ok(devices)
    }

    /// One device of a user.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn get(&self, user: ShortUserId, device_id: &DeviceId) -> Result<Option<device::Device>> {
        let read = self.resources.database.published();
        let Some(device) = read.get(&DEVICE_BY_ID, &(user, device_id))? else { return Ok(None) };
        let seen = read.get(&SEEN_BY_DEVICE, &(user, device_id))?;
        Ok(Some(listed(device_id.to_owned(), device, seen)))
    }

    /// Gives a device another name; `None` leaves it as it is.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if the user has no such device.
    pub async fn rename(
        &self,
        session: &Session,
        device_id: &DeviceId,
        display_name: Option<String>,
    ) -> Result<()> {
        ensure_display_name(display_name.as_deref())?;
        self.resources
            .change(|batch| {
                let key = (session.user, device_id);
                let old = batch
                    .read_for_update(&DEVICE_BY_ID, &key)?
                    .ok_or_else(|| Error::not_found("there is no such device"))?;
                let Some(display_name) = display_name.clone() else { return Ok(()) };
                let device = Device { display_name: Some(display_name), ..old };
                batch.put(&DEVICE_BY_ID, &key, &device);
                self.notify_renamed(session.user, device_id, batch)
            })
            .await
    }

    fn notify_renamed(
        &self,
        user: ShortUserId,
        device_id: &DeviceId,
        batch: &mut Batch,
    ) -> Result<()> {
        self.listeners.iter().try_for_each(|listener| listener.renamed(user, device_id, batch))
    }

    /// Logs a device out: removes it and all that belongs to it.
    ///
    /// # Errors
    /// If the database refuses.
    pub async fn log_out(&self, user: ShortUserId, device_id: &DeviceId) -> Result<()> {
        let device_ids = [device_id.to_owned()];
        self.resources.change(|batch| self.drop_devices(user, &device_ids, batch)).await
    }

    /// Removes devices and all that belongs to them. Those that are not there are passed over.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if the proof is spent.
    pub async fn remove(
        &self,
        user: ShortUserId,
        device_ids: &[OwnedDeviceId],
        proof: &Proof,
    ) -> Result<()> {
        self.resources
            .change(|batch| {
                proof.spend(UiaOutcome::Done, batch)?;
                self.drop_devices(user, device_ids, batch)
            })
            .await
    }

    /// Removes all devices of a user: log out everywhere.
    ///
    /// # Errors
    /// If the database refuses.
    pub async fn remove_all(&self, user: ShortUserId) -> Result<()> {
        self.resources.change(|batch| self.drop_all(user, None, batch)).await
    }

    /// Logs a device in: makes it or takes a known one over, with new tokens,
    /// derived from `request` if there is one. Its old ones are revoked.
    pub(crate) fn put_login(
        &self,
        (user, user_id): (ShortUserId, &UserId),
        new: &NewDevice,
        request: Option<&RequestSecret>,
        batch: &mut Batch,
    ) -> Result<(OwnedDeviceId, Tokens)> {
        let random = &*self.resources.random;
        let device_id = new.device_id.clone().unwrap_or_else(|| random.letters(10).as_str().into());
        let key = (user, &device_id);
        let known = batch.read_for_update(&DEVICE_BY_ID, &key)?;
        let now = self.resources.clock.now();
        let lifetime = new.refresh_token.then(|| self.sessions.lifetime());
        let tokens = match request {
            Some(request) => Tokens::derived(request, lifetime)?,
            None => Tokens::random(random, lifetime),
        };
        let owner = Owner { user, user_id, device_id: &device_id };
        let pair = NewTokens { now, replaces: false }.put(&tokens, owner, batch);
        let (display_name, created) = match known {
            Some(known) => {
                for pair in [Some(known.tokens), known.previous].into_iter().flatten() {
                    self.sessions.revoke(user, pair, batch);
                }
                if known.display_name.is_none() && new.display_name.is_some() {
                    self.notify_renamed(user, &device_id, batch)?;
                }
                (known.display_name.or_else(|| new.display_name.clone()), known.created)
            }
            None => {
                self.make_room(user, batch)?;
                self.listeners.iter().try_for_each(|listener| listener.added(user, batch))?;
                (new.display_name.clone(), now)
            }
        };
        let device = Device { display_name, created, tokens: pair, previous: None };
        batch.put(&DEVICE_BY_ID, &key, &device);
        Ok((device_id, tokens))
    }

    /// Removes devices until there is room for another: those that were not used for the longest time.
    fn make_room(&self, user: ShortUserId, batch: &mut Batch) -> Result<()> {
        let max = usize::try_from(self.resources.config.accounts.max_devices).unwrap_or(usize::MAX);
        let own = || Range::prefix((user,));
        if batch.scan(&DEVICE_BY_ID, own()).keys().take(max).count() < max {
            return Ok(());
        }
        // A dehydrated device is one that is not used.
        let dehydrated = batch.get(&DEHYDRATED_DEVICE_BY_USER, &user)?;
        let mut by_use = Vec::new();
        for row in batch.scan(&DEVICE_BY_ID, own()) {
            let ((_, device_id), device) = row?;
            if dehydrated.as_ref().is_some_and(|dehydrated| dehydrated.device_id == device_id) {
                continue;
            }
            let seen = batch.get(&SEEN_BY_DEVICE, &(user, &device_id))?;
            by_use.push((seen.map_or(device.created, |seen| seen.at), device_id));
        }
        by_use.sort();
        let kept = max.saturating_sub(1 + usize::from(dehydrated.is_some()));
        by_use.truncate(by_use.len().saturating_sub(kept));
        let unused: Vec<_> = by_use.into_iter().map(|(_, device_id)| device_id).collect();
        self.drop_devices(user, &unused, batch)
    }

    /// Has all sessions of a user loaded anew once `batch` is written.
    pub(crate) fn reload_sessions(&self, user: ShortUserId, batch: &mut Batch) -> Result<()> {
        let mut sessions = Vec::new();
        for row in batch.scan(&DEVICE_BY_ID, Range::prefix((user,))) {
            let (_, device) = row?;
            sessions.push(device.tokens.access);
            sessions.extend(device.previous.map(|pair| pair.access));
        }
        sessions.into_iter().for_each(|access| self.sessions.evict(access, batch));
        Ok(())
    }

    /// Makes a device without a session: the tokens that a device has are not handed out.
    ///
    /// # Errors
    /// `M_INVALID_PARAM` if something in it is too long.
    pub fn put_without_session(
        &self,
        owner: (ShortUserId, &UserId),
        new: &NewDevice,
        batch: &mut Batch,
    ) -> Result<()> {
        new.ensure_sensible()?;
        let _nobodys = self.put_login(owner, new, None, batch)?;
        Ok(())
    }

    /// Removes all devices of a user but one.
    pub(crate) fn drop_all(
        &self,
        user: ShortUserId,
        except: Option<&DeviceId>,
        batch: &mut Batch,
    ) -> Result<()> {
        let mut device_ids = Vec::new();
        for key in batch.scan(&DEVICE_BY_ID, Range::prefix((user,))).keys() {
            let (_, device_id) = key?;
            if except != Some(&*device_id) {
                device_ids.push(device_id);
            }
        }
        self.drop_devices(user, &device_ids, batch)
    }

    /// Removes those devices of a user that exist, with everything that belongs to them.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn drop_devices(
        &self,
        user: ShortUserId,
        device_ids: &[OwnedDeviceId],
        batch: &mut Batch,
    ) -> Result<()> {
        let mut removed = Vec::new();
        for device_id in device_ids {
            // A device that is named twice is gone the second time.
            if self.drop_one(user, device_id, batch)? {
                removed.push(device_id.clone());
            }
        }
        if removed.is_empty() {
            return Ok(());
        }
        self.listeners.iter().try_for_each(|listener| listener.removed(user, &removed, batch))
    }

    /// Removes what of a device is in this crate. Returns whether there is such a device.
    fn drop_one(&self, user: ShortUserId, device_id: &DeviceId, batch: &mut Batch) -> Result<bool> {
        let key = (user, device_id);
        let Some(device) = batch.read_for_update(&DEVICE_BY_ID, &key)? else { return Ok(false) };
        batch.delete(&DEVICE_BY_ID, &key);
        batch.delete(&SEEN_BY_DEVICE, &key);
        for pair in [Some(device.tokens), device.previous].into_iter().flatten() {
            self.sessions.revoke(user, pair, batch);
        }
        account_data::drop_device(user, device_id, batch)?;
        pushers::drop_device(user, device_id, batch)?;
        Ok(true)
    }

    /// Notifies other crates that an account is deactivated.
    pub(crate) fn note_deactivated(&self, user: ShortUserId, batch: &mut Batch) -> Result<()> {
        self.listeners.iter().try_for_each(|listener| listener.deactivated(user, batch))
    }
}

fn ensure_display_name(display_name: Option<&str>) -> Result<()> {
    if display_name.is_some_and(|name| name.len() > MAX_DISPLAY_NAME_BYTES) {
        return Err(Error::invalid_param("the device's display name is too long"));
    }
    Ok(())
}

fn listed(device_id: OwnedDeviceId, device: Device, seen: Option<Seen>) -> device::Device {
    let mut listed = device::Device::new(device_id);
    listed.display_name = device.display_name;
    if let Some(seen) = seen {
        listed.last_seen_ts = Some(seen.at.matrix());
        listed.last_seen_ip = seen.address;
    }
    listed
}
