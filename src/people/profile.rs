//! Profiles: display name, avatar, and fields of a user's own choice.
//!
//! Invariants: a profile is at most 64 KiB of JSON; a change that concerns the user's rooms is noted
//! with the change itself, until `wick_rooms::Memberships` has spread it.

use std::sync::Arc;

use ruma::{UserId, api::error::ErrorKind, profile::UserProfile};
use serde_json::Value;
use wick_account::{Session, name_index, users::find};
use wick_core::{Error, Result, ShortUserId};
use wick_database::{
    Range, Read,
    schema::users::{PROFILE_CHANGE_BY_USER, PROFILE_FIELD_BY_USER},
};
use wick_runtime::{Limit, Limits, Resources};

/// The display name's key.
pub const DISPLAY_NAME: &str = "displayname";
/// The avatar's key.
pub const AVATAR_URL: &str = "avatar_url";

const MAX_KEY_BYTES: usize = 255;
const MAX_PROFILE_BYTES: usize = 65_536;
const MAX_DISPLAY_NAME_CHARS: usize = 256;
const MAX_AVATAR_URL_BYTES: usize = 1000;

/// What the member events of a user repeat of the profile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberProfile {
    /// `displayname`.
    pub display_name: Option<String>,
    /// `avatar_url`.
    pub avatar_url: Option<String>,
}

/// The profiles of local users.
pub struct Profiles {
    resources: Resources,
    limits: Arc<Limits>,
}

impl Profiles {
    /// Profiles in the database.
    #[must_use]
    pub fn new(resources: Resources, limits: Arc<Limits>) -> Self {
        Self { resources, limits }
    }

    /// The whole profile of a local user; `None` if there is no such account or it was
    /// deactivated.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn get(&self, user_id: &UserId) -> Result<Option<UserProfile>> {
        let read = self.resources.database.published();
        let Some((user, account)) = find(&read, &self.resources, user_id)? else {
            return Ok(None);
        };
        if account.deactivated.is_some() {
            return Ok(None);
        }
        let mut profile = UserProfile::new();
        for row in read.scan(&PROFILE_FIELD_BY_USER, Range::prefix((user,))) {
            let ((_, key), json) = row?;
            profile.set(key, parse(&json)?);
        }
        Ok(Some(profile))
    }

    /// What goes into the member events of a local user.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn member_profile(&self, user: ShortUserId) -> Result<MemberProfile> {
        let read = self.resources.database.published();
        let text = |key| -> Result<Option<String>> {
            let json = read.get(&PROFILE_FIELD_BY_USER, &(user, key))?;
            let value = json.map(|json| parse(&json)).transpose()?;
            Ok(value.and_then(|value| value.as_str().map(str::to_owned)))
        };
        Ok(MemberProfile { display_name: text(DISPLAY_NAME)?, avatar_url: text(AVATAR_URL)? })
    }

    /// Sets a field, or removes it.
    ///
    /// # Errors
    /// `M_BAD_JSON` or `M_INVALID_PARAM` if the value is none for this key, `M_KEY_TOO_LARGE`,
    /// `M_PROFILE_TOO_LARGE`; `M_FORBIDDEN` if the profile is not the session's own; `M_LIMIT_EXCEEDED`.
    pub async fn set(
        &self,
        session: &Session,
        user_id: &UserId,
        key: &str,
        value: Option<&Value>,
    ) -> Result<()> {
        if session.user_id != user_id {
            return Err(Error::forbidden("this is the profile of another user"));
        }
        ensure_key(key)?;
        if let Some(value) = value {
            ensure_value(key, value)?;
        }
        if matches!(key, DISPLAY_NAME | AVATAR_URL) {
            // Each change becomes an event in each of the user's rooms.
            self.limits.ensure(Limit::Profiles, &session.user_id)?;
        }
        let json = value.map(Value::to_string);
        self.resources
            .change(|batch| {
                let row = (session.user, key);
                let old = batch.read_for_update(&PROFILE_FIELD_BY_USER, &row)?;
                if old == json {
                    return Ok(());
                }
                if key == DISPLAY_NAME {
                    let name = |json: Option<&String>| {
                        json.and_then(|json| serde_json::from_str::<String>(json).ok())
                    };
                    let (old, new) = (name(old.as_ref()), name(json.as_ref()));
                    let user = (session.user, user_id);
                    name_index::index(batch, user, old.as_deref(), new.as_deref());
                }
                if matches!(key, DISPLAY_NAME | AVATAR_URL) {
                    let change = self.resources.random.number();
                    batch.put(&PROFILE_CHANGE_BY_USER, &session.user, &change);
                }
                let Some(json) = &json else {
                    batch.delete(&PROFILE_FIELD_BY_USER, &row);
                    return Ok(());
                };
                let mut size = field_size(key, json) + 1;
                for other in batch.scan(&PROFILE_FIELD_BY_USER, Range::prefix((session.user,))) {
                    let ((_, other_key), other) = other?;
                    if other_key != key {
                        size += field_size(&other_key, &other);
                    }
                }
                if size > MAX_PROFILE_BYTES {
                    let message = "a profile has at most 64 KiB";
                    return Err(Error::refused(ErrorKind::ProfileTooLarge, message));
                }
                batch.put(&PROFILE_FIELD_BY_USER, &row, json);
                Ok(())
            })
            .await
    }

    /// The change that is not in the user's member events yet, if there is one.
    pub fn to_spread(&self, user: ShortUserId) -> Result<Option<u64>> {
        Ok(self.resources.database.published().get(&PROFILE_CHANGE_BY_USER, &user)?)
    }

    /// Users with changes that are not in their member events yet.
    pub fn all_to_spread(&self) -> Result<Vec<ShortUserId>> {
        let mut users = Vec::new();
        for row in self.resources.database.published().scan(&PROFILE_CHANGE_BY_USER, Range::all()) {
            users.push(row?.0);
        }
        Ok(users)
    }

    /// Notes that `change` is in the user's member events. A later one is still to be put there.
    pub async fn note_spread(&self, user: ShortUserId, change: u64) -> Result<()> {
        self.resources
            .change(|batch| {
                if batch.read_for_update(&PROFILE_CHANGE_BY_USER, &user)? == Some(change) {
                    batch.delete(&PROFILE_CHANGE_BY_USER, &user);
                }
                Ok(())
            })
            .await
    }
}

/// The field as it stands in the profile's JSON: `"key":value,`.
fn field_size(key: &str, json: &str) -> usize {
    key.len() + json.len() + 4
}

fn parse(json: &str) -> Result<Value> {
    serde_json::from_str(json).map_err(|error| Error::internal("stored profile field", error))
}

fn ensure_key(key: &str) -> Result<()> {
    if key.len() > MAX_KEY_BYTES {
        let message = "a profile key has at most 255 bytes";
        return Err(Error::refused(ErrorKind::KeyTooLarge, message));
    }
    // The specification's common namespaced identifier grammar.
    let starts = key.starts_with(|c: char| c.is_ascii_lowercase());
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-.".contains(c);
    if !starts || !key.chars().all(allowed) {
        return Err(Error::invalid_param("a profile key is a namespaced identifier"));
    }
    Ok(())
}

fn ensure_value(key: &str, value: &Value) -> Result<()> {
    let text = || value.as_str().ok_or_else(|| Error::bad_json("this field is a text"));
    match key {
        DISPLAY_NAME if text()?.chars().count() > MAX_DISPLAY_NAME_CHARS => {
            Err(Error::invalid_param("a display name has at most 256 characters"))
        }
        AVATAR_URL if text()?.len() > MAX_AVATAR_URL_BYTES => {
            Err(Error::invalid_param("an avatar URL has at most 1000 bytes"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_namespaced_identifiers() {
        for key in ["displayname", "avatar_url", "m.tz", "org.example.a-b_c.1"] {
            assert!(ensure_key(key).is_ok(), "{key}");
        }
        for key in ["", "A", "1a", "ä", "a b", "_a", "a/b"] {
            assert!(ensure_key(key).is_err(), "{key}");
        }
        let error = ensure_key(&"a".repeat(256)).unwrap_err();
        assert_eq!(error.kind(), Some(&ErrorKind::KeyTooLarge));
    }
}
