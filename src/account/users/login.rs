//! Logging in with a password.

use std::net::IpAddr;

use ruma::{OwnedDeviceId, OwnedUserId, api::error::ErrorKind};
use wick_core::{Error, Result};
use wick_database::schema::users::{ACCOUNT_BY_USER, Account};

use super::{Origin, Users, localpart::login_user_id};
use crate::{devices::NewDevice, sessions::Tokens};

/// The credentials of a log-in.
pub struct LogIn {
    /// A user id or a local part.
    pub identifier: String,
    /// The account's password.
    pub password: String,
    /// The device to log in.
    pub device: NewDevice,
    /// The address that attempts are counted by, if it is known.
    pub address: Option<IpAddr>,
}

/// A device that was logged in.
pub struct LoggedIn {
    /// Its user.
    pub user_id: OwnedUserId,
    /// The device.
    pub device_id: OwnedDeviceId,
    /// Its tokens. Those it had before are over.
    pub tokens: Tokens,
}

impl Users {
    /// Logs a device in.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if there is no such account or the password is wrong, the two alike;
    /// `M_USER_DEACTIVATED` if the account was deactivated; `M_LIMIT_EXCEEDED`.
    pub async fn log_in(&self, shown: LogIn) -> Result<LoggedIn> {
        shown.device.ensure_sensible()?;
        let user_id = login_user_id(&shown.identifier, &self.resources.config.server.name);
        let origin = Origin::Address(shown.address);
        let checked = self.check_password(user_id.as_deref(), &shown.password, origin).await?;
        let user_id = user_id.ok_or_else(wrong)?;
        let Some((user, Account { password: Some(hash), .. })) = checked else {
            let account = self.get(&user_id)?;
            let is_over = account.is_some_and(|(_, account)| account.deactivated.is_some());
            return Err(if is_over { deactivated() } else { wrong() });
        };
        let (device_id, tokens) = self
            .resources
            .change(|batch| {
                // The password must still be the one that was checked when the device is written.
                let account = batch.read_for_update(&ACCOUNT_BY_USER, &user)?;
                let account = account.ok_or_else(wrong)?;
                if account.deactivated.is_some() {
                    return Err(deactivated());
                }
                if account.password.as_deref() != Some(&*hash) {
                    return Err(wrong());
                }
                self.devices.put_login((user, &user_id), &shown.device, None, batch)
            })
            .await?;
        Ok(LoggedIn { user_id, device_id, tokens })
    }
}

fn wrong() -> Error {
    Error::forbidden("wrong user name or password")
}

fn deactivated() -> Error {
    let message = "this account has been deactivated";
    Error::refused_with(403, ErrorKind::UserDeactivated, message)
}
