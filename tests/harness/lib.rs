//! Test support: in-process server, mock clock, seeded randomness.
//!
//! Invariant: nothing here sleeps or asks the system for the time.

mod clock;
mod random;
mod server;

pub use self::{
    clock::MockClock,
    random::SeededRandom,
    server::{Answer, Options, TestServer, User},
};
