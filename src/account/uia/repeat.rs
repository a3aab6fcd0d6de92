//! The answer to a request that was confirmed, done and is made again: its first answer may be lost.

use ruma::{OwnedDeviceId, OwnedUserId};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;
use wick_core::Result;
use wick_database::schema::confirmations::{Digest, UiaOutcome};

use super::Uia;
use crate::{proof::RequestSecret, sessions::Tokens, users::Registered};

/// A request that needs confirmation, as it is known again.
pub struct Request {
    pub(super) digest: Digest,
    session: Option<String>,
}

impl Request {
    /// The request with this body. `context` is all else that distinguishes it from another one: its method,
    /// path and access token.
    #[must_use]
    pub fn new(context: &[&str], body: &[u8]) -> Self {
        let mut hasher = Sha256::new();
        for part in context {
            hasher.update(part.len().to_le_bytes());
            hasher.update(part);
        }
        let mut session = None;
        match serde_json::from_slice::<Map<String, Value>>(body) {
            Ok(mut object) => {
                let auth = object.remove("auth");
                session = auth.and_then(|auth| Some(auth.get("session")?.as_str()?.to_owned()));
                hasher.update(Value::Object(object).to_string());
            }
            Err(_) => hasher.update(body),
        }
        Self { digest: hasher.finalize().into(), session }
    }
}

/// What a finished request made.
pub enum Finished {
    /// Nothing that its answer has to name.
    Done,
    /// An account, with the tokens of its first device.
    Registered(Registered),
}

impl Uia {
    /// What `request` made, if it was done already in the session that it shows.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn finished(&self, request: &Request) -> Result<Option<Finished>> {
        let Some(id) = &request.session else { return Ok(None) };
        let Some(row) = self.session(id)?.and_then(|row| row.finished) else { return Ok(None) };
        let secret = RequestSecret::new(id, &request.digest)?;
        if !bool::from(secret.digest().ct_eq(&row.request)) {
            return Ok(None);
        }
        Ok(Some(match row.outcome {
            UiaOutcome::Done => Finished::Done,
            UiaOutcome::Registered { user_id, device } => {
                Finished::Registered(self.registered(user_id, device, &secret)?)
            }
        }))
    }

    fn registered(
        &self,
        user_id: OwnedUserId,
        device: Option<(OwnedDeviceId, bool)>,
        secret: &RequestSecret,
    ) -> Result<Registered> {
        let device = match device {
            Some((device_id, has_refresh)) => {
                let lifetime =
                    has_refresh.then_some(self.resources.config.accounts.access_token_lifetime.0);
                Some((device_id, Tokens::derived(secret, lifetime)?))
            }
            None => None,
        };
        Ok(Registered { user_id, device })
    }
}
