//! Looking up the keys of users and their devices.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use ruma::{DeviceId, OwnedDeviceId, OwnedUserId, ServerName, UserId};
use serde_json::value::{RawValue, to_raw_value};
use wick_account::Session;
use wick_core::{Error, Result, ShortUserId};
use wick_database::{
    Range, Read, Snapshot,
    schema::{
        cross_signing::{CROSS_SIGNING_KEY_BY_USAGE, SIGNATURE_BY_KEY},
        device_keys::KEYS_BY_DEVICE,
        device_lists::{DEVICE_LIST_CHANGE_BY_USER, SIGNATURE_CHANGE_BY_USER},
        devices::DEVICE_BY_ID,
        remote_devices::ANNOUNCED_LIST_BY_USER,
    },
};

use super::{
    DeviceKeys, PublicKeys, QueriedKeys,
    shown::{LastShown, Shown},
};
use crate::{
    device_keys::unsigned::{Unsigned, display_name},
    remote_lists::{ByServer, Sharing},
    signed_json::SignedJson,
};

/// Users whose keys are looked up on the thread of the request.
const FEW_USERS: usize = 20;

/// The users and devices that are named.
type Wanted = BTreeMap<OwnedUserId, Vec<OwnedDeviceId>>;

/// The users of other servers whose keys are not stored.
type Missing = ByServer<Vec<OwnedDeviceId>>;

type Stored = (QueriedKeys, Missing);

/// A signature by a user with the key of this id.
type Signature = (ShortUserId, String, String);

/// Signatures that were added to the keys of one user, by the signed key.
type Added = BTreeMap<String, Vec<Signature>>;

impl DeviceKeys {
    /// The keys of users and of their devices (all of them if none is named), with the signatures of the
    /// users themselves and of the session's user. User-signing keys are shown to their users alone.
    /// Keys of users of other servers that are not stored are asked for, which takes no longer than `time` and ten
    /// seconds if there is none; servers without an answer are in `failures`. Users and devices that do not exist are left out.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn query(
        &self,
        session: &Arc<Session>,
        wanted: Wanted,
        time: Option<Duration>,
    ) -> Result<QueriedKeys> {
        let (mut queried, missing) = self.look_up_stored(session, wanted).await?;
        let Some(remote) = &self.remote else {
            let servers = missing.into_keys().map(|server| (server.to_string(), unreachable()));
            queried.failures = servers.collect();
            return Ok(queried);
        };
        if !missing.is_empty() {
            let (found, failures) = remote.query(session, missing, time).await;
            queried.users.extend(found.into_iter().map(|(user, keys)| (user, Arc::new(keys))));
            queried.failures = failures;
        }
        Ok(queried)
    }

    /// What is stored of these users, and the users whose servers are to be asked.
    async fn look_up_stored(&self, session: &Arc<Session>, wanted: Wanted) -> Result<Stored> {
        if wanted.len() <= FEW_USERS {
            return self.look_up(session, &wanted);
        }
        let (keys, session) = (self.clone(), Arc::clone(session));
        let user = session.user;
        self.resources.workers.run(&user, move || keys.look_up(&session, &wanted)).await
    }

    fn look_up(&self, session: &Session, wanted: &Wanted) -> Result<Stored> {
        let read = self.resources.database.published();
        let (mut queried, mut missing) = (QueriedKeys::default(), Missing::new());
        let is_remote = self.remote.is_some() && wanted.keys().any(|user| !self.is_local(user));
        let sharing = is_remote.then(|| Sharing::of(&read, session.user)).transpose()?;
        for (user_id, device_ids) in wanted {
            let user = self.resources.database.intern().lookup_user(&read, user_id)?;
            let of = user.map(|user| Queried {
                read: &read,
                viewer: Viewer::User(session),
                user,
                user_id,
            });
            let shown = match of {
                Some(of) if self.is_local(user_id) => of.shown(device_ids, &self.last_shown)?,
                None if self.is_local(user_id) => continue,
                Some(of) if of.is_list_stored(sharing.as_ref())? => {
                    Arc::new(of.read(device_ids, &of.signers())?)
                }
                _ => {
                    let users = missing.entry(user_id.server_name().to_owned()).or_default();
                    users.insert(user_id.clone(), device_ids.clone());
                    continue;
                }
            };
            queried.users.push((user_id.clone(), shown));
        }
        Ok((queried, missing))
    }

    /// The keys of users and of their devices (all of them if none is named) as `server` may see them: with the
    /// signatures of the users themselves, and without names of devices.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn query_for_server(
        &self,
        server: &ServerName,
        wanted: Wanted,
    ) -> Result<Vec<(OwnedUserId, PublicKeys)>> {
        if wanted.len() <= FEW_USERS {
            return self.look_up_public(&wanted);
        }
        let keys = self.clone();
        self.resources.workers.run(&server, move || keys.look_up_public(&wanted)).await
    }

    /// Whether other servers are sent the names of devices.
    fn shows_names(&self) -> bool {
        self.resources.config.federation.device_names
    }

    fn look_up_public(&self, wanted: &Wanted) -> Result<Vec<(OwnedUserId, PublicKeys)>> {
        let read = self.resources.database.published();
        let mut found = Vec::new();
        for (user_id, device_ids) in wanted.iter().filter(|(user_id, _)| self.is_local(user_id)) {
            let user = self.resources.database.intern().lookup_user(&read, user_id)?;
            let Some(user) = user else { continue };
            let keys = public_keys(&read, (user, user_id), (device_ids, self.shows_names()))?;
            found.push((user_id.clone(), keys));
        }
        Ok(found)
    }

    /// Whether a user id is one of this server's.
    pub(super) fn is_local(&self, user_id: &UserId) -> bool {
        user_id.server_name() == self.resources.config.server.name
    }
}

/// The keys of these devices of a local user, or of all, as other servers may see them.
pub(crate) fn public_keys(
    read: &Snapshot,
    (user, user_id): (ShortUserId, &UserId),
    (device_ids, with_names): (&[OwnedDeviceId], bool),
) -> Result<PublicKeys> {
    let viewer = Viewer::Server { sees_names: with_names };
    let of = Queried { read, viewer, user, user_id };
    let mut names = BTreeMap::new();
    for row in read.scan(&DEVICE_BY_ID, Range::prefix((user,))).take_while(|_| with_names) {
        let ((_, device_id), device) = row?;
        names.extend(device.display_name.map(|name| (device_id, name)));
    }
    let announced = read.get(&ANNOUNCED_LIST_BY_USER, &user)?.unwrap_or_default();
    PublicKeys::new(&of.read(device_ids, &[user])?, names, announced.stream_id)
}

/// What is answered for another server.
pub(super) fn unreachable() -> serde_json::Value {
    serde_json::json!({
        "errcode": "M_UNKNOWN", "error": "this server does not speak to other servers",
    })
}

/// For what the keys of a user are looked up.
#[derive(Clone, Copy)]
enum Viewer<'a> {
    /// A user of this server.
    User(&'a Session),
    /// Another server.
    Server { sees_names: bool },
}

impl<'a> Viewer<'a> {
    fn session(self) -> Option<&'a Session> {
        match self {
            Self::User(session) => Some(session),
            Self::Server { .. } => None,
        }
    }
}

/// A user whose keys are looked up for a viewer.
struct Queried<'a> {
    read: &'a Snapshot,
    viewer: Viewer<'a>,
    user: ShortUserId,
    user_id: &'a UserId,
}

impl Queried<'_> {
    /// What the viewer is shown of these devices, or of all.
    fn shown(&self, device_ids: &[OwnedDeviceId], last: &LastShown) -> Result<Arc<Shown>> {
        let changed = self.read.get(&DEVICE_LIST_CHANGE_BY_USER, &self.user)?;
        match changed.filter(|_| device_ids.is_empty()) {
            Some(changed) if !self.has_signed()? => {
                last.get(self.user, changed, || self.read_for_all())
            }
            _ => self.read(device_ids, &self.signers()).map(Arc::new),
        }
    }

    /// Whether the keys of a user of another server are stored and complete. `sharing` are the rooms of the viewer.
    fn is_list_stored(&self, sharing: Option<&Sharing>) -> Result<bool> {
        sharing.map_or(Ok(false), |sharing| sharing.has_list_of(self.read, self.user))
    }

    /// Whether the viewer may be shown something that others are not.
    fn has_signed(&self) -> Result<bool> {
        let Some(viewer) = self.viewer.session() else { return Ok(false) };
        let signed = (viewer.user, self.user);
        Ok(self.user == viewer.user || self.read.contains(&SIGNATURE_CHANGE_BY_USER, &signed)?)
    }

    /// The users whose signatures the viewer is shown.
    fn signers(&self) -> Vec<ShortUserId> {
        let viewer =
            self.viewer.session().map(|viewer| viewer.user).filter(|viewer| *viewer != self.user);
        [self.user].into_iter().chain(viewer).collect()
    }

    /// The part for all viewers: without signatures of the viewer.
    fn read_for_all(&self) -> Result<Shown> {
        self.read(&[], &[self.user])
    }

    /// What is shown of these devices, or of all, with the signatures of `signers`.
    fn read(&self, device_ids: &[OwnedDeviceId], signers: &[ShortUserId]) -> Result<Shown> {
        let added = self.added_signatures(signers)?;
        let mut devices = BTreeMap::new();
        for (device_id, keys) in self.stored(device_ids)? {
            let shown = self.device(&device_id, &keys, &added)?;
            devices.insert(device_id, shown);
        }
        let devices = to_raw_value(&devices)
            .map_err(|error| Error::internal("the keys of devices cannot be written", error))?;
        let user_signing =
            match self.viewer.session().is_some_and(|viewer| viewer.user == self.user) {
                true => self.cross_signing_key("user_signing", &added)?,
                false => None,
            };
        Ok(Shown {
            devices,
            master: self.cross_signing_key("master", &added)?,
            self_signing: self.cross_signing_key("self_signing", &added)?,
            user_signing,
        })
    }

    /// The keys of these devices, or of all.
    fn stored(&self, device_ids: &[OwnedDeviceId]) -> Result<Vec<(OwnedDeviceId, Box<RawValue>)>> {
        if device_ids.is_empty() {
            return self
                .read
                .scan(&KEYS_BY_DEVICE, Range::prefix((self.user,)))
                .map(|row| row.map(|((_, id), keys)| (id, keys)).map_err(Error::from))
                .collect();
        }
        let rows =
            self.read.multi_get(&KEYS_BY_DEVICE, device_ids.iter().map(|id| (self.user, id)))?;
        let found = device_ids.iter().zip(rows);
        Ok(found.filter_map(|(id, keys)| Some((id.clone(), keys?))).collect())
    }

    fn device(
        &self,
        device_id: &DeviceId,
        stored: &RawValue,
        added: &Added,
    ) -> Result<Box<RawValue>> {
        let mut keys = SignedJson::stored(stored)?;
        self.add(added.get(device_id.as_str()), &mut keys);
        if matches!(self.viewer, Viewer::Server { sees_names: false }) {
            return keys.to_json();
        }
        let device = self.read.get(&DEVICE_BY_ID, &(self.user, device_id))?;
        let device_display_name = match device {
            Some(device) => device.display_name,
            // Of a device of another server it is stored with the keys.
            None => display_name(stored),
        };
        keys.to_json_with(Some(&Unsigned { device_display_name }))
    }

    fn cross_signing_key(&self, usage: &str, added: &Added) -> Result<Option<Box<RawValue>>> {
        let key = self.read.get(&CROSS_SIGNING_KEY_BY_USAGE, &(self.user, usage))?;
        let Some(key) = key else { return Ok(None) };
        let mut key = SignedJson::stored(&key)?;
        let signatures = key.public_key().and_then(|public_key| added.get(&public_key));
        self.add(signatures, &mut key);
        key.to_json().map(Some)
    }

    /// The signatures that `signers` have added to the user's keys.
    fn added_signatures(&self, signers: &[ShortUserId]) -> Result<Added> {
        let mut added = Added::new();
        for &signer in signers {
            for row in self.read.scan(&SIGNATURE_BY_KEY, Range::prefix((self.user, signer))) {
                let ((_, _, signed, signing), signature) = row?;
                added.entry(signed).or_default().push((signer, signing, signature));
            }
        }
        Ok(added)
    }

    fn add(&self, added: Option<&Vec<Signature>>, key: &mut SignedJson) {
        for (signer, signing, signature) in added.into_iter().flatten() {
            let signer = match self.viewer.session().filter(|_| *signer != self.user) {
                Some(viewer) => &viewer.user_id,
                None => self.user_id,
            };
            let signatures = key.signatures.entry(signer.to_owned()).or_default();
            signatures.insert(signing.clone(), signature.clone());
        }
    }
}
