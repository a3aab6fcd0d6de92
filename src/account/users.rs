//! Accounts: making them, logging in to them, changing their password, ending them.
//!
//! Invariants: an account is made with its profile, its push rules and its first device in one
//! batch; an account that was deactivated has no device and no password, and its name is taken.

mod guests;
mod localpart;
mod login;
mod password;
mod register;
mod shared_secret;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use ruma::{OwnedUserId, UserId, api::error::ErrorKind};
use subtle::ConstantTimeEq;
use wick_core::{Error, Result, ShortUserId, config::Mode};
use wick_database::{
    Batch, Range, Read,
    schema::{
        account_data::{
            ACCOUNT_DATA_BY_TYPE, ACCOUNT_DATA_CHANGE_BY_POSITION, FILTER_BY_CREATION,
            FILTER_BY_ID, TOTAL_BY_ACCOUNT_DATA_OWNER,
        },
        confirmations::UiaOutcome,
        users::{
            ACCOUNT_BY_USER, Account, DEPARTING_BY_USER, ERASED_BY_USER, PROFILE_CHANGE_BY_USER,
            PROFILE_FIELD_BY_USER,
        },
    },
};
use wick_runtime::{Limits, Resources};

pub(crate) use self::localpart::login_user_id;
pub use self::{
    guests::ListedGuest,
    login::{LogIn, LoggedIn},
    password::Origin,
    register::{NewAccount, Registered},
    shared_secret::SignedAccount,
};
use self::{localpart::new_user_id, password::Passwords};
use crate::{Devices, Session, proof::Proof, removal};

/// The accounts of this server.
pub struct Users {
    resources: Resources,
    limits: Arc<Limits>,
    devices: Arc<Devices>,
    passwords: Passwords,
}

impl Users {
    /// Accounts in the database.
    ///
    /// # Errors
    /// If passwords cannot be hashed at the configured cost.
    pub fn new(resources: Resources, limits: Arc<Limits>, devices: Arc<Devices>) -> Result<Self> {
        let passwords = Passwords::new(&resources)?;
        Ok(Self { resources, limits, devices, passwords })
    }

    /// Whether a user id is one of this server's, whether or not there is such an account.
    #[must_use]
    pub fn is_local(&self, user_id: &UserId) -> bool {
        user_id.server_name() == self.resources.config.server.name
    }

    /// The user of this server that a user id or a local part names, whether or not there is such an
    /// account.
    #[must_use]
    pub fn named(&self, identifier: &str) -> Option<OwnedUserId> {
        login_user_id(identifier, &self.resources.config.server.name)
    }

    /// The account with this user id, if there is one, deactivated or not.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn get(&self, user_id: &UserId) -> Result<Option<(ShortUserId, Account)>> {
        find(&self.resources.database.published(), &self.resources, user_id)
    }

    /// Whether there is an account with this user id that can be written to.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn is_active(&self, user_id: &UserId) -> Result<bool> {
        Ok(self.get(user_id)?.is_some_and(|(_, account)| account.deactivated.is_none()))
    }

    /// Whether the account of a session administers the server.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn is_admin(&self, session: &Session) -> Result<bool> {
        let account = self.resources.database.published().get(&ACCOUNT_BY_USER, &session.user)?;
        Ok(account.is_some_and(|account| account.admin))
    }

    /// Whether new accounts need the registration token.
    #[must_use]
    pub fn needs_registration_token(&self) -> bool {
        self.resources.config.registration_mode() == Mode::Token
    }

    /// Whether `shown` is the registration token.
    #[must_use]
    pub fn is_registration_token(&self, shown: &str) -> bool {
        self.needs_registration_token()
            && self
                .resources
                .config
                .registration
                .token
                .reveal()
                .is_some_and(|token| is_same_secret(token, shown))
    }

    /// Whether a new account can be called `wanted`.
    ///
    /// # Errors
    /// `M_INVALID_USERNAME` or `M_USER_IN_USE` if not.
    pub fn ensure_available(&self, wanted: &str) -> Result<()> {
        let user_id = new_user_id(wanted, &self.resources.config.server.name)?;
        match self.get(&user_id)? {
            Some(_) => Err(in_use()),
            None => Ok(()),
        }
    }

    /// Gives an account a new password, and logs out all other devices if `logout_devices` is set.
    ///
    /// # Errors
    /// `M_WEAK_PASSWORD`; `M_FORBIDDEN` if the proof is spent.
    pub async fn change_password(
        &self,
        session: &Session,
        new_password: &str,
        logout_devices: bool,
        proof: &Proof,
    ) -> Result<()> {
        let hash = self.passwords.hash(&session.user_id, new_password).await?;
        self.resources
            .change(|batch| {
                proof.spend(UiaOutcome::Done, batch)?;
                let old = batch
                    .read_for_update(&ACCOUNT_BY_USER, &session.user)?
                    .ok_or_else(|| Error::corrupt("a logged-in user has no account"))?;
                let account = Account { password: Some(hash.clone()), ..old };
                batch.put(&ACCOUNT_BY_USER, &session.user, &account);
                if logout_devices {
                    let own = Some(&*session.device_id);
                    self.devices.drop_all(session.user, own, batch)?;
                }
                Ok(())
            })
            .await
    }

    /// Ends an account for good: its password, its devices and its profile go, its name stays
    /// taken. With `erase` the user is noted as erased. Its rooms are left afterwards, see
    /// [`Users::departing`].
    ///
    /// # Errors
    /// `M_FORBIDDEN` if the proof is spent.
    pub async fn deactivate(&self, user: ShortUserId, proof: &Proof, erase: bool) -> Result<()> {
        self.resources
            .change(|batch| {
                proof.spend(UiaOutcome::Done, batch)?;
                if erase {
                    batch.put(&ERASED_BY_USER, &user, &());
                }
                self.put_deactivated(user, batch)
            })
            .await
    }

    fn put_deactivated(&self, user: ShortUserId, batch: &mut Batch) -> Result<()> {
        let now = self.resources.clock.now();
        let old = batch
            .read_for_update(&ACCOUNT_BY_USER, &user)?
            .ok_or_else(|| Error::not_found("there is no such account"))?;
        let account = Account { password: None, deactivated: Some(now), ..old };
        batch.put(&ACCOUNT_BY_USER, &user, &account);
        batch.put(&DEPARTING_BY_USER, &user, &());
        batch.delete(&PROFILE_CHANGE_BY_USER, &user);
        guests::drop_row(user, batch)?;
        self.devices.drop_all(user, None, batch)?;
        self.devices.note_deactivated(user, batch)?;
        batch.delete_range(&PROFILE_FIELD_BY_USER, Range::prefix((user,)))?;
        Ok(())
    }

    /// Whether a deactivated user wanted to be erased.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn is_erased(&self, user: ShortUserId) -> Result<bool> {
        Ok(self.resources.database.published().contains(&ERASED_BY_USER, &user)?)
    }

    /// Frees the memory that passwords are hashed in and that is not in use.
    pub fn release_memory(&self) {
        self.passwords.release_memory();
    }

    /// Removes what a deactivated user has stored: account data, push rules and filters.
    ///
    /// # Errors
    /// If the database refuses.
    pub async fn remove_stored(&self, user: ShortUserId) -> Result<()> {
        let resources = &self.resources;
        let own = || (user,);
        // The index of changes before what it refers to.
        let (changes, data) = (&ACCOUNT_DATA_CHANGE_BY_POSITION, &ACCOUNT_DATA_BY_TYPE);
        removal::delete_range(resources, changes, Range::prefix(own())).await?;
        removal::delete_range(resources, data, Range::prefix(own())).await?;
        removal::delete(resources, &TOTAL_BY_ACCOUNT_DATA_OWNER, vec![user]).await?;
        removal::delete_range(resources, &FILTER_BY_CREATION, Range::prefix(own())).await?;
        removal::delete_range(resources, &FILTER_BY_ID, Range::prefix(own())).await
    }

    /// Deactivated users whose rooms are still to be left and whose timers are still to be ended.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn departing(&self) -> Result<Vec<ShortUserId>> {
        let mut departing = Vec::new();
        for row in self.resources.database.published().scan(&DEPARTING_BY_USER, Range::all()) {
            departing.push(row?.0);
        }
        Ok(departing)
    }

    /// Notes that a deactivated user has left everything.
    ///
    /// # Errors
    /// If the database refuses.
    pub async fn note_departed(&self, user: ShortUserId) -> Result<()> {
        self.resources
            .change(|batch| {
                batch.delete(&DEPARTING_BY_USER, &user);
                Ok(())
            })
            .await
    }
}

/// The account with this user id.
pub fn find(
    read: &impl Read,
    resources: &Resources,
    user_id: &UserId,
) -> Result<Option<(ShortUserId, Account)>> {
    if user_id.server_name() != resources.config.server.name {
        return Ok(None);
    }
    let Some(user) = resources.database.intern().lookup_user(read, user_id)? else {
        return Ok(None);
    };
    Ok(read.get(&ACCOUNT_BY_USER, &user)?.map(|account| (user, account)))
}

fn in_use() -> Error {
    Error::refused(ErrorKind::UserInUse, "this user name is taken")
}

/// Compares secrets in a time that does not depend on where they differ.
fn is_same_secret(one: &str, other: &str) -> bool {
    one.as_bytes().ct_eq(other.as_bytes()).into()
}
