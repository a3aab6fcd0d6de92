//! Test support: in-process server, mock clock, seeded randomness, rooms
//! of several servers in memory.
//!
//! Invariant: nothing here sleeps or asks the system for the time.

mod clock;
pub mod process;
mod random;
pub mod room_builder;
mod server;

pub use axum::body::Body;

pub use self::{
    clock::MockClock,
    process::Process,
    random::SeededRandom,
    server::{Answer, Options, TestServer, User},
};
