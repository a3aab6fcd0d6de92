//! Guests: accounts without a password that need no proof, where they are switched on. Their access tokens
//! serve for a part of the API, and they join only rooms that let guests in.
//!
//! Invariants: a user is a guest as long as [`GUEST_BY_USER`] has a row for them, and [`GUEST_TOTAL`] is the number
//! of rows; a guest that sends requests is never taken for unused.
//!
//! <https://spec.matrix.org/v1.18/client-server-api/#guest-access>

use std::time::Duration;

use ruma::{OwnedUserId, api::error::ErrorKind};
use wick_core::{Error, Result, ShortUserId, Timestamp};
use wick_database::{
    Batch, Range, Read,
    schema::{
        devices::SEEN_BY_DEVICE,
        users::{ACCOUNT_BY_USER, Account, GUEST_BY_USER, GUEST_TOTAL, Guest},
    },
};

use super::{Registered, Users, localpart::any_user_id, register::outcome};
use crate::{devices::NewDevice, proof::Proof, sessions::Session};

/// How many unused guests one search finds at most.
const MAX_UNUSED: usize = 500;

/// When to try again while there are as many guests as may be.
const FULL_RETRY: Duration = Duration::from_secs(3600);

/// A guest as administrators see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedGuest {
    /// Its user id.
    pub user_id: OwnedUserId,
    /// When it registered.
    pub created: Timestamp,
    /// When it sent the last request, within a few minutes.
    pub last_seen: Timestamp,
}

impl Users {
    /// Makes a guest, with a user id and a device of the server's choice. `display_name` is the device's.
    ///
    /// # Errors
    /// `M_GUEST_ACCESS_FORBIDDEN` where guests are switched off; `M_LIMIT_EXCEEDED` if there are as many as may
    /// be; `M_INVALID_PARAM` if the display name is too long.
    pub async fn register_guest(&self, display_name: Option<String>) -> Result<Registered> {
        let config = &self.resources.config;
        if !config.registration.guests {
            let message = "this server has no guest accounts";
            return Err(Error::refused(ErrorKind::GuestAccessForbidden, message));
        }
        let device = NewDevice { display_name, ..NewDevice::default() };
        device.ensure_sensible()?;
        let user_id = any_user_id(&*self.resources.random, &config.server.name)?;
        let created = self.resources.clock.now();
        let account = Account { password: None, created, admin: false, deactivated: None };
        let device = self
            .resources
            .change(|batch| {
                let total = batch.read_for_update(&GUEST_TOTAL, &())?.unwrap_or_default();
                if total >= u64::from(config.registration.max_guests) {
                    return Err(Error::limit_exceeded(FULL_RETRY));
                }
                let user = self.put_account(&user_id, &account, batch)?;
                batch.put(&GUEST_BY_USER, &user, &Guest { created });
                batch.put(&GUEST_TOTAL, &(), &total.saturating_add(1));
                self.devices.put_login((user, &user_id), &device, None, batch)
            })
            .await?;
        Ok(Registered { user_id, device: Some(device) })
    }

    /// Refuses a session whose user is no guest, or another one than `localpart` names: for a guest that wants to
    /// become a full account.
    ///
    /// # Errors
    /// `M_FORBIDDEN`, `M_INVALID_USERNAME`.
    pub fn ensure_upgradable(&self, session: &Session, localpart: &str) -> Result<()> {
        if !session.is_guest {
            return Err(no_guest());
        }
        if session.user_id.localpart() != localpart {
            let message = "a guest that becomes a full account keeps its user name";
            return Err(Error::refused(ErrorKind::InvalidUsername, message));
        }
        Ok(())
    }

    /// Makes a guest a full account with this password, and logs `device` in if there is one. The guest's own
    /// device stays logged in, unless it is the same.
    ///
    /// # Errors
    /// `M_WEAK_PASSWORD`; `M_FORBIDDEN` if the user is no guest any more, or the proof is spent.
    pub async fn upgrade_guest(
        &self,
        guest: &Session,
        password: &str,
        device: Option<&NewDevice>,
        proof: &Proof,
    ) -> Result<Registered> {
        if let Some(device) = device {
            device.ensure_sensible()?;
        }
        let (user, user_id) = (guest.user, &guest.user_id);
        let hash = self.passwords.hash(user_id, password).await?;
        let device = self
            .resources
            .change(|batch| {
                let old = batch.read_for_update(&ACCOUNT_BY_USER, &user)?.ok_or_else(no_guest)?;
                if !drop_row(user, batch)? {
                    return Err(no_guest());
                }
                let account = Account { password: Some(hash.clone()), ..old };
                batch.put(&ACCOUNT_BY_USER, &user, &account);
                self.devices.reload_sessions(user, batch)?;
                let device = match device {
                    Some(new) => {
                        let owner = (user, &**user_id);
                        Some(self.devices.put_login(owner, new, proof.request(), batch)?)
                    }
                    None => None,
                };
                proof.spend(outcome(user_id, device.as_ref()), batch)?;
                Ok(device)
            })
            .await?;
        Ok(Registered { user_id: user_id.clone(), device })
    }

    /// Whether there are guests, or may be some.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn has_guests(&self) -> Result<bool> {
        Ok(self.resources.config.registration.guests || self.guest_total()? > 0)
    }

    /// How many guests there are.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn guest_total(&self) -> Result<u64> {
        let total = self.resources.database.published().get(&GUEST_TOTAL, &())?;
        Ok(total.unwrap_or_default())
    }

    /// Up to `limit` guests.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn guests(&self, limit: usize) -> Result<Vec<ListedGuest>> {
        let read = self.resources.database.published();
        let mut guests = Vec::new();
        for row in read.scan(&GUEST_BY_USER, Range::all()).take(limit) {
            let (user, guest) = row?;
            let user_id = self.resources.database.intern().user_id(&read, user)?;
            let user_id = user_id.ok_or_else(|| Error::corrupt("a guest has no user id"))?;
            let last_seen = last_seen(&read, user, guest)?;
            guests.push(ListedGuest { user_id, created: guest.created, last_seen });
        }
        Ok(guests)
    }

    /// Some of the guests that sent no request for longer than guests are kept.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn unused_guests(&self) -> Result<Vec<ShortUserId>> {
        let read = self.resources.database.published();
        let mut unused = Vec::new();
        for row in read.scan(&GUEST_BY_USER, Range::all()) {
            let (user, guest) = row?;
            if self.is_unused(&read, user, guest)? {
                unused.push(user);
            }
            if unused.len() >= MAX_UNUSED {
                break;
            }
        }
        Ok(unused)
    }

    /// Deactivates a guest if it is still unused. Returns whether it was. Its rooms are left afterwards, see
    /// [`Users::departing`].
    ///
    /// # Errors
    /// If the database refuses.
    pub async fn deactivate_unused_guest(&self, user: ShortUserId) -> Result<bool> {
        self.resources
            .change(|batch| {
                let Some(guest) = batch.read_for_update(&GUEST_BY_USER, &user)? else {
                    return Ok(false);
                };
                let unused = self.is_unused(batch, user, guest)?;
                if unused {
                    self.put_deactivated(user, batch)?;
                }
                Ok(unused)
            })
            .await
    }

    fn is_unused(&self, read: &impl Read, user: ShortUserId, guest: Guest) -> Result<bool> {
        let silence = self.resources.clock.now().since(last_seen(read, user, guest)?);
        Ok(silence > self.resources.config.registration.guest_lifetime.0)
    }
}

/// Removes the row of a guest. Returns whether the user is one.
pub(super) fn drop_row(user: ShortUserId, batch: &mut Batch) -> Result<bool> {
    if batch.read_for_update(&GUEST_BY_USER, &user)?.is_none() {
        return Ok(false);
    }
    batch.delete(&GUEST_BY_USER, &user);
    batch.update(&GUEST_TOTAL, &(), |total| total.map(|total| total.saturating_sub(1)))?;
    Ok(true)
}

/// When a guest sent the last request; when it was made if it has sent none.
fn last_seen(read: &impl Read, user: ShortUserId, guest: Guest) -> Result<Timestamp> {
    let mut last = guest.created;
    for row in read.scan(&SEEN_BY_DEVICE, Range::prefix((user,))) {
        last = last.max(row?.1.at);
    }
    Ok(last)
}

fn no_guest() -> Error {
    Error::forbidden("this is not the access token of a guest")
}
