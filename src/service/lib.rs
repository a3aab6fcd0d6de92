//! The composition of one server: builds every use case in the order of their crates and starts their tasks.

mod avatars;
mod federation;
mod services;
mod timers;

pub use self::services::{Keys, Remotes, Services, database_options};
