//! Delayed events: each row of the contract's table, on the mock clock, in every form that clients speak.
//! Test names begin with the number of the row.

mod crashes;
#[expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "the helpers of tests, which clippy does not take for tests"
)]
pub(crate) mod later;
mod limits;
mod managing;
mod owners;
mod races;
mod refusals;
mod scheduling;
mod sending;
mod states;
#[expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "the helpers of tests, which clippy does not take for tests"
)]
mod together;
