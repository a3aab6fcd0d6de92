//! Making an account.

use ruma::{OwnedDeviceId, OwnedUserId, UserId};
use wick_core::{Error, Result, ShortUserId, config::Mode};
use wick_database::{
    Batch,
    schema::{
        confirmations::UiaOutcome,
        users::{ACCOUNT_BY_USER, Account, PROFILE_FIELD_BY_USER},
    },
};

use super::{
    Users, in_use,
    localpart::{any_user_id, new_user_id},
};
use crate::{devices::NewDevice, name_index, proof::Proof, push_rules, sessions::Tokens};

/// A new account.
#[derive(Default)]
pub struct NewAccount {
    /// Its local part; `None` for a random one.
    pub localpart: Option<String>,
    /// Its password.
    pub password: String,
    /// Whether it administers the server.
    pub admin: bool,
    /// The device to log in at once, if any.
    pub device: Option<NewDevice>,
}

/// An account that was made.
pub struct Registered {
    /// Its user id.
    pub user_id: OwnedUserId,
    /// The device that was logged in, with its tokens.
    pub device: Option<(OwnedDeviceId, Tokens)>,
}

impl Users {
    /// Refuses new accounts where registration is closed. Guests are another matter, see
    /// [`Users::register_guest`].
    ///
    /// # Errors
    /// `M_FORBIDDEN`.
    pub fn ensure_may_register(&self) -> Result<()> {
        match self.resources.config.registration_mode() {
            Mode::Open | Mode::Token => Ok(()),
            Mode::Local | Mode::Closed => Err(Error::forbidden("registration is closed")),
        }
    }

    /// Makes an account.
    ///
    /// # Errors
    /// `M_INVALID_USERNAME`, `M_USER_IN_USE`, `M_WEAK_PASSWORD`; `M_FORBIDDEN` or `M_INVALID_PARAM` if
    /// the proof is spent.
    pub async fn register(&self, new: NewAccount, proof: &Proof) -> Result<Registered> {
        let server = &self.resources.config.server.name;
        let user_id = match &new.localpart {
            Some(localpart) => new_user_id(localpart, server)?,
            None => any_user_id(&*self.resources.random, server)?,
        };
        if let Some(device) = &new.device {
            device.ensure_sensible()?;
        }
        if self.get(&user_id)?.is_some() {
            return Err(in_use());
        }
        let account = Account {
            password: Some(self.passwords.hash(&user_id, &new.password).await?),
            created: self.resources.clock.now(),
            admin: new.admin,
            deactivated: None,
        };
        let device = self
            .resources
            .change(|batch| {
                let user = self.put_account(&user_id, &account, batch)?;
                let device = match &new.device {
                    Some(device) => {
                        let owner = (user, &*user_id);
                        Some(self.devices.put_login(owner, device, proof.request(), batch)?)
                    }
                    None => None,
                };
                proof.spend(outcome(&user_id, device.as_ref()), batch)?;
                Ok(device)
            })
            .await?;
        Ok(Registered { user_id, device })
    }

    /// Puts a new account with its profile and its push rules.
    ///
    /// # Errors
    /// `M_USER_IN_USE`.
    pub(super) fn put_account(
        &self,
        user_id: &UserId,
        account: &Account,
        batch: &mut Batch,
    ) -> Result<ShortUserId> {
        let display_name = serde_json::to_string(user_id.localpart())
            .map_err(|error| Error::internal("display name", error))?;
        let user = self.resources.database.intern().user(user_id, batch)?;
        if batch.read_for_update(&ACCOUNT_BY_USER, &user)?.is_some() {
            return Err(in_use());
        }
        batch.put(&ACCOUNT_BY_USER, &user, account);
        batch.put(&PROFILE_FIELD_BY_USER, &(user, "displayname"), &display_name);
        name_index::index(batch, (user, user_id), None, Some(user_id.localpart()));
        push_rules::put_default(user, user_id, batch)?;
        Ok(user)
    }
}

/// What a registration made, for when its request is repeated.
pub(super) fn outcome(user_id: &UserId, device: Option<&(OwnedDeviceId, Tokens)>) -> UiaOutcome {
    let device = device.map(|(device_id, tokens)| (device_id.clone(), tokens.refresh.is_some()));
    UiaOutcome::Registered { user_id: user_id.to_owned(), device }
}
