//! Logging in with a password.

use ruma::{OwnedDeviceId, OwnedUserId, api::error::ErrorKind};
use wick_core::{Error, Result};
use wick_database::schema::users::ACCOUNT_BY_USER;

use super::{Users, find, localpart::login_user_id};
use crate::{devices::NewDevice, sessions::Tokens};

/// What a client shows to log in.
pub struct LogIn {
    /// A user id or a local part.
    pub identifier: String,
    /// The account's password.
    pub password: String,
    /// The device to log in.
    pub device: NewDevice,
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
    /// `M_USER_DEACTIVATED` if the account was deactivated.
    pub async fn log_in(&self, shown: LogIn) -> Result<LoggedIn> {
        shown.device.ensure_sensible()?;
        let user_id = login_user_id(&shown.identifier, &self.resources.config.server.name)
            .ok_or_else(wrong)?;
        let (user, account) = self.get(&user_id)?.ok_or_else(wrong)?;
        if account.deactivated.is_some() {
            return Err(deactivated());
        }
        let hash = account.password.ok_or_else(wrong)?;
        if !self.passwords.is_right(&shown.password, &hash).await? {
            return Err(wrong());
        }
        let (device_id, tokens, revoked) = self
            .resources
            .change(|batch| {
                // The password must still be the one that was checked when the device is written.
                let (_, account) = find(batch, &self.resources, &user_id)?.ok_or_else(wrong)?;
                if account.deactivated.is_some() {
                    return Err(deactivated());
                }
                if account.password.as_deref() != Some(&*hash) {
                    return Err(wrong());
                }
                batch.require(&ACCOUNT_BY_USER, &user, Some(&account));
                let mut revoked = Vec::new();
                let owner = (user, &*user_id);
                let (device_id, tokens) =
                    self.devices.put_login(owner, &shown.device, &mut revoked, batch)?;
                Ok((device_id, tokens, revoked))
            })
            .await?;
        self.sessions.forget(&revoked);
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
