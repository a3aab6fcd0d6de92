//! Test support: in-process server, mock clock, seeded randomness, rooms
//! of several servers in memory.
//!
//! Invariant: nothing here sleeps or asks the system for the time.

mod clock;
mod hang_up;
mod network;
pub mod process;
mod random;
mod room;
pub mod room_builder;
mod server;
mod strike;

pub use axum::body::Body;

pub use self::{
    clock::MockClock,
    hang_up::hang_up_after,
    network::{Gate, TestNetwork},
    process::Process,
    random::SeededRandom,
    room::TestRoom,
    server::{Answer, Options, TestServer, User},
    strike::{FATES, Strike},
};
