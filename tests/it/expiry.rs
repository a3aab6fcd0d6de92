//! Expiring events: each row of the contract's table, on the mock clock. Test names begin with the
//! number of the row.

#[expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "the helpers of tests, which clippy does not take for tests"
)]
pub(crate) mod call;
mod crashes;
mod ends;
mod refusals;
mod restarts;
mod tokens;
