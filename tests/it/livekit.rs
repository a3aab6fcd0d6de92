//! Calls by LiveKit: tokens and delegated leaves.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "the helpers of tests, which clippy does not take for tests"
)]

mod delegation;
mod hang_up;
mod identities;
mod outages;
mod resolved;
pub(crate) mod stage;
mod tokens;
