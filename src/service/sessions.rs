//! Who a request comes from.

use std::sync::Arc;

use ruma::{
    OwnedDeviceId, OwnedUserId,
    api::error::{ErrorKind, UnknownTokenErrorData},
};
use wick_core::{Error, Result};

/// Somebody who is logged in, as one access token says.
#[derive(Debug)]
pub struct Session {
    /// The user.
    pub user_id: OwnedUserId,
    /// The device.
    pub device_id: OwnedDeviceId,
}

/// Checks tokens.
#[derive(Debug, Default)]
pub struct Sessions;

impl Sessions {
    /// The session that an access token stands for.
    ///
    /// # Errors
    /// `M_UNKNOWN_TOKEN`.
    pub async fn authenticate(&self, _access_token: &str) -> Result<Arc<Session>> {
        let data = UnknownTokenErrorData::new();
        Err(Error::refused(ErrorKind::UnknownToken(data), "unknown token"))
    }
}
