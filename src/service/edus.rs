//! What other servers send besides events: EDUs.
//!
//! Invariant: an EDU that is malformed, or that its origin has no right to send, is dropped; it fails no transaction.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#edus>

use ruma::{ServerName, serde::Raw};
use ruma_federation_api::transactions::edu::Edu;
use wick_core::{Error, Result};

use crate::Services;

impl Services {
    /// Takes in an EDU of `origin`.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn receive_edu(&self, origin: &ServerName, edu: &Raw<Edu>) -> Result<()> {
        let taken = match edu.deserialize() {
            Ok(edu) => self.take_edu(origin, edu).await,
            Err(error) => Err(Error::bad_json(error.to_string())),
        };
        match taken {
            Err(Error::Internal(report)) => Err(Error::Internal(report)),
            Err(error) => {
                tracing::debug!(%origin, %error, "an EDU is dropped");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    async fn take_edu(&self, origin: &ServerName, edu: Edu) -> Result<()> {
        match edu {
            Edu::Typing(_) => ignore(origin, "m.typing"),
            Edu::Receipt(_) => ignore(origin, "m.receipt"),
            Edu::Presence(_) => ignore(origin, "m.presence"),
            Edu::DirectToDevice(_) => ignore(origin, "m.direct_to_device"),
            Edu::DeviceListUpdate(_) => ignore(origin, "m.device_list_update"),
            Edu::SigningKeyUpdate(_) => ignore(origin, "m.signing_key_update"),
            _ => ignore(origin, "unknown"),
        }
        Ok(())
    }
}

fn ignore(origin: &ServerName, kind: &str) {
    tracing::debug!(%origin, kind, "an EDU of this type has no effect");
}
