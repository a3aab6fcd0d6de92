//! What other servers send besides events: EDUs.
//!
//! Invariant: an EDU that is malformed, or that its origin has no right to send, is dropped; it fails no transaction.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#edus>

use std::time::Duration;

use ruma::{RoomId, ServerName, UserId, presence::PresenceState, serde::Raw};
use ruma_federation_api::transactions::edu::{Edu, PresenceContent, ReceiptContent, TypingContent};
use wick_core::{Error, Result, json};
use wick_people::presence::{Kind, Status};

use crate::Services;

/// How many receipts or presence updates one EDU has at most that are taken in.
const MAX_UPDATES: usize = 500;

/// How long receipts wait at most for the events that they refer to.
const PATIENCE: Duration = Duration::from_secs(5);

impl Services {
    /// Takes in an EDU of `origin`.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn receive_edu(&self, origin: &ServerName, edu: &Raw<Edu>) -> Result<()> {
        let taken = match read(edu) {
            Ok(edu) => self.take_edu(origin, edu).await,
            Err(error) => Err(error),
        };
        unless_internal(origin, taken)
    }

    async fn take_edu(&self, origin: &ServerName, edu: Edu) -> Result<()> {
        match edu {
            Edu::Typing(content) => self.take_typing(origin, content).await?,
            Edu::Receipt(content) => self.take_receipts(origin, content).await?,
            Edu::Presence(content) => self.take_presence(origin, content).await?,
            Edu::DirectToDevice(content) => self.to_device.receive(origin, &content).await?,
            Edu::DeviceListUpdate(content) => {
                if let Some(lists) = self.device_keys.remote() {
                    lists.receive_device(origin, &content).await?;
                }
            }
            Edu::SigningKeyUpdate(content) => {
                if let Some(lists) = self.device_keys.remote() {
                    lists.receive_signing_keys(origin, &content).await?;
                }
            }
            _ => ignore(origin, "unknown"),
        }
        Ok(())
    }
}

impl Services {
    async fn take_typing(&self, origin: &ServerName, content: TypingContent) -> Result<()> {
        let TypingContent { room_id, user_id, typing, .. } = content;
        ensure_of(origin, &user_id)?;
        self.ensure_in_acl(origin, &room_id)?;
        self.typing.receive(&user_id, &room_id, typing).await
    }

    /// Receipts that cannot be taken leave the others as they are. What they refer to may have come just before, or with
    /// them, so the events of their rooms are worked off first, for a few seconds.
    async fn take_receipts(&self, origin: &ServerName, content: ReceiptContent) -> Result<()> {
        if let Some(federated) = &self.federated {
            let rooms: Vec<_> = content.receipts.keys().take(MAX_UPDATES).cloned().collect();
            let deadline = self.clock.monotonic() + PATIENCE;
            federated.inbound.worked_off(&rooms, deadline).await;
        }
        let rooms = content.receipts.into_iter();
        let all = rooms.flat_map(|(room_id, of_room)| {
            of_room.read.into_iter().map(move |(user_id, data)| (room_id.clone(), user_id, data))
        });
        for (room_id, user_id, data) in all.take(MAX_UPDATES) {
            let receive = async {
                ensure_of(origin, &user_id)?;
                self.ensure_in_acl(origin, &room_id)?;
                self.receipts.receive(&user_id, &room_id, (&data.data, &data.event_ids)).await
            };
            unless_internal(origin, receive.await)?;
        }
        Ok(())
    }

    async fn take_presence(&self, origin: &ServerName, content: PresenceContent) -> Result<()> {
        for update in content.push.into_iter().take(MAX_UPDATES) {
            ensure_of(origin, &update.user_id)?;
            let kind = match update.presence {
                PresenceState::Online => Kind::Online,
                PresenceState::Unavailable => Kind::Unavailable,
                _ => Kind::Offline,
            };
            let active_ago = Some(Duration::from_millis(update.last_active_ago.into()));
            let status = Status { kind, status_msg: update.status_msg, active_ago };
            self.presence.receive(&self.graph, &update.user_id, status).await?;
        }
        Ok(())
    }

    /// Fails if the room's ACL denies a server.
    fn ensure_in_acl(&self, server: &ServerName, room_id: &RoomId) -> Result<()> {
        let read = self.database.published();
        let room = self.graph.short(&read, room_id)?;
        let room = room.ok_or_else(|| Error::not_found("this server is not in that room"))?;
        if !self.graph.acl(&read, room)?.allows(server) {
            return Err(Error::forbidden("the room's server ACL denies the server"));
        }
        Ok(())
    }
}

/// Reads an EDU. Synapse sends cross-signing keys under their name in MSC1756, too.
fn read(edu: &Raw<Edu>) -> Result<Edu> {
    const UNSTABLE: &str = "org.matrix.signing_key_update";
    json::ensure_shallow(edu.json().get().as_bytes())?;
    let malformed = |error: serde_json::Error| Error::bad_json(error.to_string());
    let edu_type: Option<String> = edu.get_field("edu_type").map_err(malformed)?;
    if edu_type.as_deref() != Some(UNSTABLE) {
        return edu.deserialize().map_err(malformed);
    }
    let content = edu.get_field("content").map_err(malformed)?;
    content.map(Edu::SigningKeyUpdate).ok_or_else(|| Error::bad_json("an EDU has no content"))
}

/// Fails if a user is not of a server.
fn ensure_of(server: &ServerName, user_id: &UserId) -> Result<()> {
    if user_id.server_name() == server {
        return Ok(());
    }
    Err(Error::forbidden("the user is of another server"))
}

/// Drops what a server has no right to send.
fn unless_internal(origin: &ServerName, taken: Result<()>) -> Result<()> {
    match taken {
        Err(Error::Internal(report)) => Err(Error::Internal(report)),
        Err(error) => {
            tracing::debug!(%origin, %error, "an EDU is dropped");
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

fn ignore(origin: &ServerName, kind: &str) {
    tracing::debug!(%origin, kind, "an EDU of this type has no effect");
}
