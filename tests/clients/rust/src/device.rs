//! What the device can be asked for. Every call that waits gives up after `PATIENCE`.

use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use matrix_sdk::{
    Client, Room,
    config::SyncSettings,
    encryption::{
        BackupDownloadStrategy, CrossSigningResetAuthType, EncryptionSettings, VerificationState,
    },
    ruma::{
        EventId, OwnedEventId, RoomId, UserId,
        api::client::{
            room::create_room::v3::{Request as NewRoom, RoomPreset},
            uiaa,
        },
        events::{
            AnySyncTimelineEvent, InitialStateEvent,
            key::verification::request::ToDeviceKeyVerificationRequestEvent,
            room::{encryption::RoomEncryptionEventContent, message::RoomMessageEventContent},
        },
        serde::Raw,
    },
};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::verification::Verifying;

const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(50);

/// The ids of the events that came by sync, and how many times each came.
type Synced = Arc<Mutex<HashMap<OwnedEventId, u32>>>;

pub(crate) struct Device {
    pub(crate) client: Client,
    synced: Synced,
    pub(crate) verifying: Verifying,
}

/// Asks `find` until it finds something.
pub(crate) async fn eventually<T, F>(what: &str, mut find: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<Option<T>>>,
{
    let end = Instant::now() + PATIENCE;
    loop {
        let found = find().await;
        match found {
            Ok(Some(found)) => return Ok(found),
            Err(error) if Instant::now() > end => return Err(error.context(what.to_owned())),
            Ok(None) if Instant::now() > end => bail!("waited {PATIENCE:?} in vain: {what}"),
            Ok(None) | Err(_) => sleep(PAUSE).await,
        }
    }
}

impl Device {
    /// A new device of the account, syncing.
    pub(crate) async fn log_in(url: &str, username: &str, password: &str) -> Result<Self> {
        let settings = EncryptionSettings {
            auto_enable_cross_signing: true,
            backup_download_strategy: BackupDownloadStrategy::AfterDecryptionFailure,
            auto_enable_backups: true,
        };
        let builder = Client::builder().homeserver_url(url).with_encryption_settings(settings);
        let client = builder.build().await?;
        client.matrix_auth().login_username(username, password).send().await?;
        client.event_cache().subscribe()?;
        let synced = Synced::default();
        let seen = Arc::clone(&synced);
        client.add_event_handler(move |event: Raw<AnySyncTimelineEvent>| {
            let seen = Arc::clone(&seen);
            async move { remember(&seen, &event) }
        });
        let verifying = Verifying::default();
        let requests = verifying.clone();
        client.add_event_handler(move |event: ToDeviceKeyVerificationRequestEvent| {
            let requests = requests.clone();
            async move { requests.requested(&event) }
        });
        client.sync_once(SyncSettings::new()).await?;
        client.encryption().wait_for_e2ee_initialization_tasks().await;
        tokio::spawn(sync_for_ever(client.clone()));
        Ok(Self { client, synced, verifying })
    }

    pub(crate) fn whoami(&self) -> Result<Value> {
        let user = self.client.user_id().context("no user")?;
        let device = self.client.device_id().context("no device")?;
        Ok(json!({ "user": user, "device": device }))
    }

    pub(crate) async fn create_room(&self, invite: &str) -> Result<Value> {
        let encryption = InitialStateEvent::with_empty_state_key(
            RoomEncryptionEventContent::with_recommended_defaults(),
        );
        let mut request = NewRoom::new();
        request.preset = Some(RoomPreset::PrivateChat);
        request.invite = vec![UserId::parse(invite)?];
        request.initial_state = vec![encryption.to_raw_any()];
        let room = self.client.create_room(request).await?;
        Ok(json!(room.room_id()))
    }

    pub(crate) async fn join(&self, room: &str) -> Result<Value> {
        self.client.join_room_by_id(&RoomId::parse(room)?).await?;
        Ok(Value::Null)
    }

    async fn room(&self, room: &str) -> Result<Room> {
        let id = RoomId::parse(room)?;
        eventually("the encrypted room", async || {
            let Some(room) = self.client.get_room(&id) else { return Ok(None) };
            let encrypted = room.latest_encryption_state().await?.is_encrypted();
            Ok(encrypted.then_some(room))
        })
        .await
    }

    /// Sends a message and returns its event id; with the same transaction it is sent once.
    pub(crate) async fn send(
        &self,
        room: &str,
        body: &str,
        transaction: Option<&str>,
    ) -> Result<Value> {
        let room = self.room(room).await?;
        let mut send = room.send(RoomMessageEventContent::text_plain(body));
        if let Some(transaction) = transaction {
            send = send.with_transaction_id(transaction.into());
        }
        Ok(json!(send.await?.response.event_id))
    }

    /// Waits until a sync has brought the event or the server gives it to a device that came later, and until
    /// it is decrypted; returns its body and the session it was encrypted with.
    pub(crate) async fn read(&self, room: &str, event: &str) -> Result<Value> {
        let room = self.room(room).await?;
        let id = EventId::parse(event)?;
        eventually("a plaintext", async || {
            let event = room.event(&id, None).await?;
            let Some(info) = event.encryption_info() else { return Ok(None) };
            let content: Value = event.raw().get_field("content")?.context("no content")?;
            let synced =
                *self.synced.lock().unwrap_or_else(PoisonError::into_inner).get(&id).unwrap_or(&0);
            Ok(Some(
                json!({ "body": content["body"], "session": info.session_id(), "synced": synced }),
            ))
        })
        .await
    }

    /// The ids of the user's devices, as far as this device has learnt of them.
    pub(crate) async fn devices(&self, user: &str) -> Result<Value> {
        let devices = self.client.encryption().get_user_devices(&UserId::parse(user)?).await?;
        Ok(json!(devices.keys().collect::<Vec<_>>()))
    }

    /// Whether this device is signed by its user's identity.
    pub(crate) async fn verified(&self) -> Result<Value> {
        let state = self.client.encryption().verification_state().get();
        Ok(json!(state == VerificationState::Verified))
    }

    /// Whether this device has the private keys of its user's identity.
    pub(crate) async fn has_secrets(&self) -> Result<Value> {
        let status = self.client.encryption().cross_signing_status().await;
        Ok(json!(status.is_some_and(|status| status.is_complete())))
    }

    /// Makes a recovery key for the account, and a backup; returns the key once everything is in the backup.
    pub(crate) async fn enable_recovery(&self) -> Result<Value> {
        let recovery = self.client.encryption().recovery();
        Ok(json!(recovery.enable().wait_for_backups_to_upload().await?))
    }

    pub(crate) async fn recover(&self, key: &str) -> Result<Value> {
        self.client.encryption().recovery().recover(key).await?;
        Ok(Value::Null)
    }

    /// Replaces the account's identity and its backup.
    pub(crate) async fn reset_identity(&self, password: &str) -> Result<Value> {
        let reset = self.client.encryption().recovery().reset_identity().await?;
        if let Some(reset) = reset {
            let CrossSigningResetAuthType::Uiaa(info) = reset.auth_type() else {
                bail!("no password is asked for");
            };
            let user = self.client.user_id().context("no user")?;
            let mut proof = uiaa::Password::new(user.to_owned().into(), password.to_owned());
            proof.session.clone_from(&info.session);
            reset.reset(Some(uiaa::AuthData::Password(proof))).await?;
        }
        Ok(Value::Null)
    }

    pub(crate) async fn log_out(&self) -> Result<Value> {
        self.client.logout().await?;
        Ok(Value::Null)
    }
}

fn remember(synced: &Synced, event: &Raw<AnySyncTimelineEvent>) {
    if let Ok(Some(id)) = event.get_field("event_id") {
        *synced.lock().unwrap_or_else(PoisonError::into_inner).entry(id).or_default() += 1;
    }
}

/// A sync ends with the first error, and a killed homeserver is one.
async fn sync_for_ever(client: Client) {
    loop {
        let _ended = client.sync(SyncSettings::new().timeout(Duration::from_secs(10))).await;
        sleep(PAUSE).await;
    }
}
