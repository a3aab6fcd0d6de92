//! The load and scale benchmark: drives a running homeserver over HTTP/1.1 keep-alive and prints what it saw.
//!
//! It does not depend on the inside of the server, so that the same run can be pointed at any Matrix homeserver; only
//! the expiry scenarios need one that knows `m.will_expire`, and the delayed ones one that knows MSC4140's delays.

pub mod cli;
mod clock;
pub mod compare;
mod connection;
mod failure;
mod gateway;
pub mod histogram;
mod keys;
mod livekit;
mod matrix;
mod process;
pub mod report;
pub mod scenario;
mod server;
#[cfg(test)]
mod smoke;
#[cfg(test)]
mod spawned;
mod watcher;
mod workers;

pub use failure::{Failure, Result};
