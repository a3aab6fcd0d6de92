//! What a change of an account is confirmed with, and what serves once.

use ruma::{OwnedDeviceId, OwnedUserId};
use serde::{Deserialize, Serialize};
use wick_core::Timestamp;

use crate::postcard_value;

/// The SHA-256 of something that is not stored.
pub type Digest = [u8; 32];

/// A session of user-interactive authentication.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UiaSession {
    /// The operation it was opened for and the user, as a digest.
    pub operation: Digest,
    /// From when on it is not known any more.
    pub expires: Timestamp,
    /// The request that it confirmed, once there was one.
    pub finished: Option<FinishedRequest>,
}

/// A request that was confirmed and done, so that the same request gets the same answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinishedRequest {
    /// The request, as a digest that only the request itself can be compared with.
    pub request: Digest,
    /// What it made.
    pub outcome: UiaOutcome,
}

/// What a confirmed request made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum UiaOutcome {
    /// Nothing that its answer has to name.
    Done,
    /// An account.
    Registered {
        /// Its user id.
        user_id: OwnedUserId,
        /// The device that was logged in, and whether it has a refresh token.
        device: Option<(OwnedDeviceId, bool)>,
    },
}

postcard_value!(UiaSession, version = 1);

tables! {
    /// Sessions of user-interactive authentication, by the SHA-256 of their id. Opened by the first
    /// request for something that needs confirmation, finished in the batch of what was confirmed, removed
    /// by the job `expired-confirmations`; may be lost before they are finished.
    UIA_SESSION_BY_HASH: Digest => UiaSession, Random;

    /// Nonces for registration with the shared secret, by their SHA-256, with when they expire. Removed in
    /// the batch of the account that they serve for, or by the job `expired-confirmations`.
    EXPIRY_BY_REGISTRATION_NONCE: Digest => Timestamp, Small;
}
