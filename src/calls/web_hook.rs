//! Web hooks: what LiveKit reports by itself. <https://docs.livekit.io/home/server/webhooks/>
//!
//! Invariant: a hook only triggers a look at the room, and names a session that has ended; the participants of a
//! room are those that LiveKit lists.
//! So one that comes twice, late or in another order changes nothing.

use ruma::api::error::ErrorKind;
use serde::Deserialize;
use wick_core::{Error, Result};

use crate::{Calls, Participant, participants::Place};

/// Reasons of the end of sessions whose clients connect anew, or have done so.
const COMING_BACK: [&str; 4] =
    ["DUPLICATE_IDENTITY", "SERVER_SHUTDOWN", "MIGRATION", "STATE_MISMATCH"];

#[derive(Deserialize)]
struct Hook {
    event: String,
    #[serde(default)]
    room: Option<HookRoom>,
    #[serde(default)]
    participant: Option<HookParticipant>,
}

#[derive(Deserialize)]
struct HookRoom {
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
struct HookParticipant {
    #[serde(default)]
    identity: String,
    #[serde(default)]
    sid: String,
    #[serde(default, rename = "disconnectReason")]
    disconnect_reason: String,
}

impl Calls {
    /// Takes in a web hook: its `Authorization` header and its body.
    ///
    /// # Errors
    /// `M_UNAUTHORIZED` if it was not signed with the configured key, or too long ago; `M_BAD_JSON`.
    pub async fn take_hook(&self, authorization: &str, body: &[u8]) -> Result<()> {
        let token = authorization.strip_prefix("Bearer ").unwrap_or(authorization);
        if !self.signer.has_signed_hook(token, body, self.resources.clock.now()) {
            return Err(Error::refused(ErrorKind::Unauthorized, "the web hook is not livekit's"));
        }
        let hook: Hook =
            serde_json::from_slice(body).map_err(|error| Error::bad_json(error.to_string()))?;
        self.hooks.note();
        let (Some(HookRoom { name: room }), Some(participant)) = (hook.room, hook.participant)
        else {
            return Ok(());
        };
        let HookParticipant { identity, sid, disconnect_reason } = participant;
        let place = Place { room, identity };
        let now = self.resources.clock.monotonic();
        match hook.event.as_str() {
            "participant_joined" => {
                self.watch.report(&place, now, |watched| watched.joined(&sid));
                let Place { room, identity } = place;
                self.remove_strangers(&room, &[Participant { identity, sid }]).await
            }
            "participant_left" => {
                self.watch.report(&place, now, |watched| match disconnect_reason.as_str() {
                    "CLIENT_INITIATED" => watched.left(&sid),
                    reason if COMING_BACK.contains(&reason) => {}
                    _ => watched.lost(&sid, now),
                });
                Ok(())
            }
            // A session that never was connected: its client tries again, or is missing from the list.
            "participant_connection_aborted" => {
                self.watch.report(&place, now, |_| {});
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
