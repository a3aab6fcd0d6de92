//! The sender of a request.
//!
//! Invariant: this is the one type for it. Another kind of sender is another variant, which every match has
//! to handle.

use std::sync::Arc;

use ruma::{OwnedServerName, api::error::ErrorKind};
use wick_core::{Error, Result};

use crate::Session;

/// The sender of a request.
#[derive(Clone, Debug)]
pub enum Requester {
    /// A request without an access token.
    Anonymous,
    /// A user, with a device that is logged in.
    User(Arc<Session>),
    /// Another server, which signed the request.
    Server(OwnedServerName),
}

impl Requester {
    /// The session of a user.
    #[must_use]
    pub fn session(&self) -> Option<&Session> {
        match self {
            Self::Anonymous | Self::Server(_) => None,
            Self::User(session) => Some(session),
        }
    }

    /// The session of a user, for what only users can do.
    ///
    /// # Errors
    /// `M_MISSING_TOKEN` for any other requester.
    pub fn into_user(self) -> Result<Arc<Session>> {
        match self {
            Self::Anonymous | Self::Server(_) => {
                Err(Error::refused(ErrorKind::MissingToken, "this needs an access token"))
            }
            Self::User(session) => Ok(session),
        }
    }
}
