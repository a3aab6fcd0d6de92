//! Types and pure functions of the homeserver: ids, event stages, errors, clock, randomness.
//!
//! Invariant: no runtime, no HTTP framework, no storage engine is named here.

pub mod clock;
pub mod error;
pub mod event;
pub mod ids;
pub mod random;

pub use self::{
    clock::{Clock, Monotonic, Timestamp},
    error::{Error, Refusal, RemoteFailure, Report, Result},
    event::{Draft, Pdu, StateKeyTuple},
    ids::{Position, ShortEventId, ShortRoomId, ShortStateKey, ShortUserId, StateRoot, TimerId},
    random::Random,
};
