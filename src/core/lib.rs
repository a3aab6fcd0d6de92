//! Types and pure functions of the homeserver: ids, event stages, errors, configuration, clock, randomness.
//!
//! Invariant: no runtime, no HTTP framework, no storage engine is named here.

mod back_off;
pub mod clock;
pub mod config;
pub mod error;
pub mod event;
pub mod ids;
pub mod json;
pub mod random;
pub mod rules;
pub mod signing;
mod sync_token;
pub mod words;

pub use self::{
    back_off::BackOff,
    clock::{Clock, Monotonic, Timestamp},
    config::Config,
    error::{Error, InternalError, Refusal, RemoteFailure, RemoteReason, Result},
    event::{Draft, Pdu, StateKeyTuple},
    ids::{Position, ShortEventId, ShortRoomId, ShortStateKey, ShortUserId, StateRoot, TimerId},
    random::Random,
    signing::SigningKeys,
    sync_token::SyncToken,
};
